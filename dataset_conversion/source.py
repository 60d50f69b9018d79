"""What a converter declares: its source, and the files of each case.

Words:

- *source*: a data set in the layout in which it was distributed, or a clinic's scans.
  A public one is a module with ``TERMS``, ``add_arguments`` and ``find_cases``.
- *root*: the folder of a source that the user names.
- *source case*: the files of one case below the root, and what to do with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["NIFTI", "SourceCase", "Terms"]

NIFTI = r"\.nii(?:\.gz)?$"
"""Regular expression of the endings in which public data sets are distributed."""


@dataclass(frozen=True)
class Terms:
    """Who made a data set, how to get it and on which terms it may be used.

    Args:
        name: Short name of the data set.
        content: What it consists of.
        release: Which release is read.
        access: How to get it.
        license: What one may do with it.
        reference: Address or DOI of the data set.
        citations: What to cite.
        paper_cases: How many cases Huang et al. 2024 took from it.
        channel: Name of the image's channel in nnU-Net.
    """

    name: str
    content: str
    release: str
    access: str
    license: str
    reference: str
    citations: tuple[str, ...]
    paper_cases: int
    channel: str = "FLAIR"

    def as_text(self) -> str:
        """Return the terms as lines for the terminal."""
        lines = [
            f"{self.name}\n  content  {self.content}",
            f"  access   {self.access}\n  terms    {self.license}",
            *(f"  cite     {citation}" for citation in self.citations),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class SourceCase:
    """The files of one case, and what to do with them.

    Args:
        identifier: Name of the case in the data set.
        source: Name of the source, for example ``"MSSEG 2016"``.
        root: The root below which the files lie.
        image: File of the image, or folder of its DICOM series.
        labels: Files of the label map, one for each rater that counts.
        combine: With several raters, whether a voxel is lesion that any of them or
            that all of them marked.
        values: Value in the data set for each value of the label maps; any other
            value is an error.
        min_lesion_voxels: The largest lesion must have this many voxels.
        without_lesion: What becomes of a case without such a lesion.
        group: The patient, who is never in two folds, or in training and test.
        stratum: Folds have equal shares of each stratum.
        split: ``"train"`` or ``"test"``.
        strip_on: Image on the same grid on which the brain is extracted; None if the
            image is already skull-stripped.
        other_values_cure: What to do about other values, for the message.
        mask_names: Names under which the user's own brain mask is looked for.
        facts: What else is known about the case.
    """

    identifier: str
    source: str
    root: Path
    image: Path
    labels: tuple[Path, ...]
    combine: Literal["union", "intersection"] = "union"
    values: Mapping[int, int] = field(default_factory=lambda: {0: 0, 1: 1})
    min_lesion_voxels: int = 1
    without_lesion: Literal["refuse", "exclude", "keep"] = "refuse"
    group: str = ""
    stratum: str = ""
    split: Literal["train", "test"] = "train"
    strip_on: Path | None = None
    other_values_cure: str = "is it the right file?"
    mask_names: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
