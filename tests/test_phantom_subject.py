"""Tests of synthetic subjects."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nnunet_cel.phantom.subject import Modality, Subject, draw_subject, make_subject

pytest.importorskip("nilearn", reason="the extra `demo`")

MODALITIES: tuple[Modality, ...] = ("flair", "cet1w")


@cache
def subject(modality: Modality, index: int, spacing: float = 4.0) -> Subject:
    """Return a subject of seed 0, made once."""
    return make_subject(modality, 0, index, spacing=spacing)


@pytest.mark.parametrize("modality", MODALITIES)
def test_same_seed_gives_same_voxels(modality: Modality) -> None:
    """A subject depends on seed and index alone."""
    first = subject(modality, 1)
    again = make_subject(modality, 0, 1, spacing=4.0)

    assert again.image.tobytes() == first.image.tobytes()
    assert again.label.tobytes() == first.label.tobytes()


@pytest.mark.parametrize("modality", MODALITIES)
def test_other_seed_or_index_gives_another_subject(modality: Modality) -> None:
    """No two subjects are alike."""
    first = subject(modality, 1)

    for seed, index in ((0, 2), (1, 1)):
        other = make_subject(modality, seed, index, spacing=4.0)
        assert (other.label != first.label).any()
        assert other.record.unit != first.record.unit
        brains = (other.image > 0) & (first.image > 0)
        ratio = other.image[brains] / other.record.unit
        assert np.abs(ratio - first.image[brains] / first.record.unit).mean() > 0.05


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("index", range(4))
def test_background_is_zero_and_brain_is_whole(modality: Modality, index: int) -> None:
    """Air is exactly zero, all faces of the volume but the lowest are air."""
    image = subject(modality, index).image

    assert image.dtype in (np.int16, np.float32)
    assert image.min() == 0
    assert 1.1e6 < (image > 0).sum() * 64 < 1.95e6  # mm3
    for face in (image[0], image[-1], image[:, 0], image[:, -1], image[..., -1]):
        assert (face == 0).all()


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("index", range(4))
def test_lesions_lie_inside_the_brain(modality: Modality, index: int) -> None:
    """The label map is binary and holds nothing but brain."""
    chosen = subject(modality, index)

    assert chosen.label.dtype == np.uint8
    assert set(np.unique(chosen.label)) == {0, 1}
    assert (chosen.image[chosen.label > 0] > 0).all()


@pytest.mark.parametrize("index", range(4))
def test_vessels_look_like_lesions_and_are_not_labeled(index: int) -> None:
    """Vessels are as bright as lesions, and the label map holds none of them."""
    chosen = subject("cet1w", index, 2.0)
    bright = chosen.image / chosen.record.unit

    assert chosen.vessels.sum() > 300
    assert not (chosen.vessels & (chosen.label > 0)).any()
    assert np.median(bright[chosen.vessels]) > 1.2
    lesion = np.percentile(bright[chosen.label > 0], 75)
    assert np.percentile(bright[chosen.vessels], 75) > 0.8 * lesion


def test_ring_is_labeled_with_its_center() -> None:
    """The label of a ring-enhancing lesion is filled although its center is dark."""
    records = (draw_subject("cet1w", 0, index) for index in range(60))
    index, ring = next(
        (number, lesion)
        for number, record in enumerate(records)
        for lesion in record.lesions
        if lesion.core is not None and lesion.radius > 4.5
    )
    chosen = subject("cet1w", index, 1.0)
    center = chosen.record.deformation.to_subject(ring.center[None])[0]
    i, j, k = np.rint(center - chosen.affine[:3, 3]).astype(int)

    box = slice(i - 1, i + 2), slice(j - 1, j + 2), slice(k - 1, k + 2)
    assert chosen.label[box].all()
    assert np.median(chosen.image[box]) / chosen.record.unit < 1.2


@pytest.mark.parametrize("modality", MODALITIES)
def test_subject_without_lesions_has_an_empty_label(modality: Modality) -> None:
    """Confounders alone are no lesions."""
    chosen = make_subject(modality, 0, 1, spacing=4.0, lesions=False)

    assert chosen.label.sum() == 0
    assert chosen.vessels.any() == (modality == "cet1w")


def test_units_and_number_formats_differ() -> None:
    """Scanners differ in the unit of intensity and in how they store it."""
    records = [draw_subject("flair", 0, index) for index in range(12)]

    units = [record.unit for record in records]
    assert 100 <= min(units) < max(units) <= 2000
    assert max(units) > 3 * min(units)
    assert {record.integer for record in records} == {True, False}


@pytest.mark.parametrize(
    ("modality", "seed", "index", "message"),
    [
        ("t2w", 0, 0, "one of flair, cet1w. Got 't2w'"),
        ("flair", -1, 0, "seed .* Got -1"),
        ("flair", 0, -2, "index .* Got -2"),
    ],
)
def test_wrong_arguments_are_refused(
    modality: Modality, seed: int, index: int, message: str
) -> None:
    """The error names the rule and what it got."""
    with pytest.raises(ValueError, match=message):
        make_subject(modality, seed, index)
