"""The record of a scan holds what the way back needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.files import to_json
from nnunet_cel.preparation.record import (
    GridRecord,
    ScanRecord,
    read_record,
)
from nnunet_cel.resampling import Grid


@pytest.fixture
def record(rng: np.random.Generator) -> ScanRecord:
    """A record with an affine of many digits."""
    affine = np.vstack([rng.normal(0, 50, (3, 4)), [0, 0, 0, 1]])
    return ScanRecord(
        case="case",
        source_sha256="0" * 64,
        original=GridRecord.of(Grid((20, 30, 40), affine)),
        crop={"first": [1, 2, 3], "stop": [19, 28, 37]},
        prepared=GridRecord.of(Grid((5, 6, 7), np.eye(4))),
        settings={"n4": True},
        versions={"numpy": "2"},
    )


def test_grid_survives_bit_for_bit(tmp_path: Path, record: ScanRecord) -> None:
    """Shape and affine are read as they were, to the last digit."""
    file = tmp_path / "case.json"
    file.write_text(to_json(record.model_dump()))

    read = read_record(file)

    assert read == record
    np.testing.assert_array_equal(read.original.grid.affine, record.original.affine)
    content = json.loads(file.read_text())
    assert content["prepared"]["shape"] == [5, 6, 7]


@pytest.mark.parametrize("grid", [None, [1, 2], [2, 3, 0], [99999, 99999, 99999]])
@pytest.mark.parametrize("affine", [[], np.zeros((4, 4)).tolist(), np.eye(4).tolist()])
def test_other_files_are_refused(tmp_path: Path, record, grid, affine) -> None:
    """A file of another kind, or with an impossible grid, is named."""
    file = tmp_path / "dataset.json"
    content = record.model_dump()
    content["original"] = {"shape": grid or [2, 3, 4], "affine": affine}
    if grid is None and affine == np.eye(4).tolist():
        content = {"labels": {"background": 0}}
    file.write_text(to_json(content))

    with pytest.raises(ValueError, match=r"dataset\.json must be a transform"):
        read_record(file)
