"""MSSEG 2016 (MICCAI): FLAIR images of 53 MS patients from four scanners.

The challenge's preprocessed FLAIR images are taken, on the scanner's own grid, with the
consensus of seven raters: denoised, skull-stripped, bias-corrected. One of the 53
patients has an empty consensus and is left out, as in Huang et al. 2024.

Layouts: the current one (``Training/Center_01/Patient_01/Preprocessed_Data/``), and
those of 2016 (``01016SACH/FLAIR_preprocessed.nii``, the consensus in a tree of its
own). Patient numbers begin anew in each center and each part, so all three are in the
name of a case.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path

from nnunet_cel.dataset_conversion.source import Source, SourceCase, Terms
from nnunet_cel.image_files import find_files, find_unique, refuse_missing

__all__ = ["SOURCE", "find_cases"]

_TERMS = Terms(
    name="MSSEG 2016",
    content="FLAIR of 53 MS patients (15 training, 38 testing), consensus of 7 raters",
    release="Shanoir study 209, or the challenge portal of 2016",
    access=(
        'account at shanoir.irisa.fr, request for study 209 "MSSEG 2016", files '
        "MSSEG-Training.zip and MSSEG-Testing.zip"
    ),
    license="OFSEP data usage agreement; no redistribution",
    reference="https://shanoir.irisa.fr",
    citations=(
        "Commowick O, et al. Sci Rep 2018;8:13650",
        "Commowick O, et al. NeuroImage 2021;244:118589",
    ),
    paper_cases=52,
)

_ALL_CASES = 53
_WITHOUT_LESION = 1

# Only the training part of 2016 was not distributed under a name of its own.
_OLD_TRAINING = frozenset(
    f"{center}{patient}"
    for center, patients in {
        "01": ("016SACH", "038PAGU", "039VITE", "040VANE", "042GULE"),
        "07": ("001MOEL", "003SATH", "010NABO", "040DORE", "043SEME"),
        "08": ("002CHJE", "027SYBR", "029IVDI", "031SEVE", "037ROGU"),
    }.items()
    for patient in patients
)

_PATIENT = (
    r"(?:^|/)(?P<part>Training|Testing)/Center_(?P<center>\d{2})"
    r"/Patient_(?P<patient>\d{2})"
)
_OLD_PATIENT = (
    r"(?:^|/)(?P<center>\d{2})(?P<patient>\d{3})(?P<initials>[A-Z]{4})(?:_\d)?"
)
_NII = r"\.nii(?:\.gz)?$"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text + _NII, re.IGNORECASE)


# Preprocessed image, unprocessed image and consensus, in the current layout and in the
# old ones.
_FILES = {
    False: (
        _pattern(_PATIENT + "/Preprocessed_Data/FLAIR_preprocessed"),
        _pattern(_PATIENT + "/Raw_Data/FLAIR"),
        _pattern(_PATIENT + "/Masks/Consensus"),
    ),
    True: (
        _pattern(_OLD_PATIENT + "/FLAIR_preprocessed"),
        _pattern(_OLD_PATIENT + "/3DFLAIR"),
        _pattern(_OLD_PATIENT + "/Consensus"),
    ),
}


def _add_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--keep-empty",
        action="store_true",
        help="keep cases whose consensus is empty (default: leave them out)",
    )


def find_cases(
    root: Path | str, *, keep_empty: bool = False, allow_raw: bool = False
) -> list[SourceCase]:
    """Return the cases below a folder.

    Args:
        root: Any folder that holds one or both parts, in one layout.
        keep_empty: Whether cases with an empty consensus stay.
        allow_raw: Whether the unprocessed FLAIR is taken where the preprocessed one is
            missing.

    Raises:
        ValueError: If there is no case, a file is there twice, a consensus is missing,
            or there are two layouts.
    """
    root = Path(root)
    files = find_files(root)
    by_layout = {
        old: [find_unique(files, pattern, _key, what="files") for pattern in patterns]
        for old, patterns in _FILES.items()
    }
    layouts = [old for old, found in by_layout.items() if found[0] or found[1]]
    if len(layouts) != 1:
        got = "both the current and the old layout" if layouts else "no such file"
        raise ValueError(
            "The folder of MSSEG 2016 must hold files such as Training/Center_01/"
            "Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz, or those of the "
            f"release of 2016, such as 01016SACH/FLAIR_preprocessed.nii. {root} holds "
            f"{got}: name the folder of one release."
        )
    preprocessed, raw, consensus = by_layout[layouts[0]]
    if not allow_raw:
        refuse_missing(
            (raw[case] for case in set(raw) - set(preprocessed)),
            what="a preprocessed FLAIR beside it",
            cure=(
                "Add the preprocessed tree, or take the unprocessed images, which "
                "have skull and bias field, with --allow-raw."
            ),
        )
    images = {**raw, **preprocessed}
    refuse_missing(
        (images[case] for case in set(images) - set(consensus)),
        what="a consensus of the raters",
        cure="Add the tree that holds the files Consensus.nii.gz.",
    )
    cases = []
    for key in sorted(images):
        part, center, patient = key
        name = f"MSSEG2016_{part[:2]}_C{center}_P{patient}"
        cases.append(
            SourceCase(
                identifier=name,
                source=_TERMS.name,
                root=root,
                image=images[key],
                labels=(consensus[key],),
                without_lesion="keep" if keep_empty else "exclude",
                group=name,
                stratum=_TERMS.name,
                facts={
                    "part": part,
                    "center": center,
                    "patient": patient,
                    "image": "preprocessed" if key in preprocessed else "unprocessed",
                },
            )
        )
    return cases


def _check_release(names: Collection[str], without_lesion: Collection[str]) -> None:
    """Refuse a whole release in which not exactly one consensus is empty."""
    without = sorted(without_lesion)
    if len(names) == _ALL_CASES and len(without) != _WITHOUT_LESION:
        got = f"{len(without)} ({', '.join(without)})" if without else "none"
        raise ValueError(
            f"Of the {_ALL_CASES} cases of MSSEG 2016 exactly {_WITHOUT_LESION} must "
            f"have an empty consensus. Got {got}: the files are not those of the "
            "release. Unpack them again."
        )


def _key(match: re.Match[str]) -> tuple[str, str, str]:
    """Return part, center and patient."""
    names = match.groupdict()
    center, patient = names["center"], names["patient"]
    if names.get("part"):
        return names["part"].capitalize(), center, patient
    old_name = f"{center}{patient}{names['initials'].upper()}"
    return "Training" if old_name in _OLD_TRAINING else "Testing", center, patient


SOURCE = Source(
    terms=_TERMS,
    find_cases=find_cases,
    options=("keep_empty", "allow_raw"),
    add_arguments=_add_arguments,
    description=__doc__,
    check=_check_release,
)
