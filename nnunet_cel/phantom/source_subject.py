"""What a layout of source files may need of one scan, and a tiny one for trying out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from nibabel.eulerangles import euler2mat

from nnunet_cel.volumes import Volume

__all__ = ["Kind", "SourceSubject", "diagnosis_of", "make_tiny_subject"]

Kind = Literal["wmh", "cel"]


@dataclass(frozen=True)
class SourceSubject:
    """The volumes of one scan, all on one grid.

    Args:
        raw: FLAIR (wmh) or CE-T1w (cel), with skull.
        brain_image: The same without skull, zero outside the brain.
        t1: T1w without contrast agent, with skull.
        brain: 1 in the brain, uint8.
        label: 1 in lesions, 2 in other pathology, uint8.
        second_label: The same as a second rater sees it.
        diagnosis: ``"MS"`` or ``"NMOSD"``, empty if not known.
    """

    raw: Volume
    brain_image: Volume
    t1: Volume
    brain: Volume
    label: Volume
    second_label: Volume
    diagnosis: str = ""


def make_tiny_subject(kind: Kind, index: int) -> SourceSubject:
    """Make a subject of a few voxels, on an oblique grid, for trying out layouts.

    It has a lesion of six voxels, number 1 of the kind ``"wmh"`` other pathology, too.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        index: Number of the subject; each has other intensities.
    """
    rng = np.random.default_rng(index)
    shape = (6, 7, 5)
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(x=0.1) @ np.diag([1.1, 0.9, 2.0])
    affine[:3, 3] = (-3.5, -20.25, 10.0)
    brain = np.zeros(shape, dtype=np.uint8)
    brain[1:5, 1:6, 1:4] = 1
    label = np.zeros(shape, dtype=np.uint8)
    label[1:4, 2:4, 2] = 1
    second_label = label.copy()
    second_label[1, 2:4, 2] = 0
    raw = rng.integers(100, 200, shape) + 300 * (label == 1)
    raw = raw.astype(np.float32 if index % 2 else np.int16)
    if kind == "wmh" and index == 1:
        label[3:5, 5, 1] = second_label[3:5, 5, 1] = 2
    return SourceSubject(
        raw=Volume(raw, affine),
        brain_image=Volume(raw * brain.astype(raw.dtype), affine),
        t1=Volume(rng.integers(50, 150, shape).astype(np.int16), affine),
        brain=Volume(brain, affine),
        label=Volume(label, affine),
        second_label=Volume(second_label, affine),
        diagnosis=diagnosis_of(kind, index),
    )


def diagnosis_of(kind: Kind, index: int) -> str:
    """Return the diagnosis of a subject: one in six of ``"cel"`` has NMOSD."""
    if kind == "wmh":
        return ""
    return "NMOSD" if index % 6 == 5 else "MS"
