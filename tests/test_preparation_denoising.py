"""Non-local means: less noise, the same anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.preparation.denoising import denoise, noise_level

ISOTROPIC = (1.0, 1.0, 1.0)


@pytest.fixture
def truth() -> np.ndarray:
    """A ball of two tissues with a bright lesion."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    image = np.where(radius < 0.6, 800.0, np.where(radius < 0.95, 600.0, 0.0))
    image[18:22, 18:22, 18:22] = 1200
    return image


@pytest.mark.parametrize("noise", [15, 60])
def test_error_falls(truth, rng, noise) -> None:
    """The difference from the image without noise gets less than half."""
    mask = truth > 0
    noisy = truth + rng.normal(0, noise, truth.shape)

    clean = denoise(noisy, mask, ISOTROPIC)

    before, after = (np.sqrt(((v - truth)[mask] ** 2).mean()) for v in (noisy, clean))
    assert after < 0.5 * before
    assert clean.dtype == np.float32
    assert not clean[~mask].any()


def test_lesion_keeps_its_contrast(truth, rng) -> None:
    """A lesion of four voxels across is as bright as before."""
    lesion = truth == 1200

    clean = denoise(truth + rng.normal(0, 30, truth.shape), truth > 0, ISOTROPIC)

    assert clean[lesion].mean() == pytest.approx(1200, rel=0.01)


@pytest.mark.parametrize("noise", [5, 20, 80])
def test_noise_is_estimated(truth, rng, noise) -> None:
    """The estimate is right within a fifth, in spite of many edges."""
    noisy = truth + rng.normal(0, noise, truth.shape)

    assert noise_level(noisy, truth > 0, ISOTROPIC) == pytest.approx(noise, rel=0.2)


def test_noise_of_thick_slices(rng) -> None:
    """Slices that differ from each other are not taken for noise."""
    slices = 500 + 200 * (np.arange(12) % 2)
    image = slices + rng.normal(0, 10, (40, 40, 12))
    mask = np.ones(image.shape, dtype=bool)

    assert noise_level(image, mask, (1, 1, 5)) == pytest.approx(10, rel=0.1)
    assert noise_level(image, mask, ISOTROPIC) > 50


@pytest.mark.parametrize("shape", [(30, 30, 1), (30, 1, 30), (3, 4, 5), (1, 1, 1)])
def test_thin_images(rng, shape) -> None:
    """Images of a slice or a few voxels have a result of the same shape."""
    image = 500 + rng.normal(0, 10, shape)
    mask = np.ones(shape, dtype=bool)

    clean = denoise(image, mask, ISOTROPIC)

    assert clean.shape == shape
    assert clean.std() <= image.std() + 1e-3
    assert clean.mean() == pytest.approx(image.mean(), rel=0.02)


def test_image_without_noise_stays(truth) -> None:
    """Where there is no noise, nothing is averaged."""
    np.testing.assert_array_equal(denoise(truth, truth > 0, ISOTROPIC), truth)
