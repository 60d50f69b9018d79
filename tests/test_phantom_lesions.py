"""Tests of lesions and vessels in the space of the template."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnunet_cel.phantom.anatomy import Tissue, draw_tissue, load_template
from nnunet_cel.phantom.lesions import (
    Lesion,
    draw_enhancing_lesions,
    draw_hyperintensities,
    draw_lesion,
    draw_vessels,
)

pytest.importorskip("nilearn", reason="the extra `demo`")


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    """Return the tissues of a subject."""
    return draw_tissue(np.random.default_rng(0))


def all_white() -> Tissue:
    """Return tissues that are nothing but white matter."""
    shape = load_template().brain.shape
    return Tissue(np.zeros(shape), np.ones(shape), np.zeros(shape, np.uint8))


def together(lesions: list[Lesion]) -> np.ndarray:
    """Return how much of each voxel of the template lesions fill."""
    filled = np.zeros(load_template().brain.shape)
    for box, share, _ in lesions:
        filled[box] = np.maximum(filled[box], share)
    return filled


def test_lesion_has_the_volume_of_its_sphere(rng: np.random.Generator) -> None:
    """Ellipsoids of radius 5 mm in nothing but white matter fill 524 mm3 on average."""
    lesions = [draw_lesion(rng, all_white(), "deep", 5.0, bright=2.0) for _ in range(9)]

    mean = np.mean([share.sum() for _, share, _ in lesions])
    assert mean == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.1)
    assert all((bright == 2).all() for *_, bright in lesions)


def test_ring_is_filled_and_dark_inside(rng: np.random.Generator) -> None:
    """The whole lesion is its share, rim and center."""
    ring = draw_lesion(rng, all_white(), "deep", 6.0, bright=2.0, core=0.5)

    center = (ring.share.shape[0] // 2,) * 3
    assert ring.share[center] == 1
    assert ring.bright[center] == 0.5
    inside = ring.share > 0.5
    assert (ring.bright[inside & ~ndimage.binary_erosion(inside)] == 2).all()


def test_hyperintensities_lie_in_white_matter(
    rng: np.random.Generator, tissue: Tissue
) -> None:
    """Their volume is that of patients and differs from subject to subject."""
    drawn = [draw_hyperintensities(rng, tissue) for _ in range(8)]
    filled = [together(lesions) for lesions in drawn]

    assert all(5 <= len(lesions) <= 25 for lesions in drawn)
    volumes = [whole.sum() / 1000 for whole in filled]  # ml
    assert min(volumes) > 1.0
    assert max(volumes) < 40
    assert max(volumes) > 1.5 * min(volumes)
    for whole in filled:
        assert (tissue.white[whole > 0.5] > 0.5).mean() > 0.8


def test_enhancing_lesions_keep_off_vessels_and_each_other(
    rng: np.random.Generator, tissue: Tissue
) -> None:
    """They are few and small, and what is taken is marked."""
    for _ in range(4):
        vessels = draw_vessels(rng)
        taken = vessels.copy()
        lesions = draw_enhancing_lesions(rng, tissue, taken)

        assert 1 <= len(lesions) <= 6
        whole = together(lesions)
        assert 0.02 < whole.sum() / 1000 < 5  # ml
        np.testing.assert_allclose(taken, vessels + whole, atol=1e-5)
        assert not (vessels[whole > 0.5] > 0.5).any()


def test_vessels_run_in_sulci_and_not_through_white_matter(
    rng: np.random.Generator,
) -> None:
    """A few ml in all, most of them in fluid and cortex."""
    template = load_template()
    cover = draw_vessels(rng)

    assert cover.min() == 0
    assert cover.max() <= 1
    assert not cover[~template.brain].any()
    assert 3 < cover.sum() / 1000 < 40  # ml
    assert np.average(template.white, weights=cover) < 0.15
    # veins that run to the ventricles are in white matter, thin and few
    inside = (cover > 0.2) & (template.white > 0.9)
    assert inside.sum() > 20
