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
from typing import Any, Literal, get_args

from nnunet_cel.dataset_conversion.source import Source, SourceCase, Terms
from nnunet_cel.image_files import find_files, find_unique, refuse_missing

__all__ = ["SOURCE", "find_cases"]

_TERMS = Terms(
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
    r"(?:^|/)(?:(?P<part>training|test)/)?(?:Amsterdam/)?(?:(?P<part2>Train|Test)_)?"
    r"(?P<scanner>Utrecht|Singapore|GE3T|GE1T5|Philips_VU[ _]?\.?PETMR_01[._]?)"
    r"/(?P<number>\d+)"
)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(_SUBJECT + text + r"\.nii(?:\.gz)?$", re.IGNORECASE)


# Bias-corrected and unprocessed images, and label maps as distributed and rearranged.
_FILES = tuple(
    _pattern(f"/{name}")
    for name in (
        "pre/FLAIR",
        "orig/FLAIR",
        "pre/T1",
        "orig/T1",
        "wmh",
        "(?:pre|orig)/wmh",
    )
)


def _add_arguments(group: argparse._ArgumentGroup) -> None:
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
        strip: Whether the skull is to be removed, for which the T1w image must be
            there.

    Raises:
        ValueError: If there is no case, a file is there twice, or a label map or T1w
            image is missing.
    """
    root = Path(root)
    files = find_files(root)
    flair, raw, t1, raw_t1, labels, rearranged = (
        find_unique(files, pattern, _key, what="files") for pattern in _FILES
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
    if not allow_raw:
        refuse_missing(
            (raw[key] for key in set(wanted) - set(flair)),
            what="a bias-corrected one in the folder pre",
            cure="Get the folders pre as well, or take these with --allow-raw.",
        )
    refuse_missing(
        (images[key] for key in set(wanted) - set(labels)),
        what="a label map wmh.nii.gz",
        cure="Get it from the release.",
    )
    if strip:
        refuse_missing(
            (images[key] for key in set(wanted) - set(t1)),
            what="a T1w image T1.nii.gz on the same grid to find the brain on",
            cure="Get it from the release, or leave the skull with --no-strip.",
        )
    values = {0: 0, 1: 1, 2: 2 if other_pathology == "ignore" else 0}
    return [
        _case(
            key,
            root=root,
            image=images[key],
            labels=(labels[key],),
            values=values,
            strip_on=t1[key] if strip else None,
            kind="pre" if key in flair else "orig",
        )
        for key in wanted
    ]


def _case(key: tuple[str, str, int], kind: str, **files: Any) -> SourceCase:
    """Return a case by part, scanner and number of the subject."""
    part, scanner, number = key
    name = f"WMH2017_{scanner}_{number:03d}"
    return SourceCase(
        identifier=name,
        source=_TERMS.name,
        group=name,
        stratum=f"{_TERMS.name} {scanner}",
        mask_names=(name, str(number)),
        facts={
            "part": part,
            "scanner": scanner,
            "subject": str(number),
            "image": kind,
        },
        **files,
    )


def _key(match: re.Match[str]) -> tuple[str, str, int]:
    """Return part, scanner and number of a subject."""
    number = int(match["number"])
    scanner = {name.lower(): name for name in get_args(Scanner)}.get(
        match["scanner"].lower(), "Philips"
    )
    part = (match["part"] or match["part2"] or "").lower()
    if not part:
        is_test = scanner in ("GE1T5", "Philips") or (
            scanner == "GE3T" and number not in _GE3T_TRAINING
        )
        part = "test" if is_test else "training"
    return "training" if part.startswith("train") else "test", scanner, number


SOURCE = Source(
    terms=_TERMS,
    find_cases=find_cases,
    options=("scanners", "parts", "other_pathology", "allow_raw"),
    add_arguments=_add_arguments,
    description=__doc__,
    has_skull=True,
)
