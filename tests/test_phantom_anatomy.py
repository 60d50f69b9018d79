"""Tests of the template and of the tissues that are drawn on it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import draw_tissue, load_template

pytest.importorskip("nilearn", reason="the extra `demo`")


def test_template_has_an_adults_volumes() -> None:
    """Brain and ventricles have the size of a head, and distances are in mm."""
    template = load_template()

    assert load_template() is template
    assert 1800 < template.brain.sum() / 1000 < 2000  # ml, CSF included
    assert 5 < template.ventricles.sum() / 1000 < 20
    assert 35 < template.depth.max() < 60
    assert template.brain[template.depth > 0].all()


def test_missing_nilearn_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nilearn the error says what to install."""
    monkeypatch.setitem(sys.modules, "nilearn", None)

    with pytest.raises(ImportError, match=r'pip install "nnunet-cel\[demo\]"'):
        load_template.__wrapped__()


def test_tissues_fill_the_brain_and_shells_the_head(rng: np.random.Generator) -> None:
    """Shares are shares; going up from the brain all shells come in order."""
    brain = load_template().brain
    tissue = draw_tissue(rng)

    matter = tissue.gray + tissue.white
    assert matter.min() >= 0
    assert matter.max() <= 1 + 1e-5
    assert not matter[~brain].any()
    assert 900 < matter.sum() / 1000 < 1700  # ml
    assert not tissue.shell[brain].any()
    top = int(np.argmax(brain.any(axis=(0, 1)).cumsum()))
    x, y = (int(place) for place in np.argwhere(brain[..., top])[0])
    upwards = tissue.shell[x, y, top:].astype(int)
    assert set(upwards) == {0, 1, 2, 3, 4}
    assert (np.diff(upwards) >= 0).all()
    assert 4 not in tissue.shell[brain.shape[0] // 2, brain.shape[1] // 2, :5]  # neck
