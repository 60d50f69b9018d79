"""A clinic's own scans: contrast-enhanced T1w images with outlined lesions.

The scans are described in one of three ways:

- folders: ``images*/NAME.nii.gz`` with ``labels*/NAME.nii.gz`` are found without more
  words; anything else is described by two patterns, such as
  ``--images '{subject}/T1_gado.nii.gz' --labels '{subject}/lesions.nii.gz'``;
- a BIDS data set with lesion masks in its derivatives;
- a table (CSV) with the columns ``subject,image,label`` and, if known,
  ``session,diagnosis``. Its images may be folders with a DICOM series.

As in Huang et al. 2024, scans without a lesion of more than three voxels are left out
(their inclusion criterion), and half of the patients, chosen at random, are for
testing. The other half gets the folds of a cross-validation.

Names of patients stay outside: cases are numbered, headers are written anew, and the
table that links numbers and patients is a file of its own, which only you may read.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_cel.dataset_conversion.conversion import Kept
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.dataset_conversion.splits import choose_test_groups, random_order
from nnunet_cel.files import to_csv
from nnunet_cel.scans import Scan, find_described_scans

__all__ = [
    "MIN_LESION_VOXELS",
    "add_arguments",
    "choices",
    "find_cases",
    "linking_table",
    "number_cases",
]

MIN_LESION_VOXELS = 4  # "more than three voxels"
_NAMING = ("subject", "session", "image", "label", "case", "source")


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """Add the options of this source."""
    parser.add_argument(
        "--images",
        metavar="PATTERN",
        help="where the images are, below DIR, with {subject} for the patient and, if "
        "need be, {session} for the visit",
    )
    parser.add_argument(
        "--labels", metavar="PATTERN", help="where the label maps are, likewise"
    )
    parser.add_argument(
        "--lesion-values",
        type=int,
        nargs="+",
        default=[1],
        metavar="V",
        help="values of the label maps that are lesion; any other but 0 is an error "
        "(default: 1)",
    )
    parser.add_argument(
        "--group-by",
        metavar="COLUMN",
        help="column of which training, test and folds get equal shares (default: "
        "diagnosis, where there is such a column)",
    )
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.5,
        metavar="F",
        help="share of patients for testing; 0 keeps all for cross-validation "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--linking-table",
        type=Path,
        metavar="FILE",
        help="where to write which case is which patient's scan (default: "
        "DATASET_linking_table.csv in the current folder)",
    )


def find_cases(
    source: Path | str,
    *,
    images: str | None = None,
    labels: str | None = None,
    lesion_values: Collection[int] = (1,),
    group_by: str | None = None,
) -> list[SourceCase]:
    """Return the cases of a folder, a BIDS data set or a table.

    Args:
        source: Folder, or CSV file.
        images: Pattern of the images.
        labels: Pattern of the label maps.
        lesion_values: Values of the label maps that are lesion.
        group_by: Column of the strata; None for the diagnosis if it is known.

    Returns:
        Cases that bear the names of the patients, for :func:`number_cases`.

    Raises:
        ValueError: If there is no case, or something is missing or there twice.
    """
    source = Path(source)
    if not all(1 <= value <= 255 for value in lesion_values):
        raise ValueError(
            f"The lesion values must be from 1 to 255. Got {lesion_values} instead."
        )
    column = (group_by or "diagnosis").lower()
    if column in _NAMING:
        raise ValueError(
            "The column of --group-by must not name patients or files, since its "
            f"values become part of the data set. Got {column!r} instead."
        )
    scans = find_described_scans(source, images, labels)
    strata = _column(scans, column, needed=group_by is not None)
    splits = _column(scans, "split")
    if not {*splits} <= {"train", "test"} and any(splits):
        raise ValueError(
            "The column 'split' must say train or test. Got "
            f"{', '.join(sorted({*splits}))}: mend it, or remove it."
        )
    return [
        SourceCase(
            identifier=scan.name,
            source="CEL",
            root=source.parent if source.is_file() else source,
            image=scan.image,
            labels=tuple(filter(None, [scan.label])),
            values={0: 0} | dict.fromkeys(sorted(lesion_values), 1),
            other_values_cure="name those that are lesion with --lesion-values.",
            min_lesion_voxels=MIN_LESION_VOXELS,
            without_lesion="exclude",
            group=scan.subject,
            stratum=stratum,
            facts={k: v for k, v in (("stratum", stratum), ("split", split)) if v},
        )
        for scan, stratum, split in zip(scans, strata, splits, strict=True)
    ]


def choices(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the user chose about the contents, without names of files."""
    return {
        "lesion_values": sorted(set(args.lesion_values)),
        "test_fraction": args.test_fraction,
        "group_by": args.group_by,
        "min_lesion_voxels": MIN_LESION_VOXELS,
    }


