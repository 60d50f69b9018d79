"""The record of a case holds what the way back needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.files import to_json
from nnunet_cel.preparation.transform import read_grids, transform_record
from nnunet_cel.resampling import Grid


def test_grid_survives_bit_for_bit(tmp_path: Path, rng: np.random.Generator) -> None:
    """Shape and affine are read as they were, to the last digit."""
    original = Grid((20, 30, 40), np.vstack([rng.normal(0, 50, (3, 4)), [0, 0, 0, 1]]))
    file = tmp_path / "case.json"

    record = transform_record(
        case="case",
        source_sha256="0" * 64,
        original=original,
        box=(slice(1, 19), slice(2, 28), slice(3, 37)),
        prepared=Grid((5, 6, 7), np.eye(4)),
        settings={"n4": True},
        versions={"numpy": "2"},
    )
    file.write_text(to_json(record))

    read, prepared = read_grids(file)
    assert read.shape == original.shape
    np.testing.assert_array_equal(read.affine, original.affine)
    assert prepared.shape == (5, 6, 7)
    content = json.loads(file.read_text())
    assert content["crop"] == {"first": [1, 2, 3], "stop": [19, 28, 37]}
    assert content["prepared"]["shape"] == [5, 6, 7]


@pytest.mark.parametrize(
    "text",
    ["not JSON", "[]", "{}", '{"original": {"shape": [1, 2], "affine": []}}'],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """A file of another kind is named, with what to do."""
    file = tmp_path / "dataset.json"
    file.write_text(text)

    with pytest.raises(ValueError, match=r"dataset\.json must be a transform"):
        read_grids(file)
