"""Tests of the command export, as users run it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from source_layouts import write_tree

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

needs_highdicom = pytest.mark.skipif(
    importlib.util.find_spec("highdicom") is None,
    reason="the extra 'dicom' is not installed",
)


def run(*arguments: object) -> int:
    """Run the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An evaluation of one case with an ignore label."""
    reference = np.zeros((10, 10, 10), dtype=np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    prediction = np.roll(reference, 1, axis=0)
    reference[5, 2, 2] = 2
    for folder, voxels in (("p", prediction), ("r", reference)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "a.nii.gz"
        write_volume(path, Volume(voxels, np.eye(4)))
    folders = (tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert run("evaluate", *folders, "--ignore-label", 2, "-np", 1) == 0
    return tmp_path / "out"


def test_maps_of_an_evaluation(out: Path, tmp_path: Path) -> None:
    """Voxels are colored as they were counted, ignored ones not at all."""
    maps = tmp_path / "my maps"

    assert run("export", "itksnap", out, "-o", maps, "-np", 1, "--no-progress") == 0

    voxels = read_label_map(maps / "a.nii.gz").voxels
    assert np.bincount(voxels.ravel())[1:].tolist() == [18, 8, 9]
    assert voxels[5, 2, 2] == 0


def test_maps_are_replaced_on_demand_only(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier maps stay unless --overwrite is given; the label maps always stay."""
    maps = tmp_path / "maps"
    command = ("export", "itksnap", out, "-np", 1, "-o")
    assert run(*command, maps) == 0

    assert run(*command, maps) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, maps, "--overwrite") == 0
    assert run(*command, tmp_path / "p", "--overwrite") == 1
    assert (tmp_path / "p" / "a.nii.gz").is_file()


def test_maps_that_were_moved(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options that say where label maps are now are named, and work."""
    (tmp_path / "p").rename(tmp_path / "q")
    command = ("export", "itksnap", out, "-np", 1, "-o", tmp_path / "maps")

    assert run(*command) == 1
    assert "--predictions" in capsys.readouterr().err
    assert run(*command, "--predictions", tmp_path / "q") == 0


@needs_highdicom
def test_segmentation_of_a_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is written once, beside the series and not into it."""
    write_tree(tmp_path / "tree", "cel-dicom", 1)
    series = next(
        path.parent
        for path in (tmp_path / "tree").rglob("IM0001.dcm")
        if "__MACOSX" not in path.parts
    )
    scan = read_volume(series)
    voxels = np.ones(scan.voxels.shape, dtype=np.uint8)
    write_volume(tmp_path / "p.nii.gz", Volume(voxels, scan.affine))
    command = ("export", "dicom-seg", tmp_path / "p.nii.gz", "--dicom", series, "-o")
    target = tmp_path / "segmentations" / "lesions.dcm"

    assert run(*command, target) == 0
    assert target.read_bytes()[128:132] == b"DICM"
    assert list(target.parent.iterdir()) == [target]
    assert run(*command, target) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, target, "--overwrite") == 0
    before = (tmp_path / "p.nii.gz").read_bytes()
    assert run(*command, tmp_path / "p.nii.gz", "--overwrite") == 1
    assert (tmp_path / "p.nii.gz").read_bytes() == before
    assert run(*command, series / "lesions.dcm") == 1
    assert "in another folder than the series" in capsys.readouterr().err
    assert run(*command, target, "--overwrite", "--dicom", tmp_path / "none") == 1
