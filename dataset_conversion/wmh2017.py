"""WMH Segmentation Challenge 2017 (MICCAI): FLAIR images with white matter lesions.

The challenge's bias-corrected FLAIR images are taken. Huang et al. 2024 used the 3D
FLAIR images of its training part, which are the 20 of the Amsterdam scanner GE3T, here
the default. The patients have a vascular disease or come from a memory clinic. The
images have a skull; those of the other two sources do not, so it is removed, by brain
extraction on the T1w image that lies on the same grid.

Label 1 is WMH, label 2 is other pathology, which the challenge does not judge.

Layouts: the release of 2022 (``training/Amsterdam/GE3T/100/pre/FLAIR.nii.gz``), the
files of 2017 (``GE3T/100/...``), and common ways of arranging them anew
(``Amsterdam/Train_GE3T/100/...``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from nnunet_cel.dataset_conversion.source import NIFTI, SourceCase, Terms
from nnunet_cel.scans import find_files, refuse

__all__ = ["TERMS", "add_arguments", "find_cases"]

TERMS = Terms(
    name="WMH 2017",
    content="FLAIR of 60 training and 110 test patients from five scanners",
    release="DataverseNL, 2022",
    access="open download, doi:10.34894/AECRSD",
    license="CC BY-NC 4.0: models trained on it inherit non-commercial concerns",
    reference="https://doi.org/10.34894/AECRSD",
    citations=("Kuijf HJ, et al. IEEE Trans Med Imaging 2019;38:2556-68",),
    paper_cases=20,
)

Scanner = Literal["GE3T", "Utrecht", "Singapore", "GE1T5", "Philips"]
Part = Literal["training", "test"]
OtherPathology = Literal["background", "ignore"]

# Trees without the folders `training` and `test` tell the part by nothing but this.
_GE3T_TRAINING = frozenset(
    {*range(100, 111), 112, 113, 114, 115, 116, 126, 132, 137, 144}
)

_SUBJECT = (
    r"(?i)/(?:(?P<part>training|test)/)?(?:Amsterdam/)?(?:(?P<part2>Train|Test)_)?"
    r"(?P<scanner>Utrecht|Singapore|GE3T|GE1T5|Philips_VU[ _]?\.?PETMR_01[._]?)"
    r"/(?P<number>\d+)/"
)
# Bias-corrected and unprocessed images, and label maps as distributed and rearranged.
_NAMES = ("pre/FLAIR", "orig/FLAIR", "pre/T1", "orig/T1", "wmh", "(?:pre|orig)/wmh")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of this source."""
    group.add_argument(
        "--scanners",
        nargs="+",
        choices=get_args(Scanner),
        default=["GE3T"],
        metavar="SCANNER",
        help=f"from {', '.join(get_args(Scanner))} (default: GE3T, as in the paper)",
    )
    group.add_argument(
        "--parts",
        nargs="+",
        choices=get_args(Part),
        default=["training"],
        help="parts of the release; those of GE1T5 and Philips are test only (default: "
        "training)",
    )
    group.add_argument(
        "--other-pathology",
        choices=get_args(OtherPathology),
        default="background",
        help="what label 2 becomes: background, or the label that nnU-Net ignores "
        "(default: %(default)s)",
    )


def find_cases(
    root: Path | str,
    *,
    scanners: Sequence[str] = ("GE3T",),
    parts: Sequence[str] = ("training",),
    other_pathology: OtherPathology = "background",
    allow_raw: bool = False,
    strip: bool = True,
) -> list[SourceCase]:
    """Return the cases below a folder.

    Args:
        root: Any folder that holds the release or a part of it.
        scanners: Which scanners.
        parts: Which parts of the release.
        other_pathology: What label 2 becomes.
        allow_raw: Whether the original FLAIR is taken where the bias-corrected one is
            missing.
        strip: Whether the skull is removed, for which the T1w image is needed.

    Raises:
        ValueError: If there is no case, a file is there twice, or a label map or T1w
            image is missing.
    """
    flair, raw, t1, raw_t1, labels, rearranged = find_files(
        root, [_SUBJECT + name + NIFTI for name in _NAMES], _key
    )
    images, t1, labels = raw | flair, raw_t1 | t1, rearranged | labels
    wanted = [key for key in sorted(images) if key[0] in parts and key[1] in scanners]
    if not wanted:
        raise ValueError(
            "The folder of WMH 2017 must hold files such as training/Amsterdam/GE3T/"
            f"100/pre/FLAIR.nii.gz. {root} holds none of the scanners "
            f"{', '.join(scanners)} in the {' and '.join(parts)} part: name the "
            "folder of the release, or other --scanners or --parts."
        )
    needed = [(labels, "a label map wmh.nii.gz", "Get it from the release.")]
    if not allow_raw:
        cure = "Get the folders pre as well, or take these with --allow-raw."
        needed.insert(0, (flair, "a bias-corrected one in the folder pre", cure))
    if strip:
        cure = "Get it from the release, or leave the skull with --no-strip."
        needed.append((t1, "a T1w image T1.nii.gz to find the brain on", cure))
    for files, what, cure in needed:
        refuse(
            (images[key] for key in set(wanted) - set(files)),
            f"Every image must have {what}. Got none for:",
            cure,
        )
    cases = []
    for key in wanted:
        part, scanner, number = key
        name = f"WMH2017_{scanner}_{number:03d}"
        kind = "pre" if key in flair else "orig"
        cases.append(
            SourceCase(
                identifier=name,
                source=TERMS.name,
                root=Path(root),
                image=images[key],
                labels=(labels[key],),
                values={0: 0, 1: 1, 2: 2 if other_pathology == "ignore" else 0},
                group=name,
                stratum=f"{TERMS.name} {scanner}",
                strip_on=t1[key] if strip else None,
                mask_names=(name, str(number)),
                facts=dict(part=part, scanner=scanner, subject=str(number), image=kind),
            )
        )
    return cases


def _key(match: re.Match[str]) -> tuple[str, str, int]:
    """Return part, scanner and number of a subject."""
    number = int(match["number"])
    names = {name.lower(): name for name in get_args(Scanner)}
    scanner = names.get(match["scanner"].lower(), "Philips")
    part = (match["part"] or match["part2"] or "").lower()
    of_ge3t = scanner == "GE3T" and number not in _GE3T_TRAINING
    if part == "test" or (not part and (scanner in ("GE1T5", "Philips") or of_ge3t)):
        return "test", scanner, number
    return "training", scanner, number
