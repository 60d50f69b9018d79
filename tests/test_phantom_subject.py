"""Tests of synthetic subjects."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import Grid
from nnunet_cel.phantom.subject import (
    Kind,
    Subject,
    draw_subject,
    make_subject,
    warp_tissue,
)
from nnunet_cel.phantom.vessels import paint_vessels

pytest.importorskip("nilearn", reason="the extra `demo`")

KINDS: tuple[Kind, ...] = ("wmh", "cel")
GRID = Grid.of_spacing(4.0)


@cache
def subject(kind: Kind, index: int, spacing: float = 4.0) -> Subject:
    """Return a subject of seed 0, made once."""
    return make_subject(kind, 0, index, spacing=spacing)


@pytest.mark.parametrize("index", range(4))
def test_tissue_sums_to_one_inside_and_zero_outside(index: int) -> None:
    """Every voxel of the brain is made of the three tissues, air of none."""
    tissue = warp_tissue(draw_subject("wmh", 0, index), GRID)
    whole = tissue.gray + tissue.white + tissue.fluid

    np.testing.assert_allclose(whole[tissue.brain], 1.0, atol=1e-3)
    assert (whole[~tissue.brain] == 0).all()


def test_more_fluid_weight_means_more_fluid() -> None:
    """Atrophy widens the sulci."""
    record = draw_subject("wmh", 0, 0)
    little, much = (
        warp_tissue(replace(record, fluid_weight=weight), GRID).fluid.sum()
        for weight in (1.0, 2.0)
    )

    assert much > 1.1 * little


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_same_voxels(kind: Kind) -> None:
    """A subject depends on seed and index alone."""
    first = subject(kind, 1)
    again = make_subject(kind, 0, 1, spacing=4.0)

    assert again.image.tobytes() == first.image.tobytes()
    assert again.label.tobytes() == first.label.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_other_seed_or_index_gives_another_subject(kind: Kind) -> None:
    """No two subjects are alike."""
    first = subject(kind, 1)

    for seed, index in ((0, 2), (1, 1)):
        other = make_subject(kind, seed, index, spacing=4.0)
        assert (other.label != first.label).any()
        assert other.record.unit != first.record.unit
        brains = (other.image > 0) & (first.image > 0)
        ratio = other.image[brains] / other.record.unit
        assert np.abs(ratio - first.image[brains] / first.record.unit).mean() > 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", range(4))
def test_background_is_zero_and_brain_is_whole(kind: Kind, index: int) -> None:
    """Air is exactly zero, all faces of the volume but the lowest are air."""
    image = subject(kind, index).image

    assert image.dtype in (np.int16, np.float32)
    assert image.min() == 0
    assert 1.1e6 < (image > 0).sum() * 64 < 1.95e6  # mm3
    for face in (image[0], image[-1], image[:, 0], image[:, -1], image[..., -1]):
        assert (face == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", range(4))
def test_lesions_lie_inside_the_brain(kind: Kind, index: int) -> None:
    """The label map is binary and holds nothing but brain."""
    chosen = subject(kind, index)

    assert chosen.label.dtype == np.uint8
    assert set(np.unique(chosen.label)) == {0, 1}
    assert (chosen.image[chosen.label > 0] > 0).all()


@pytest.mark.parametrize("index", range(4))
def test_vessels_look_like_lesions_and_are_not_labeled(index: int) -> None:
    """Vessels are as bright as lesions, and the label map holds none of them."""
    chosen = subject("cel", index, 2.0)
    record, grid = chosen.record, Grid.of_spacing(2.0)
    bright = chosen.image / record.unit
    cover, _ = paint_vessels(record.vessels, record.deformation, grid)
    vessels = (cover > 0.5) & (chosen.image > 0)

    assert vessels.sum() > 300
    assert (chosen.label[vessels] > 0).mean() < 0.05  # where a lesion covers one
    assert np.median(bright[vessels]) > 1.2
    lesion = np.percentile(bright[chosen.label > 0], 75)
    assert np.percentile(bright[vessels], 75) > 0.8 * lesion


def test_ring_is_labeled_with_its_center() -> None:
    """The label of a ring-enhancing lesion is filled although its center is dark."""
    records = (draw_subject("cel", 0, index) for index in range(60))
    index, ring = next(
        (number, lesion)
        for number, record in enumerate(records)
        for lesion in record.lesions
        if lesion.core is not None and lesion.radius > 4.5
    )
    chosen = subject("cel", index, 1.0)
    center = chosen.record.deformation.to_subject(ring.center[None])[0]
    i, j, k = np.rint(center - chosen.affine[:3, 3]).astype(int)

    box = slice(i - 1, i + 2), slice(j - 1, j + 2), slice(k - 1, k + 2)
    assert chosen.label[box].all()
    assert np.median(chosen.image[box]) / chosen.record.unit < 1.2


@pytest.mark.parametrize("kind", KINDS)
def test_subject_without_lesions_has_an_empty_label(kind: Kind) -> None:
    """Confounders alone are no lesions."""
    chosen = make_subject(kind, 0, 1, spacing=4.0, lesions=False)

    assert chosen.label.sum() == 0
    assert bool(chosen.record.vessels) == (kind == "cel")


def test_units_and_number_formats_differ() -> None:
    """Scanners differ in the unit of intensity and in how they store it."""
    records = [draw_subject("wmh", 0, index) for index in range(12)]

    units = [record.unit for record in records]
    assert 100 <= min(units) < max(units) <= 2000
    assert max(units) > 3 * min(units)
    assert {record.integer for record in records} == {True, False}
