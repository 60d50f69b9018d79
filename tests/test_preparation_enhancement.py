"""N4 removes slow changes of brightness, non-local means noise, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.preparation.enhancement import correct_bias, denoise, noise_level

TWO_MM = (2.0, 2.0, 2.0)
ONE_MM = (1.0, 1.0, 1.0)


def brain(shape=(60, 70, 56), noise=10.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of two tissues, its brain mask, and the mask of one tissue."""
    rng = np.random.default_rng(4)
    axes = [(np.arange(size) + 0.5) / size * 2 - 1 for size in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    mask, white = radius < 0.9, radius < 0.65
    image = np.where(white, 800.0, 600.0) + rng.normal(0, noise, shape)
    return image, mask, white


@pytest.fixture
def truth() -> np.ndarray:
    """A ball of two tissues with a bright lesion."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    image = np.where(radius < 0.6, 800.0, np.where(radius < 0.95, 600.0, 0.0))
    image[18:22, 18:22, 18:22] = 1200
    return image


def variation(values: np.ndarray) -> float:
    """Return the coefficient of variation."""
    return float(values.std() / values.mean())


def test_bias_is_removed() -> None:
    """White matter gets nearly as even as it was, by the same numbers in every run."""
    image, mask, white = brain()
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    field = np.exp(0.2 * x + 0.15 * y**2)

    corrected = correct_bias(image * field, mask, TWO_MM)

    assert variation((image * field)[white]) > 4 * variation(image[white])
    assert variation(corrected[white]) < 1.5 * variation(image[white])
    np.testing.assert_array_equal(correct_bias(image * field, mask, TWO_MM), corrected)


def test_image_without_bias_stays_as_it_is() -> None:
    """Intensities change by less than three percent, their mean by less than one."""
    image, mask, _ = brain()

    corrected = correct_bias(image, mask, TWO_MM)

    ratio = corrected[mask] / image[mask]
    assert abs(ratio - 1).max() < 0.03
    assert abs(np.log(ratio).mean()) < 1e-4


def test_outside_of_the_brain_is_black() -> None:
    """The head around the brain is gone, and nothing is negative."""
    image, mask, _ = brain(noise=300)

    corrected = correct_bias(image, mask, TWO_MM)

    assert corrected.dtype == np.float32
    assert not corrected[~mask].any()
    assert corrected.min() == 0
    assert (image[mask] < 0).any()


@pytest.mark.parametrize("slices", [1, 2, 12])
def test_thin_images_are_corrected(slices: int) -> None:
    """A few thick slices are enough."""
    image, mask, white = brain((60, 70, slices))
    field = np.exp(0.3 * np.linspace(-1, 1, 60))[:, None, None]

    corrected = correct_bias(image * field, mask, (1, 1, 5))

    assert variation(corrected[white]) < 0.5 * variation((image * field)[white])


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_even_image_stays(value: float) -> None:
    """Without differences and noise there is nothing to correct."""
    image = np.full((9, 9, 9), value)

    for function in (correct_bias, denoise):
        np.testing.assert_array_equal(function(image, image == value, TWO_MM), image)


@pytest.mark.parametrize("noise", [15, 60])
def test_error_falls(truth, rng, noise) -> None:
    """The difference from the truth gets less than half, a lesion stays as bright.

    The noise is estimated right within a fifth, in spite of many edges.
    """
    mask = truth > 0
    noisy = truth + rng.normal(0, noise, truth.shape)

    clean = denoise(noisy, mask, ONE_MM)

    before, after = (np.sqrt(((v - truth)[mask] ** 2).mean()) for v in (noisy, clean))
    assert after < 0.5 * before
    assert clean[truth == 1200].mean() == pytest.approx(1200, rel=0.01)
    assert noise_level(noisy, mask, ONE_MM) == pytest.approx(noise, rel=0.2)
    assert clean.dtype == np.float32
    assert not clean[~mask].any()


def test_noise_of_thick_slices(rng) -> None:
    """Slices that differ from each other are not taken for noise."""
    slices = 500 + 200 * (np.arange(12) % 2)
    image = slices + rng.normal(0, 10, (40, 40, 12))
    mask = np.ones(image.shape, dtype=bool)

    assert noise_level(image, mask, (1, 1, 5)) == pytest.approx(10, rel=0.1)
    assert noise_level(image, mask, ONE_MM) > 50


@pytest.mark.parametrize("shape", [(30, 30, 1), (30, 1, 30), (3, 4, 5), (1, 1, 1)])
def test_noise_of_thin_images(rng, shape) -> None:
    """Images of a slice or a few voxels have a result of the same shape."""
    image = 500 + rng.normal(0, 10, shape)

    clean = denoise(image, np.ones(shape, dtype=bool), ONE_MM)

    assert clean.shape == shape
    assert clean.std() <= image.std() + 1e-3
    assert clean.mean() == pytest.approx(image.mean(), rel=0.02)
