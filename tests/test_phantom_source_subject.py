"""Tests of tiny source subjects."""

from __future__ import annotations

from nnunet_cel.phantom.source_subject import diagnosis_of, make_tiny_subject


def test_tiny_subject_has_what_layouts_need() -> None:
    """The lesions of a tiny subject are in its brain and large enough to count."""
    for kind in ("wmh", "cel"):
        subject = make_tiny_subject(kind, 0)
        lesions = subject.label.voxels == 1
        assert lesions.sum() == 6
        assert subject.brain.voxels[lesions].all()
        outside = subject.brain.voxels == 0
        assert not subject.brain_image.voxels[outside].any()
        assert subject.raw.voxels[outside].all()
    assert [diagnosis_of("cel", index) for index in range(6)].count("NMOSD") == 1
