"""N4 removes slow changes of brightness, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.preparation.bias_field import correct_bias

SPACING = (2.0, 2.0, 2.0)


def brain(shape=(60, 70, 56), noise=10.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of two tissues, its brain mask, and the mask of one tissue."""
    rng = np.random.default_rng(4)
    axes = [(np.arange(size) + 0.5) / size * 2 - 1 for size in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    mask, white = radius < 0.9, radius < 0.65
    image = np.where(white, 800.0, 600.0) + rng.normal(0, noise, shape)
    return image, mask, white


def bias(shape) -> np.ndarray:
    """Return a field that rises by half from one side to the other."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.exp(0.2 * x + 0.15 * y**2)


def variation(values: np.ndarray) -> float:
    """Return the coefficient of variation."""
    return float(values.std() / values.mean())


def test_bias_is_removed() -> None:
    """White matter gets nearly as even as it was without the field."""
    image, mask, white = brain()
    field = bias(image.shape)

    corrected = correct_bias(image * field, mask, SPACING)

    assert variation((image * field)[white]) > 4 * variation(image[white])
    assert variation(corrected[white]) < 1.5 * variation(image[white])


def test_image_without_bias_stays_as_it_is() -> None:
    """Intensities change by less than three percent, their mean by less than one."""
    image, mask, _ = brain()

    corrected = correct_bias(image, mask, SPACING)

    ratio = corrected[mask] / image[mask]
    assert abs(ratio - 1).max() < 0.03
    assert abs(np.log(ratio).mean()) < 1e-4


def test_outside_of_the_brain_is_black() -> None:
    """The head around the brain is gone, and nothing is negative."""
    image, mask, _ = brain(noise=300)

    corrected = correct_bias(image, mask, SPACING)

    assert corrected.dtype == np.float32
    assert not corrected[~mask].any()
    assert corrected.min() == 0
    assert (image[mask] < 0).any()


@pytest.mark.parametrize("slices", [1, 2, 5, 12])
def test_thin_images_are_corrected(slices: int) -> None:
    """A few thick slices are enough."""
    image, mask, white = brain((60, 70, slices))
    field = np.exp(0.3 * np.linspace(-1, 1, 60))[:, None, None]

    corrected = correct_bias(image * field, mask, (1, 1, 5))

    assert variation(corrected[white]) < 0.5 * variation((image * field)[white])


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_even_image_stays(value: float) -> None:
    """Without differences there is nothing to correct."""
    image = np.full((9, 9, 9), value)

    np.testing.assert_array_equal(correct_bias(image, image == value, SPACING), image)


def test_same_in_every_run() -> None:
    """The result does not depend on chance."""
    image, mask, _ = brain((40, 40, 30))

    first, second = (correct_bias(image, mask, SPACING) for _ in range(2))

    np.testing.assert_array_equal(first, second)
