"""KDE normalization: the right peak becomes 1, whatever the unit."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.planning.normalization import (
    KDEHighestPeakNormalization,
    KDELastPeakNormalization,
    tissue_peak,
)


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    """Background 0; gray matter around 600 (more voxels), white matter around 850."""
    tissue = np.concatenate([rng.normal(600, 45, 60_000), rng.normal(850, 30, 30_000)])
    bright = rng.uniform(1000, 1400, 300)  # vessels, lesions
    values = np.concatenate([np.zeros(70_000), tissue, bright])
    return rng.permutation(values)[:160_000].reshape(40, 50, 80).astype(np.float32)


def test_matches_a_kernel_density_estimate(image: np.ndarray) -> None:
    """The histogram finds the peak of an explicit Gaussian kernel density.

    FLAIR: the highest, here gray matter.
    """
    tissue = image[image > 0]
    upper = np.percentile(tissue, 99)
    kept = tissue[tissue <= upper][::40]
    grid = np.linspace(0, upper, 400)
    density = np.exp(-0.5 * ((grid[:, None] - kept) / (upper / 80)) ** 2).sum(axis=1)

    assert tissue_peak(image, last=False) == pytest.approx(
        float(grid[density.argmax()]), abs=float(upper) / 80
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize(
    "scheme", [KDELastPeakNormalization, KDEHighestPeakNormalization]
)
def test_peak_becomes_one_in_any_unit(
    image: np.ndarray, scheme: type, scale: float
) -> None:
    """A scaled image has the same values; zero stays exactly zero, and only zero."""
    normalization = scheme(use_mask_for_norm=False, intensityproperties={})
    expected = normalization.run(image.copy(), None)

    actual = normalization.run(image * np.float32(scale), None)

    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert ((actual == 0) == (image == 0)).all()
    assert actual.dtype == np.float32
    assert tissue_peak(actual, last=scheme.last_peak) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("share", [0.01, 0.03])
def test_bright_voxels_are_no_tissue(image: np.ndarray, share: float) -> None:
    """T1w: the last peak, white matter; not vessels that are equally bright."""
    bright = int(share * 90_000)
    image.flat[np.flatnonzero(image == 0)[:bright]] = np.linspace(1150, 1160, bright)

    assert tissue_peak(image, last=True) == pytest.approx(850, rel=0.02)


@pytest.mark.parametrize(("last", "peak"), [(True, 850), (False, 600)])
def test_head_has_the_peak_of_its_brain(
    image: np.ndarray, rng: np.random.Generator, last: bool, peak: int
) -> None:
    """Noise of the air, skin and fat do not matter; the unit of an integer neither."""
    air = rng.rayleigh(6, image.shape)
    head = np.where(image == 0, air, image)
    scalp = np.flatnonzero(image == 0)[:25_000]
    head.flat[scalp] = rng.uniform(150, 500, scalp.size)  # muscle and skin
    head.flat[scalp[:8_000]] = rng.normal(1600, 250, 8_000)  # fat

    for scanned in (head, np.rint(head / 5)):
        unit = 1 if scanned is head else 5
        found = tissue_peak(scanned.astype(np.float32), last=last) * unit
        assert found == pytest.approx(peak, rel=0.03)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 0.0, 0.0], "Got no voxel above zero"),
        ([-1.0, 0.0, 0.0], "Got no voxel above zero"),
        ([0.0, 7.0, 7.0], "Got only 7"),
        ([1.0, np.nan, 3.0], "Got voxels that are NaN or infinite"),
        ([1.0, -np.inf, 2.0], "Got voxels that are NaN or infinite"),
        ([-1024.0, 5.0, 7.0, -1024.0], "Got -1024 in the corners"),
        ([-0.45, 0.5, 0.7, -0.45], "Set the background to 0"),
    ],
)
def test_images_without_tissue_are_refused(values: list[float], message: str) -> None:
    """Constant, empty and broken images end in an error that says so."""
    with pytest.raises(ValueError, match=message):
        tissue_peak(np.array(values), last=True)
