"""ISBI 2015 longitudinal MS lesion segmentation: FLAIR images of five patients.

The challenge's preprocessed FLAIR images are taken, which are of 1 mm, skull-stripped
and bias-corrected. Huang et al. 2024 used the last time point of each of the five
training subjects. They do not say which of the two raters they followed; the first is
the default.

Layouts: ``training01/preprocessed/training01_01_flair_pp.nii`` and
``training01/masks/training01_01_mask1.nii``, or the same file names in any folders.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal, get_args

from nnunet_cel.dataset_conversion.source import NIFTI, SourceCase, Terms
from nnunet_cel.scans import find_files, refuse

__all__ = ["TERMS", "add_arguments", "find_cases"]

TERMS = Terms(
    name="ISBI 2015",
    content="21 FLAIR volumes of 5 MS patients (training part), two raters",
    release="training_final_v4",
    access=(
        "registration at smart-stats-tools.org/lesion-challenge-2015, file "
        "training_final_v4.zip"
    ),
    license="research use after registration; no licence text is distributed with it",
    reference="https://smart-stats-tools.org/lesion-challenge-2015",
    citations=("Carass A, et al. NeuroImage 2017;148:77-102",),
    paper_cases=5,
)

Rater = Literal["1", "2", "union", "intersection"]

_FILES = [
    rf"(?i)/training(?P<subject>\d{{2}})_(?P<time>\d{{2}})_{name}{NIFTI}"
    for name in ("flair_pp", "mask1", "mask2")
]


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of this source."""
    group.add_argument(
        "--rater",
        choices=get_args(Rater),
        default="1",
        help="whose lesions: the first or second rater's, what any of them marked or "
        "what both did (default: %(default)s)",
    )
    group.add_argument(
        "--all-timepoints",
        action="store_true",
        help="take all time points of a patient, who stays in one fold (default: the "
        "last one that has a mask, as in the paper)",
    )


def find_cases(
    root: Path | str, *, rater: Rater = "1", all_timepoints: bool = False
) -> list[SourceCase]:
    """Return the cases below a folder.

    Args:
        root: Any folder that holds the training part.
        rater: Whose lesions.
        all_timepoints: Whether to take all time points or the last one with a mask.

    Raises:
        ValueError: If there is no case, a file is there twice, or a mask is missing.
    """
    images, first, second = find_files(
        root, _FILES, lambda match: (match["subject"], match["time"])
    )
    if not images:
        raise ValueError(
            "The folder of ISBI 2015 must hold files such as "
            f"training01_01_flair_pp.nii. {root} holds none: unpack "
            "training_final_v4.zip there."
        )
    last = dict(sorted(images))
    last |= dict(sorted(set(images) & {*first, *second}))
    taken = [key for key in sorted(images) if all_timepoints or last[key[0]] == key[1]]
    masks = {"1": [first], "2": [second]}.get(rater, [first, second])
    raters = rater if len(masks) == 1 else "1 and 2"
    refuse(
        (images[key] for key in taken if any(key not in mask for mask in masks)),
        f"Every image must have a mask of rater {raters}. Got none for:",
        "Unpack training_final_v4.zip again, or choose another --rater.",
    )
    return [
        SourceCase(
            identifier=f"ISBI2015_{subject}_{time}",
            source=TERMS.name,
            root=Path(root),
            image=images[subject, time],
            labels=tuple(mask[subject, time] for mask in masks),
            combine="intersection" if rater == "intersection" else "union",
            group=f"ISBI2015_{subject}",
            stratum=TERMS.name,
            facts={"subject": subject, "time_point": time},
        )
        for subject, time in taken
    ]
