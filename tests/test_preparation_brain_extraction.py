"""The methods of brain extraction: choice, checks, and the user's own masks."""

from __future__ import annotations

import argparse
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.preparation import brain_extraction as module
from nnunet_cel.preparation.brain_extraction import (
    BrainExtraction,
    add_brain_arguments,
    brain_extraction,
)
from nnunet_cel.volumes import Volume, write_volume

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.fixture
def image(rng: np.random.Generator) -> Volume:
    """A small image."""
    return Volume(rng.uniform(1, 9, (5, 6, 7)), AFFINE)


@pytest.fixture
def brain() -> np.ndarray:
    """A brain mask for it."""
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1:4, 2:5, 2:6] = True
    return mask


def parse(*arguments: str) -> argparse.Namespace:
    """Return what the parser makes of arguments."""
    parser = argparse.ArgumentParser()
    add_brain_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("option", "method"),
    [
        ("--bet", "bet"),
        ("--fsl-bet", "fsl-bet"),
        ("--hd-bet", "hd-bet"),
        ("--no-strip", "none"),
    ],
)
def test_options(option: str, method: str) -> None:
    """Each option chooses its method, two at a time are refused."""
    assert brain_extraction(parse(option)) == BrainExtraction(method)
    with pytest.raises(SystemExit):
        parse(option, "--brain-mask", "masks")


def test_default_is_for_the_caller_to_choose() -> None:
    """Without an option it is BET, or what the command prefers."""
    assert brain_extraction(parse()).method == "bet"
    assert brain_extraction(parse(), default="none").method == "none"
    assert brain_extraction(parse("--brain-mask", "m")).mask_folder == Path("m")


def test_it_travels_to_other_processes() -> None:
    """It can be pickled."""
    extraction = BrainExtraction("mask", Path("masks"))

    assert pickle.loads(pickle.dumps(extraction)) == extraction


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the command that installs it, and the other ways."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util,
        "find_spec",
        lambda name: None if name == "brainextractor" else find(name),
    )

    with pytest.raises(
        ImportError, match=r"pip install 'nnunet-cel\[bet\]'.*--fsl-bet"
    ):
        BrainExtraction("bet").check()


@pytest.mark.parametrize("method", ["fsl-bet", "hd-bet"])
def test_missing_program(monkeypatch: pytest.MonkeyPatch, method, tmp_path) -> None:
    """A program that is not on the PATH is an error before any work."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ValueError, match="must be installed"):
        BrainExtraction(method).check()


def test_wrong_settings(tmp_path: Path) -> None:
    """A method that does not exist, and a folder that does not."""
    with pytest.raises(ValueError, match="Got 'robex' instead"):
        BrainExtraction("robex").check()  # type: ignore[arg-type]
    for folder in (None, tmp_path / "missing"):
        with pytest.raises(ValueError, match="check --brain-mask"):
            BrainExtraction("mask", folder).check()
    BrainExtraction("mask", tmp_path).check()
    BrainExtraction("none").check()


@pytest.mark.parametrize(
    "file",
    [
        "p1.nii.gz",
        "p1_mask.nii.gz",
        "deep/er/p1_brain_mask.nii",
        "p1_bet_mask.nii.gz",
        "site/p1_0000.nii.gz",
        "p 1.nii.gz",
        "p/1_mask.nii.gz",
    ],
)
def test_own_mask_is_found(tmp_path: Path, image: Volume, brain, file: str) -> None:
    """It may go by any name of the case, with the usual suffixes, at any depth."""
    other = np.ones(brain.shape, dtype=bool)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    write_volume(tmp_path / file, Volume(brain, AFFINE))
    for name in ("p10.nii.gz", "p1_lesion.nii.gz", "._p1.nii.gz", "xp1_mask.nii.gz"):
        write_volume(tmp_path / name, Volume(other, AFFINE))

    found = BrainExtraction("mask", tmp_path).mask(["p1", "p 1", "p_1"], image)

    np.testing.assert_array_equal(found, brain)


def test_own_mask_must_be_one(tmp_path: Path, image: Volume, brain) -> None:
    """None and two are refused, with all names."""
    extraction = BrainExtraction("mask", tmp_path)
    with pytest.raises(ValueError, match=r"for p1 in .* named p1 or q1.*Got none"):
        extraction.mask(["p1", "q1"], image)
    for name in ("p1.nii.gz", "q1_mask.nii.gz"):
        write_volume(tmp_path / name, Volume(brain, AFFINE))
    with pytest.raises(ValueError, match=r"p1\.nii\.gz, .*q1_mask\.nii\.gz"):
        extraction.mask(["p1", "q1"], image)


def test_own_mask_must_fit(tmp_path: Path, image: Volume, brain) -> None:
    """It lies on the grid of the image, and is not empty."""
    extraction = BrainExtraction("mask", tmp_path)
    write_volume(tmp_path / "p1.nii.gz", Volume(brain, np.eye(4)))
    with pytest.raises(ValueError, match=r"p1\.nii\.gz must have the affine"):
        extraction.mask(["p1"], image)
    write_volume(tmp_path / "p1.nii.gz", Volume(brain & False, AFFINE))
    with pytest.raises(ValueError, match="brain mask of p1 must hold at least one"):
        extraction.mask(["p1"], image)


def test_without_extraction_all_but_zero_is_kept(brain: np.ndarray) -> None:
    """What the brain encloses belongs to it, what surrounds it does not."""
    voxels = np.where(brain, 5.0, 0.0)
    voxels[2, 3, 3] = 0
    voxels[0, 0, 0] = np.nan

    mask = BrainExtraction("none").mask(["p1"], Volume(voxels, AFFINE))

    np.testing.assert_array_equal(mask, brain)
