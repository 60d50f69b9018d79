"""One image from the scanner's voxels to the model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.preparation.pipeline import Prepared, Settings, prepare_volume
from nnunet_cel.volumes import Volume, write_volume

AFFINE = np.array([[0, 0, 3.0, -50], [-1, 0, 0, 40], [0, 1, 0, -30], [0, 0, 0, 1]])
NONE = BrainExtraction("none")


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


def test_voxels_of_one_millimeter(head, given) -> None:
    """The brain has its volume in voxels of 1 mm, and black around it."""
    image, mask = head

    prepared = prepare_volume("p1", image, Settings(given)).image

    assert prepared.spacing == pytest.approx((1, 1, 1))
    assert (prepared.voxels > 350).sum() == pytest.approx(3 * mask.sum(), rel=0.02)
    faces = [prepared.voxels.take(i, axis=a) for a in range(3) for i in (0, -1)]
    assert not any(face.any() for face in faces)


@pytest.mark.parametrize("option", ["n4", "denoise"])
def test_options_act_on_the_brain(head, given, option: str) -> None:
    """Both change intensities in the brain and nothing around it."""
    image, mask = head
    plain = Settings(given, spacing=None)

    other = prepare_volume("p1", image, Settings(given, spacing=None, **{option: True}))

    before = prepare_volume("p1", image, plain).image.voxels
    after = other.image.voxels
    inside = mask[other.box]
    assert (after[inside] != before[inside]).mean() > 0.9
    assert not after[~inside].any()
    assert after[inside].mean() == pytest.approx(before[inside].mean(), rel=0.01)


def prepare_with(label: np.ndarray, head, settings: Settings) -> Prepared:
    """Prepare the head with a label map."""
    volume = Volume(label.astype(np.uint8), AFFINE)
    return prepare_volume("p1", head[0], settings, label=volume)


def test_label_outside_of_the_mask_is_kept(head, given) -> None:
    """The crop holds every lesion; more than five percent outside is a warning."""
    label = np.zeros(head[1].shape, np.uint8)
    label[2:4, 30, 12] = 1
    label[30, 30:36, 12] = 2

    prepared = prepare_with(label, head, Settings(given, spacing=None))

    assert prepared.label is not None
    assert np.bincount(prepared.label.voxels.ravel())[1:].tolist() == [2, 6]
    assert prepared.box[0].start == 0
    assert prepared.warnings == ["2 of 8 lesion voxels lie outside of the brain mask."]

    many = head[1].copy()
    many[0, 0, 0] = True
    assert prepare_with(many, head, Settings(given, spacing=None)).warnings == []


def test_lesion_that_gets_lost_is_a_warning(head, given) -> None:
    """A voxel of 1 mm may have no place in voxels of 4 mm."""
    label = np.zeros(head[1].shape, np.uint8)
    label[36, 36, 12] = 3
    label[24:32, 20:28, 11:13] = 1

    prepared = prepare_with(label, head, Settings(given, spacing=(4, 4, 4)))

    assert prepared.warnings == ["1 of 2 lesions have no voxel left after resampling."]


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


def test_unusual_brain_volume_is_a_warning(head, monkeypatch) -> None:
    """A mask of 30 ml that a program found is worth a look."""
    image, mask = head
    monkeypatch.setattr(BrainExtraction, "mask", lambda *_, **__: mask)

    prepared = prepare_volume("p1", image, Settings(BrainExtraction("bet")))

    volume = 3 * mask.sum() / 1000
    expected = f"The brain mask has {volume:.0f} ml, which is unusual."
    assert prepared.warnings == [expected]


def test_settings_are_checked() -> None:
    """A spacing out of range, and a brain extraction that cannot work."""
    with pytest.raises(ValueError, match=r"from 0\.1 to 10 mm\. Got \(1, 1, 0\)"):
        Settings(NONE, spacing=(1, 1, 0)).check()
    with pytest.raises(ValueError, match="check --brain-mask"):
        Settings(BrainExtraction("mask", Path("missing"))).check()
    Settings(NONE, spacing=None).check()
