"""Tests of synthetic subjects with their heads."""

from __future__ import annotations

import contextlib
import io
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunet_cel.phantom.head import SourceSubject, make_source_subject
from nnunet_cel.phantom.subject import Kind, make_subject
from nnunet_cel.volumes import same_grid

pytest.importorskip("nilearn", reason="the extra `demo`")

KINDS: tuple[Kind, ...] = ("wmh", "cel")


@cache
def subject(kind: Kind, index: int, spacing: float = 4.0) -> SourceSubject:
    """Return a subject of seed 0, made once."""
    return make_source_subject(kind, 0, index, spacing=spacing)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the overlap of two masks."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_same_voxels_on_one_grid(kind: Kind) -> None:
    """A subject depends on kind, seed and index alone."""
    first = subject(kind, 1)
    again = make_source_subject(kind, 0, 1, spacing=4.0)
    other = make_source_subject(kind, 1, 1, spacing=4.0)

    for name in ("raw", "brain_image", "t1", "label", "second_lesions"):
        volume = getattr(first, name)
        assert same_grid(volume, first.raw)
        assert volume.voxels.tobytes() == getattr(again, name).voxels.tobytes()
        assert volume.voxels.tobytes() != getattr(other, name).voxels.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_brain_is_that_of_the_phantom(kind: Kind) -> None:
    """Skull and scalp are added around the brain, whose voxels and place stay."""
    chosen = subject(kind, 0)
    alone = make_subject(kind, 0, 0, spacing=4.0)

    inside = chosen.brain_image.voxels > 0
    assert (chosen.raw.voxels[inside] == chosen.brain_image.voxels[inside]).all()
    assert (chosen.raw.voxels[inside] == alone.image[alone.image > 0]).all()
    assert (chosen.label.voxels[inside] == alone.label[alone.image > 0]).all()
    first = nib.affines.apply_affine(chosen.raw.affine, np.argwhere(inside)[0])
    expected = nib.affines.apply_affine(alone.affine, np.argwhere(alone.image > 0)[0])
    np.testing.assert_allclose(first, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", range(4))
def test_scalp_is_inside_the_image(kind: Kind, index: int) -> None:
    """All faces but the lowest are air, which is zero almost everywhere."""
    chosen = subject(kind, index)
    image = chosen.raw.voxels

    tissue = image > 0.3 * image[chosen.brain_image.voxels > 0].mean()
    for face in (tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1], tissue[..., -1]):
        assert not face.any()
    assert tissue[..., 0].any()
    air = np.stack([image[0], image[-1]])
    assert 0 < (air > 0).mean() < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_dark_bone_lies_between_brain_and_bright_scalp(kind: Kind) -> None:
    """Going out from the brain there is bone, then fat brighter than bone."""
    chosen = subject(kind, 2, 2.0)
    distance = ndimage.distance_transform_edt(
        chosen.brain_image.voxels == 0, sampling=2.0
    )
    upper = np.zeros(distance.shape, dtype=bool)
    upper[..., distance.shape[2] // 2 :] = True  # above the neck

    for volume in (chosen.raw, chosen.t1):
        scale = np.median(volume.voxels[chosen.brain_image.voxels > 0])
        profile = [
            volume.voxels[upper & (distance > low) & (distance <= low + 2)].mean()
            for low in range(0, 20, 2)
        ]
        bone = int(np.argmin(profile[:6]))
        assert profile[bone] < 0.4 * scale
        assert max(profile[bone:]) > 2 * profile[bone]


@pytest.mark.parametrize(
    ("kind", "bright", "low", "high"), [("cel", 1.2, 0.6, 1.1), ("wmh", 1.1, 0, 0.9)]
)
def test_lesions_are_bright_in_the_image_and_not_in_t1(
    kind: Kind, bright: float, low: float, high: float
) -> None:
    """Enhancing ones are inconspicuous in T1w, hyperintensities of FLAIR are dark."""
    chosen = subject(kind, 3, 2.0)
    lesions, brain = chosen.label.voxels == 1, chosen.brain_image.voxels > 0

    image, t1 = (
        np.median(volume.voxels[lesions]) / np.percentile(volume.voxels[brain], 80)
        for volume in (chosen.raw, chosen.t1)
    )
    assert image > bright
    assert low < t1 < high


@pytest.mark.parametrize("kind", KINDS)
def test_raters_agree_on_most(kind: Kind) -> None:
    """The second rater outlines the same lesions, but not exactly."""
    for index in range(2):
        chosen = subject(kind, index, 2.0)
        first, second = chosen.label.voxels == 1, chosen.second_lesions.voxels == 1
        assert 0.7 < dice(first, second) < 1


def test_one_in_four_has_other_pathology() -> None:
    """Label 2 is off the lesions, bright in FLAIR, and of no other kind of image."""
    found = [2 in subject("wmh", index).label.voxels for index in range(6)]
    assert found == [False, True, False, False, False, True]
    assert all(2 not in subject("cel", index).label.voxels for index in range(6))

    chosen = subject("wmh", 1, 2.0)
    other = chosen.label.voxels == 2
    far = ndimage.distance_transform_edt(chosen.label.voxels != 1, sampling=2.0)
    assert ndimage.label(other, np.ones((3, 3, 3)))[1] == 1
    assert far[other].min() > 5
    brain = chosen.brain_image.voxels > 0
    assert chosen.raw.voxels[other].mean() > 1.1 * chosen.raw.voxels[brain].mean()
    assert not chosen.second_lesions.voxels[other].any()


@pytest.mark.parametrize("kind", KINDS)
def test_subject_without_lesions_has_empty_label_maps(kind: Kind) -> None:
    """Neither rater finds anything where there is nothing."""
    chosen = make_source_subject(kind, 0, 0, spacing=4.0, lesions=False)

    assert not chosen.label.voxels.any()
    assert not chosen.second_lesions.voxels.any()


@pytest.mark.slow
def test_brain_can_be_extracted() -> None:
    """The Brain Extraction Tool finds the brain in the head."""
    brainextractor = pytest.importorskip("brainextractor", reason="the extra `bet`")
    chosen = subject("wmh", 1, 1.0)
    image = nib.Nifti1Image(chosen.t1.voxels.astype(np.float32), chosen.t1.affine)

    with contextlib.redirect_stdout(io.StringIO()):
        tool = brainextractor.BrainExtractor(img=image)
        tool.run(iterations=500)
    found = np.zeros(image.shape, dtype=bool)
    voxels = np.round(tool.surface.voxelized(1).fill().points).astype(int)
    found[tuple(voxels[(voxels < image.shape).all(axis=1)].T)] = True

    assert dice(found, chosen.brain_image.voxels > 0) >= 0.93
