"""Tests of the agreement of prediction and reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.files import sha256
from nnunet_cel.report.agreement import FN, FP, TP, agreement, read_agreement
from nnunet_cel.report.results import LabelMaps
from nnunet_cel.volumes import Volume, write_volume


def test_every_pair_of_labels() -> None:
    """Hit, false, missed and nothing; other labels are background."""
    prediction = np.array([1, 1, 0, 0, 2, 1, 1])
    reference = np.array([1, 0, 1, 0, 1, 2, 3])

    values = agreement(prediction, reference, label=1)
    ignoring = agreement(prediction, reference, label=1, ignore=3)

    assert values.tolist() == [TP, FP, FN, 0, FN, FP, FP]
    assert ignoring.tolist() == [TP, FP, FN, 0, FN, FP, 0]


def test_counts_are_those_of_the_metrics(rng: np.random.Generator) -> None:
    """True and false voxels add up to both masks."""
    prediction, reference = rng.integers(0, 2, (2, 5, 6, 7))

    values = agreement(prediction, reference, label=1)

    assert ((values == TP) | (values == FP)).sum() == prediction.sum()
    assert ((values == TP) | (values == FN)).sum() == reference.sum()


def test_changed_files_are_refused(tmp_path: Path) -> None:
    """A label map that is not the one that was evaluated makes no picture."""
    voxels = np.ones((2, 2, 2), dtype=np.uint8)
    files = [tmp_path / "p.nii.gz", tmp_path / "r.nii.gz"]
    for file in files:
        write_volume(file, Volume(voxels, np.eye(4)))
    hashes = {"prediction": sha256(files[0]), "reference": sha256(files[1])}
    maps = LabelMaps("a", *files, hashes)

    assert (read_agreement(maps, label=1, ignore=None).voxels == TP).all()
    write_volume(files[1], Volume(voxels * 0, np.eye(4)))
    with pytest.raises(ValueError, match=r"reference .*r\.nii\.gz .* changed"):
        read_agreement(maps, label=1, ignore=None)