def number_cases(kept: Sequence[Kept], test_fraction: float, seed: int) -> list[Kept]:
    """Return the cases with neutral names, divided into training and test.

    Numbers, test part and folds follow the SHA-256 of the patients' images, which tells
    nobody who they are. The column ``split`` of a table decides instead, if there is
    one.

    Raises:
        ValueError: If the test fraction leaves nobody for training or for testing.
    """
    digests: dict[str, list[str]] = defaultdict(list)
    for case, found in kept:
        digests[case.group].append(found.files[case.image])
    neutral = {group: min(images) for group, images in digests.items()}
    hidden = [(replace(case, group=neutral[case.group]), f) for case, f in kept]
    if any("split" in case.facts for case, _ in hidden):
        test = {case.group for case, _ in hidden if case.facts.get("split") == "test"}
    else:
        test = choose_test_groups([case for case, _ in hidden], test_fraction, seed)
    order = {group: i for i, group in enumerate(random_order(neutral.values(), seed))}
    hidden.sort(key=lambda pair: (order[pair[0].group], pair[0].identifier))
    numbered = []
    for number, (case, found) in enumerate(hidden, start=1):
        name, split = f"CEL_{number:03d}", "test" if case.group in test else "train"
        numbered.append((replace(case, identifier=name, split=split), found))
    return numbered


def linking_table(
    original: Sequence[SourceCase],
    numbered: Sequence[Kept],
    excluded: Mapping[str, str],
) -> str:
    """Return the CSV text that links cases and patients.

    Its SHA-256 of the images are those in ``conversion.json``.

    Args:
        original: All cases as they were found.
        numbered: Those in the data set, with their neutral names.
        excluded: Names of the others, with the reason.
    """
    rows = [
        ("case", "split", "subject", "source", "image", "label", "image_sha256", "note")
    ]
    by_image = {case.image: case for case in original}
    about = [
        (by_image[case.image], case.identifier, case.split, found.files[case.image], "")
        for case, found in numbered
    ] + [
        (case, "", "", "", f"left out: {excluded[case.identifier]}")
        for case in original
        if case.identifier in excluded
    ]
    for case, number, split, digest, note in about:
        who = (number, split, case.group, case.identifier)
        rows.append((*who, str(case.image), str(case.labels[0]), digest, note))
    return to_csv(rows)


def _column(scans: Sequence[Scan], column: str, *, needed: bool = False) -> list[str]:
    """Return what a column says of the patient of each scan, empty if there is none.

    Raises:
        ValueError: If it says two things of a patient, or nothing of some; of nobody
            it may say nothing unless it is needed.
    """
    pairs = {(scan.subject, scan.row.get(column, "")) for scan in scans}
    # BIDS says n/a where nothing is known.
    known = {(subject, value) for subject, value in pairs if value not in ("", "n/a")}
    values = dict(known)
    if len(known) > len(values):
        twice = sorted({subject for subject, value in known ^ {*values.items()}})
        raise ValueError(
            f"A subject must have one {column}. Got several for {', '.join(twice)}: "
            "mend the table."
        )
    lacking = sorted({scan.subject for scan in scans} - set(values))
    if lacking and (needed or values):
        raise ValueError(
            f"Every subject must have a {column} if there is such a column. Got none "
            f"for {', '.join(lacking)}: fill the column {column!r} of the table."
        )
    return [values.get(scan.subject, "") for scan in scans]
