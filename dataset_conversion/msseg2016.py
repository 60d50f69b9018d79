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
from pathlib import Path

from nnunet_cel.dataset_conversion.source import NIFTI, SourceCase, Terms
from nnunet_cel.scans import find_files, refuse

__all__ = ["TERMS", "add_arguments", "find_cases"]

TERMS = Terms(
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

# The current layout, and those of 2016.
_NEW = r"(?P<part>Training|Testing)/Center_(?P<center>\d\d)/Patient_(?P<patient>\d\d)"
_OLD = r"(?P<old>\d{5}[A-Z]{4})(?:_\d)?"
_FILES = [
    f"(?i)/(?:{name}){NIFTI}"
    for name in (
        f"(?:{_NEW}/Preprocessed_Data|{_OLD})/FLAIR_preprocessed",
        f"(?:{_NEW}/Raw_Data/|{_OLD}/3D)FLAIR",
        f"(?:{_NEW}/Masks|{_OLD})/Consensus",
    )
]


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of this source."""
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
    preprocessed, raw, consensus = find_files(root, _FILES, _key)
    images = raw | preprocessed
    if len({len(patient) for _, _, patient in images}) != 1:
        got = "both the current and the old layout" if images else "no such file"
        raise ValueError(
            "The folder of MSSEG 2016 must hold files such as Training/Center_01/"
            "Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz, or those of the "
            f"release of 2016, such as 01016SACH/FLAIR_preprocessed.nii. {root} holds "
            f"{got}: name the folder of one release."
        )
    if not allow_raw:
        refuse(
            (raw[case] for case in set(raw) - set(preprocessed)),
            "Every image must have a preprocessed FLAIR beside it. Got none for:",
            "Add the preprocessed tree, or take the unprocessed images, which have "
            "skull and bias field, with --allow-raw.",
        )
    refuse(
        (images[case] for case in set(images) - set(consensus)),
        "Every image must have a consensus of the raters. Got none for:",
        "Add the tree that holds the files Consensus.nii.gz.",
    )
    cases = []
    for key in sorted(images):
        part, center, patient = key
        name = f"MSSEG2016_{part[:2]}_C{center}_P{patient}"
        kind = "preprocessed" if key in preprocessed else "unprocessed"
        cases.append(
            SourceCase(
                identifier=name,
                source=TERMS.name,
                root=Path(root),
                image=images[key],
                labels=(consensus[key],),
                without_lesion="keep" if keep_empty else "exclude",
                group=name,
                stratum=TERMS.name,
                facts=dict(part=part, center=center, patient=patient, image=kind),
            )
        )
    return cases


def _key(match: re.Match[str]) -> tuple[str, str, str]:
    """Return part, center and patient."""
    if match["part"]:
        return match["part"].capitalize(), match["center"], match["patient"]
    name = match["old"].upper()
    part = "Training" if name in _OLD_TRAINING else "Testing"
    return part, name[:2], name[2:5]
