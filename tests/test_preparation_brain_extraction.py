"""The brain is where it is, whatever the grid; the user's own masks are found."""

from __future__ import annotations

import argparse
import importlib.util
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nnunet_cel.preparation.brain_extraction import (
    BrainExtraction,
    add_brain_arguments,
    bet_mask,
    brain_extraction,
)
from nnunet_cel.volumes import Volume, write_volume

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
HALF_AXES = (63, 78, 60)  # of the brain in mm
CENTER = (4.0, -18.0, 21.0)  # mm, so that the grids begin anywhere

BRAIN = np.zeros((5, 6, 7), dtype=bool)
BRAIN[1:4, 2:5, 2:6] = True
IMAGE = Volume(np.where(BRAIN, 5.0, 0), AFFINE)


def parse(*arguments: str) -> argparse.Namespace:
    """Return what the parser makes of arguments."""
    parser = argparse.ArgumentParser()
    add_brain_arguments(parser)
    return parser.parse_args(arguments)


def test_options(tmp_path: Path) -> None:
    """Each chooses its method, two are refused; without one it is BET."""
    assert brain_extraction(parse("--no-strip")) == BrainExtraction("none")
    own = brain_extraction(parse("--brain-mask", str(tmp_path)))
    assert own == BrainExtraction("mask", tmp_path)
    with pytest.raises(SystemExit):
        parse("--bet", "--brain-mask", "masks")


def test_what_cannot_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing package and missing masks are refused at once, with a cure."""
    for folder in (None, tmp_path / "missing"):
        with pytest.raises(ValueError, match="check --brain-mask"):
            BrainExtraction("mask", folder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for options in ((), ("--bet",)):
        with pytest.raises(
            ImportError, match=r"pip install 'nnunet-cel\[bet\]'.*--brain-mask DIR"
        ):
            brain_extraction(parse(*options))


@pytest.mark.parametrize(
    "file",
    ["p1_brain_mask.nii", "a/b/p1_bet_mask.nii.gz", "p 1_0000.nii", "p/1_mask.nii.gz"],
)
def test_own_mask_is_found(tmp_path: Path, file: str) -> None:
    """It may go by any name of the case, with the usual suffixes, at any depth."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    write_volume(tmp_path / file, Volume(BRAIN, AFFINE))
    for name in ("p10.nii.gz", "p1_lesion.nii.gz", "._p1.nii.gz", "xp1_mask.nii.gz"):
        write_volume(tmp_path / name, Volume(~BRAIN, AFFINE))

    found = BrainExtraction("mask", tmp_path).mask(["p1", "p 1", "p_1"], IMAGE)

    np.testing.assert_array_equal(found, BRAIN)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, r"for p1 in .* named p1 or q1.*Got none"),
        ({"p1": Volume(BRAIN, np.eye(4))}, r"p1\.nii\.gz must have the affine"),
        ({"p1": Volume(BRAIN & False, AFFINE)}, "mask of p1 must hold at least one"),
        (dict.fromkeys(["p1", "q1_mask"], IMAGE), r"p1\.nii\.gz, .*q1_mask\.nii\.gz"),
    ],
)
def test_own_mask_must_be_one_that_fits(tmp_path: Path, masks, message) -> None:
    """None and two are refused, another grid, and a mask without a voxel."""
    for name, volume in masks.items():
        write_volume(tmp_path / f"{name}.nii.gz", volume)

    with pytest.raises(ValueError, match=message):
        BrainExtraction("mask", tmp_path).mask(["p1", "q1"], IMAGE)


def test_without_extraction_all_but_zero_is_kept() -> None:
    """What the brain encloses belongs to it, what surrounds it does not."""
    voxels = IMAGE.voxels.copy()
    voxels[2, 3, 3] = 0
    voxels[0, 0, 0] = np.nan

    mask = BrainExtraction("none").mask(["p1"], Volume(voxels, AFFINE))

    np.testing.assert_array_equal(mask, BRAIN)


TILT = Rotation.from_euler("x", 15, degrees=True).as_matrix()


def make_head() -> tuple[Volume, np.ndarray]:
    """Return a head and its brain: ellipsoids of brain, dark skull and bright scalp."""
    shape, affine = (200, 160, 38), np.eye(4)
    # tilted, flipped, permuted, and slices that cut the brain
    affine[:3, :3] = TILT[:, [1, 0, 2]] * [-1, 1, -3]
    affine[:3, 3] = CENTER - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    indices = np.moveaxis(np.indices(shape), 0, -1)
    position = indices @ affine[:3, :3].T + affine[:3, 3] - CENTER
    image = np.random.default_rng(7).normal(0, 8, shape)

    def ellipsoid(more: float) -> np.ndarray:
        return ((position / (np.array(HALF_AXES) + more)) ** 2).sum(axis=-1) < 1

    for more, intensity in ((13, 900), (7, 60), (2, 150), (0, 700), (-15, 850)):
        inside = ellipsoid(more)
        image[inside] = intensity + image[inside] % 16
    return Volume(abs(image).astype(np.float32), affine), ellipsoid(0)


@pytest.mark.skipif(
    importlib.util.find_spec("brainextractor") is None, reason="the extra `bet`"
)
def test_bet_finds_the_brain(capfd, monkeypatch) -> None:
    """The mask of a head overlaps the brain, is not shifted, and is silent."""
    from brainextractor import BrainExtractor

    # 1000 are what BET does; the surface of this simple head is found much sooner.
    run = partialmethod(BrainExtractor.run, iterations=200)
    monkeypatch.setattr(BrainExtractor, "run", run)
    image, brain = make_head()

    mask = bet_mask(image)

    dice = 2 * (mask & brain).sum() / (mask.sum() + brain.sum())
    to_mm = image.affine[:3, :3].T
    centers = [np.argwhere(m).mean(axis=0) @ to_mm for m in (mask, brain)]
    assert dice >= 0.97
    assert abs(centers[0] - centers[1]).max() < 0.5
    assert capfd.readouterr().out == ""
    flat = Volume(np.full((30, 30, 30), 100, np.int16), np.eye(4))
    with pytest.raises(ValueError, match="brain mask of p1 must hold at least one"):
        BrainExtraction("bet").mask(["p1"], flat)
