"""One image from the scanner's voxels to the model's, evener and with less noise."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.preparation.pipeline import (
    Settings,
    correct_bias,
    denoise,
    noise_level,
    prepare_volume,
)
from nnunet_cel.volumes import Volume, write_volume

AFFINE = np.array([[0, 0, 3.0, -50], [-1, 0, 0, 40], [0, 1, 0, -30], [0, 0, 0, 1]])


@pytest.fixture
def head() -> tuple[Volume, np.ndarray]:
    """A bright head around a brain, in sagittal slices of 3 mm, and the brain mask."""
    position = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (60, 60, 24))))
    radius = np.sqrt((position**2).sum(axis=0))
    noise = np.random.default_rng(2).normal(0, 20, radius.shape)
    voxels = np.where(radius < 0.95, 400, 0) + np.where(radius < 0.6, 300, 0) + noise
    return Volume(np.rint(voxels).astype(np.int16), AFFINE), radius < 0.6


@pytest.fixture
def given(tmp_path: Path, head) -> BrainExtraction:
    """The brain mask as a file of the user's own."""
    write_volume(tmp_path / "p1.nii.gz", Volume(head[1], AFFINE))
    return BrainExtraction("mask", tmp_path)


def test_native_voxels_stay_bit_for_bit(head, given) -> None:
    """Without resampling, the image is only masked and cropped."""
    image, mask = head

    prepared = prepare_volume("p1", image, Settings(given, spacing=None))

    assert prepared.image.voxels.dtype == np.float32
    expected = np.where(mask, image.voxels, 0)[prepared.box]
    np.testing.assert_array_equal(prepared.image.voxels, expected)
    np.testing.assert_array_equal(prepared.mask, mask)
    # 5 mm are 5 voxels in a slice, and 2 slices of 3 mm
    used = [np.flatnonzero(mask.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1))]
    margins = [
        (u[0] - part.start, part.stop - 1 - u[-1])
        for u, part in zip(used, prepared.box, strict=True)
    ]
    assert margins == [(5, 5), (5, 5), (2, 2)]

    resampled = prepare_volume("p1", image, Settings(given)).image
    assert resampled.spacing == pytest.approx((1, 1, 1))
    assert (resampled.voxels > 350).sum() == pytest.approx(3 * mask.sum(), rel=0.02)


def test_labels_outside_of_the_mask_and_small_ones(head, given) -> None:
    """The crop holds every lesion; where more than five percent may be lost is told."""
    image, brain = head
    label = np.zeros(brain.shape, np.uint8)
    label[2:4, 30, 12] = 1
    label[30, 30:36, 12] = 2
    many = brain.astype(np.uint8)
    many[0, 0, 0] = 1
    small = np.zeros(brain.shape, np.uint8)
    small[36, 36, 12] = 3
    small[24:32, 20:28, 11:13] = 1

    prepared, enough, coarse = (
        prepare_volume("p1", image, Settings(given, spacing=mm), Volume(part, AFFINE))
        for part, mm in ((label, None), (many, None), (small, (4, 4, 4)))
    )

    assert np.bincount(prepared.label.voxels.ravel())[1:].tolist() == [2, 6]
    assert prepared.box[0].start == 0
    assert prepared.warnings == ["2 of 8 lesion voxels lie outside of the brain mask."]
    assert enough.warnings == []
    assert coarse.warnings == ["1 of 2 lesions have no voxel left after resampling."]


def test_voxels_that_are_not_finite(head, given) -> None:
    """Outside of the brain they become 0, in the brain they are an error."""
    image, _ = head
    voxels = image.voxels.astype(np.float32)
    voxels[0, 0, 0], voxels[0, 0, 1] = np.nan, np.inf

    prepared = prepare_volume("p1", Volume(voxels, AFFINE), Settings(given, n4=True))

    assert np.isfinite(prepared.image.voxels).all()
    voxels[30, 30, 12] = np.nan
    with pytest.raises(ValueError, match=r"image of p1 must have finite .* Got 1 that"):
        prepare_volume("p1", Volume(voxels, AFFINE), Settings(given))


