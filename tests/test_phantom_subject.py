"""Tests of synthetic subjects, most at 2 mm."""

from __future__ import annotations

import contextlib
import io
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunet_cel.phantom.subject import Kind, Subject, make_subject
from nnunet_cel.volumes import Volume, same_grid

pytest.importorskip("nilearn", reason="the extra `demo`")

KINDS: tuple[Kind, ...] = ("wmh", "cel")
VOLUMES = ("raw", "brain_image", "t1", "label", "second_lesions")


@cache
def subject(kind: Kind, index: int) -> Subject:
    """Return a subject of seed 0, made once."""
    return make_subject(kind, 0, index, spacing=2.0)


def brain_of(subject: Subject) -> np.ndarray:
    """Return where the brain is."""
    return subject.brain_image.voxels > 0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the overlap of two masks."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def places(volume: Volume) -> set[tuple[float, ...]]:
    """Return where the voxels of lesions are in mm."""
    found = nib.affines.apply_affine(volume.affine, np.argwhere(volume.voxels == 1))
    return set(map(tuple, found.round(3)))


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_same_voxels_on_one_grid(kind: Kind) -> None:
    """A subject depends on kind, seed, index and spacing alone."""
    first = subject(kind, 1)
    again, other = (make_subject(kind, seed, 1, spacing=2.0) for seed in (0, 1))

    for name in VOLUMES:
        volume = getattr(first, name)
        assert same_grid(volume, first.raw)
        assert volume.spacing == (2, 2, 2)
        assert volume.voxels.tobytes() == getattr(again, name).voxels.tobytes()
        assert volume.voxels.tobytes() != getattr(other, name).voxels.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_skull_is_removed_and_air_is_zero(kind: Kind) -> None:
    """The image of the brain is that of the head, which ends in air and neck."""
    chosen = subject(kind, 1)
    image, brain = chosen.raw.voxels, brain_of(chosen)

    assert (chosen.brain_image.voxels[brain] == image[brain]).all()
    assert not chosen.brain_image.voxels[~brain].any()
    assert 1.1e6 < brain.sum() * 8 < 1.95e6  # mm3
    assert chosen.raw.voxels.dtype in (np.int16, np.float32)
    assert 50 < np.median(image[brain]) < 3000
    tissue = image > 0.3 * image[brain].mean()
    for face in (tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1], tissue[..., -1]):
        assert not face.any()
    assert tissue[..., 0].any()
    assert 0 < (np.stack([image[0], image[-1]]) > 0).mean() < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_dark_bone_lies_between_brain_and_bright_scalp(kind: Kind) -> None:
    """Going out from the brain there is bone, then fat brighter than bone."""
    chosen = subject(kind, 1)
    brain = brain_of(chosen)
    distance = ndimage.distance_transform_edt(~brain, sampling=2.0)
    distance[..., : brain.shape[2] // 2] = 0  # the neck

    for volume in (chosen.raw, chosen.t1):
        profile = [
            volume.voxels[(distance > low) & (distance <= low + 2)].mean()
            for low in range(0, 20, 2)
        ]
        bone = int(np.argmin(profile[:6]))
        assert profile[bone] < 0.4 * np.median(volume.voxels[brain])
        assert max(profile[bone:]) > 2 * profile[bone]


@pytest.mark.parametrize(
    ("kind", "bright", "low", "high"), [("cel", 1.2, 0.6, 1.1), ("wmh", 1.1, 0, 0.95)]
)
def test_lesions_are_bright_in_the_image_and_not_in_t1(
    kind: Kind, bright: float, low: float, high: float
) -> None:
    """Enhancing ones are inconspicuous in T1w, hyperintensities of FLAIR are dark."""
    chosen = subject(kind, 2)
    lesions, brain = chosen.label.voxels == 1, brain_of(chosen)

    image, t1 = (
        np.median(volume.voxels[lesions]) / np.percentile(volume.voxels[brain], 80)
        for volume in (chosen.raw, chosen.t1)
    )
    assert brain[lesions].all()
    assert image > bright
    assert low < t1 < high


def test_vessels_look_like_lesions_and_are_not_labeled() -> None:
    """More voxels are as bright as lesions outside of them than inside."""
    chosen = subject("cel", 2)
    lesions, image = chosen.label.voxels == 1, chosen.brain_image.voxels

    bright = image > np.median(image[lesions])
    assert (bright & ~lesions).sum() > 2 * (bright & lesions).sum()
    # without contrast agent they are not there
    t1 = chosen.t1.voxels
    vessels = bright & ~ndimage.binary_dilation(lesions, iterations=2)
    assert np.median(t1[vessels]) < np.percentile(t1[brain_of(chosen)], 80)


@pytest.mark.parametrize("kind", KINDS)
def test_raters_agree_on_most(kind: Kind) -> None:
    """The second rater outlines the same lesions, but not exactly."""
    chosen = subject(kind, 2)

    assert 0.7 < dice(chosen.label.voxels == 1, chosen.second_lesions.voxels == 1) < 1
    assert (chosen.lesions.voxels == (chosen.label.voxels == 1)).all()


def test_one_in_four_has_other_pathology() -> None:
    """Number 1 first: label 2 is off the lesions and bright in FLAIR."""
    assert 2 not in subject("wmh", 2).label.voxels
    assert 2 not in subject("cel", 1).label.voxels

    chosen = subject("wmh", 1)
    other, brain = chosen.label.voxels == 2, brain_of(chosen)
    far = ndimage.distance_transform_edt(chosen.label.voxels != 1, sampling=2.0)
    assert ndimage.label(other, np.ones((3, 3, 3)))[1] == 1
    assert far[other].min() > 2
    assert chosen.raw.voxels[other].mean() > 1.1 * chosen.raw.voxels[brain].mean()
    assert not chosen.second_lesions.voxels[other].any()
    assert not chosen.lesions.voxels[other].any()


@pytest.mark.parametrize("kind", KINDS)
def test_brain_alone_has_the_same_lesions(kind: Kind) -> None:
    """Without room for the head the grid is smaller, and lesions stay in place."""
    whole = subject(kind, 2)
    alone = make_subject(kind, 0, 2, spacing=2.0, head=False)

    assert alone.raw.voxels.size < 0.75 * whole.raw.voxels.size
    assert brain_of(alone).sum() == brain_of(whole).sum()
    assert places(alone.label) == places(whole.label)


def test_subject_without_lesions_has_empty_label_maps() -> None:
    """Neither rater finds anything where vessels alone are bright."""
    chosen = make_subject("cel", 0, 0, spacing=4.0, lesions=False)

    assert not chosen.label.voxels.any()
    assert not chosen.second_lesions.voxels.any()
    image = chosen.brain_image.voxels
    assert image.max() > 1.3 * np.percentile(image[image > 0], 80)


@pytest.mark.campaign
def test_brain_can_be_extracted() -> None:
    """The Brain Extraction Tool finds the brain in the head."""
    brainextractor = pytest.importorskip("brainextractor", reason="the extra `bet`")
    chosen = make_subject("wmh", 0, 1)
    image = nib.Nifti1Image(chosen.t1.voxels.astype(np.float32), chosen.t1.affine)

    with contextlib.redirect_stdout(io.StringIO()):
        tool = brainextractor.BrainExtractor(img=image)
        tool.run(iterations=500)
    found = np.zeros(image.shape, dtype=bool)
    voxels = np.round(tool.surface.voxelized(1).fill().points).astype(int)
    found[tuple(voxels[(voxels < image.shape).all(axis=1)].T)] = True

    assert dice(found, brain_of(chosen)) >= 0.93
