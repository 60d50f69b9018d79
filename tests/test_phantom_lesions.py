"""Tests of the lesions of synthetic subjects."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import Grid
from nnunet_cel.phantom.subject import Kind, Subject, make_subject, warp_tissue

pytest.importorskip("nilearn", reason="the extra `demo`")

KINDS: tuple[Kind, ...] = ("wmh", "cel")


@cache
def subject(kind: Kind, index: int, spacing: float = 4.0) -> Subject:
    """Return a subject of seed 0, made once."""
    return make_subject(kind, 0, index, spacing=spacing)


def white_matter(subject: Subject) -> np.ndarray:
    """Return the fraction of white matter, before lesions, at 2 mm."""
    return warp_tissue(subject.record, Grid.of_spacing(2.0)).white


def volume(subject: Subject) -> float:
    """Return the volume of the lesions in ml."""
    return float(subject.label.sum() * abs(np.linalg.det(subject.affine)) / 1000)


@pytest.mark.parametrize("index", range(6))
def test_hyperintensities_lie_in_white_matter(index: int) -> None:
    """White matter is where white matter hyperintensities are."""
    chosen = subject("wmh", index, 2.0)

    assert (white_matter(chosen)[chosen.label > 0] > 0.5).mean() > 0.8


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("wmh", 1.5, 40.0), ("cel", 0.05, 2.0)]
)
def test_lesion_volume_is_realistic(kind: Kind, low: float, high: float) -> None:
    """The total volume in ml stays within the range of patients."""
    volumes = [volume(subject(kind, index, 2.0)) for index in range(6)]

    assert low <= min(volumes)
    assert max(volumes) <= high
    assert max(volumes) > 1.5 * min(volumes)


def test_volume_does_not_depend_on_spacing() -> None:
    """The same lesions are drawn at every voxel size."""
    assert volume(subject("wmh", 3, 2.0)) == pytest.approx(
        volume(subject("wmh", 3, 4.0)), rel=0.2
    )


@pytest.mark.parametrize("index", range(4))
def test_lesions_are_brighter_than_white_matter(index: int) -> None:
    """In both modalities the median lesion voxel stands out."""
    for kind in KINDS:
        chosen = subject(kind, index, 2.0)
        tissue = chosen.image[(white_matter(chosen) > 0.9) & (chosen.label == 0)]
        lesion = chosen.image[chosen.label > 0]

        assert np.median(lesion) > 1.15 * np.median(tissue)
