"""Tests of maps for ITK-SNAP and 3D Slicer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.files import sha256
from nnunet_cel.report.itksnap import (
    itksnap_labels,
    slicer_colors,
    write_agreement_maps,
)
from nnunet_cel.report.results import LabelMaps
from nnunet_cel.volumes import Volume, read_label_map, write_volume

AFFINE = np.array(
    [[0, 0, 2.0, -5], [-0.5, 0, 0, 7], [0, 1.5, 0, 9], [0, 0, 0, 1]], dtype=float
)


def make_maps(folder: Path, case: str, rng: np.random.Generator) -> LabelMaps:
    """Write random label maps of a case."""
    files = [folder / f"{name}_{case}.nii.gz" for name in "pr"]
    for file in files:
        voxels = rng.integers(0, 2, (5, 6, 7)).astype(np.uint8)
        write_volume(file, Volume(voxels, AFFINE))
    hashes = {"prediction": sha256(files[0]), "reference": sha256(files[1])}
    return LabelMaps(case, files[0], files[1], hashes)


def test_maps_lie_where_the_scans_lie(tmp_path: Path, rng: np.random.Generator) -> None:
    """Values are 1 in both, 2 in the prediction, 3 in the reference alone."""
    maps = [make_maps(tmp_path, case, rng) for case in ("a", "b c")]
    out = tmp_path / "out"
    out.mkdir()

    write_agreement_maps(out, maps, label=1, ignore=None)

    assert {path.name for path in out.iterdir()} == {
        "a.nii.gz",
        "b c.nii.gz",
        "labels.ctbl",
        "labels.txt",
    }
    for entry in maps:
        predicted, true = (read_label_map(file).voxels > 0 for file in entry.files)
        volume = read_label_map(out / f"{entry.case}.nii.gz")
        expected = np.select(
            [predicted & true, predicted & ~true, true & ~predicted], [1, 2, 3]
        )
        assert np.array_equal(volume.voxels, expected)
        assert np.allclose(volume.affine, AFFINE)


def test_all_changed_files_are_listed(tmp_path: Path, rng: np.random.Generator) -> None:
    """Label maps that are not those of the evaluation are refused together."""
    maps = [make_maps(tmp_path, case, rng) for case in ("a", "b")]
    for entry in maps:
        write_volume(entry.prediction, Volume(np.ones((5, 6, 7), np.uint8), AFFINE))

    with pytest.raises(ValueError, match=r"2 cases have problems[\s\S]*p_a[\s\S]*p_b"):
        write_agreement_maps(tmp_path, maps, label=1, ignore=None)


def test_both_programs_get_the_same_labels() -> None:
    """ITK-SNAP's eight columns and 3D Slicer's six agree in number, color and name."""
    line = re.compile(
        r'^ +(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+) +([01]) +([01]) +"(.*)"$', re.M
    )
    snap = [match.groups() for match in line.finditer(itksnap_labels())]
    slicer = [text.split(" ") for text in slicer_colors().splitlines()]

    assert [entry[0] for entry in snap] == ["0", "1", "2", "3"]
    assert [entry[7] for entry in snap[1:]] == [
        "True positive",
        "False positive",
        "False negative",
    ]
    for (number, *color, _, _, _, name), (index, label, *rgba) in zip(
        snap[1:], slicer[1:], strict=True
    ):
        assert (number, name.replace(" ", "_")) == (index, label)
        assert [*color, "255"] == rgba
