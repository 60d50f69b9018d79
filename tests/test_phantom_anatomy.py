"""Tests of the anatomy that all synthetic subjects share."""

from __future__ import annotations

import sys

import pytest

from nnunet_cel.phantom.anatomy import Grid, load_template

pytest.importorskip("nilearn", reason="the extra `demo`")


@pytest.mark.parametrize("spacing", [1.0, 1.7, 4.0])
def test_grid_covers_the_box(spacing: float) -> None:
    """The last voxel reaches the end of the box and the spacing is exact."""
    grid = Grid.of_spacing(spacing)

    ends = grid.affine @ [*(n - 1 for n in grid.shape), 1]
    assert (ends[:3] >= [80 - 1e-6, 82 - 1e-6, 92 - 1e-6]).all()
    assert (ends[:3] < [80 + spacing, 82 + spacing, 92 + spacing]).all()


@pytest.mark.parametrize("spacing", [0.5, 9.0, float("nan")])
def test_spacing_out_of_range_is_refused(spacing: float) -> None:
    """The template has nothing to say below 1 mm."""
    with pytest.raises(ValueError, match="from 1 to 8 mm"):
        Grid.of_spacing(spacing)


def test_template_has_an_adults_volumes() -> None:
    """Brain and ventricles of the template have the size of a head."""
    template = load_template()

    assert 1800 < template.brain.sum() / 1000 < 2000  # ml, CSF included
    assert 5 < template.ventricles.sum() / 1000 < 20
    assert load_template() is template


def test_missing_nilearn_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nilearn the error says what to install."""
    monkeypatch.setitem(sys.modules, "nilearn", None)

    with pytest.raises(ImportError, match=r'pip install "nnunet-cel\[demo\]"'):
        load_template.__wrapped__()
