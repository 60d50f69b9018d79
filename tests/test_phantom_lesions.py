"""Tests of the lesions of synthetic subjects."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nnunet_cel.phantom.subject import Modality, Subject, make_subject

pytest.importorskip("nilearn", reason="the extra `demo`")

MODALITIES: tuple[Modality, ...] = ("flair", "cet1w")


@cache
def subject(modality: Modality, index: int, spacing: float = 4.0) -> Subject:
    """Return a subject of seed 0, made once."""
    return make_subject(modality, 0, index, spacing=spacing)


def volume(subject: Subject) -> float:
    """Return the volume of the lesions in ml."""
    return float(subject.label.sum() * abs(np.linalg.det(subject.affine)) / 1000)


@pytest.mark.parametrize("index", range(6))
def test_hyperintensities_lie_in_white_matter(index: int) -> None:
    """White matter is where white matter hyperintensities are."""
    chosen = subject("flair", index, 2.0)

    assert (chosen.white_matter[chosen.label > 0] > 0.5).mean() > 0.8


@pytest.mark.parametrize(
    ("modality", "low", "high"), [("flair", 1.5, 40.0), ("cet1w", 0.05, 2.0)]
)
def test_lesion_volume_is_realistic(
    modality: Modality, low: float, high: float
) -> None:
    """The total volume in ml stays within the range of patients."""
    volumes = [volume(subject(modality, index, 2.0)) for index in range(6)]

    assert low <= min(volumes)
    assert max(volumes) <= high
    assert max(volumes) > 1.5 * min(volumes)


def test_volume_does_not_depend_on_spacing() -> None:
    """The same lesions are drawn at every voxel size."""
    assert volume(subject("flair", 3, 2.0)) == pytest.approx(
        volume(subject("flair", 3, 4.0)), rel=0.2
    )


@pytest.mark.parametrize("index", range(4))
def test_lesions_are_brighter_than_white_matter(index: int) -> None:
    """In both modalities the median lesion voxel stands out."""
    for modality in MODALITIES:
        chosen = subject(modality, index, 2.0)
        tissue = chosen.image[(chosen.white_matter > 0.9) & (chosen.label == 0)]
        lesion = chosen.image[chosen.label > 0]

        assert np.median(lesion) > 1.15 * np.median(tissue)