@pytest.mark.skipif(
    importlib.util.find_spec("brainextractor") is None, reason="the extra `bet`"
)
def test_unusual_brain_volume_and_spacing(head, monkeypatch) -> None:
    """A mask of 30 ml that a program found is worth a look; 0 mm are refused."""
    image, mask = head
    monkeypatch.setattr(BrainExtraction, "mask", lambda *_, **__: mask)

    prepared = prepare_volume("p1", image, Settings(BrainExtraction("bet")))

    volume = 3 * mask.sum() / 1000
    expected = f"The brain mask has {volume:.0f} ml, which is unusual."
    assert prepared.warnings == [expected]
    with pytest.raises(ValueError, match=r"from 0\.1 to 10 mm\. Got \(1, 1, 0\)"):
        Settings(BrainExtraction("none"), spacing=(1, 1, 0))


def ball(size=40, noise=10.0, slices=None) -> tuple[np.ndarray, ...]:
    """Return a ball of two tissues with noise, its brain mask, and the inner tissue."""
    axes = [np.linspace(-1, 1, size)] * 2 + [np.linspace(-1, 1, slices or size)]
    if slices and slices < 3:
        axes[2] = np.zeros(slices)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    truth = np.where(radius < 0.65, 800.0, np.where(radius < 0.95, 600.0, 0.0))
    image = truth + np.random.default_rng(4).normal(0, noise, truth.shape)
    return image, radius < 0.95, radius < 0.65


@pytest.mark.parametrize(("slices", "thickness"), [(None, 2), (1, 5), (12, 5)])
def test_bias_is_removed(slices: int | None, thickness: float) -> None:
    """White matter gets nearly as even as it was, in a few thick slices as well."""
    image, mask, white = ball(slices=slices)
    x = np.linspace(-1, 1, 40)
    field = np.exp(0.3 * x[:, None, None] + 0.15 * x[:, None] ** 2)
    spacing = (2, 2, thickness)

    corrected = correct_bias(image * field, mask, spacing)

    before, biased, after = (
        values[white].std() / values[white].mean()
        for values in (image, image * field, corrected)
    )
    assert biased > 4 * before
    assert after < 2 * before


def test_image_without_bias_stays_as_it_is() -> None:
    """Intensities change by less than 3 %, their mean by nothing; outside is black."""
    image, mask, _ = ball()
    image[20, 20, 20] = -5

    corrected = correct_bias(image, mask, (2, 2, 2))

    inside = mask & (image > 0)
    ratio = corrected[inside] / image[inside]
    assert abs(ratio - 1).max() < 0.03
    assert abs(np.log(ratio).mean()) < 1e-4
    assert corrected.dtype == np.float32
    assert not corrected[~inside].any()


def test_even_image_stays() -> None:
    """Without differences and noise there is nothing to correct."""
    image = np.full((9, 9, 9), 300.0)

    for function in (correct_bias, denoise):
        np.testing.assert_array_equal(function(image, image > 0, (2, 2, 2)), image)


@pytest.mark.parametrize("noise", [15, 60])
def test_noise_is_removed(rng, noise) -> None:
    """The error gets less than half, a lesion stays as bright, edges are no noise."""
    truth, mask, _ = ball(noise=0)
    truth[18:22, 18:22, 18:22] = 1200
    noisy = truth + rng.normal(0, noise, truth.shape)

    clean = denoise(noisy, mask, (1, 1, 1))

    before, after = (np.sqrt(((v - truth)[mask] ** 2).mean()) for v in (noisy, clean))
    assert after < 0.5 * before
    assert clean[truth == 1200].mean() == pytest.approx(1200, rel=0.01)
    assert noise_level(noisy, mask, (1, 1, 1)) == pytest.approx(noise, rel=0.2)
    assert clean.dtype == np.float32
    assert not clean[~mask].any()


def test_noise_of_thick_slices(rng) -> None:
    """Slices that differ from each other are not taken for noise."""
    image = 500 + 200 * (np.arange(12) % 2) + rng.normal(0, 10, (40, 40, 12))
    mask = np.ones(image.shape, dtype=bool)

    assert noise_level(image, mask, (1, 1, 5)) == pytest.approx(10, rel=0.1)
    assert noise_level(image, mask, (1, 1, 1)) > 50


@pytest.mark.parametrize("shape", [(30, 30, 1), (30, 1, 30), (3, 4, 5), (1, 1, 1)])
def test_noise_of_thin_images(rng, shape) -> None:
    """Images of a slice or a few voxels have a result of the same shape and mean."""
    image = 500 + rng.normal(0, 10, shape)

    clean = denoise(image, np.ones(shape, dtype=bool), (1, 1, 1))

    assert clean.shape == shape
    assert clean.std() <= image.std() + 1e-3
    assert clean.mean() == pytest.approx(image.mean(), rel=0.02)
