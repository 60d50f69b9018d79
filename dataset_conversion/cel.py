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
import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_cel.dataset_conversion.clinic_files import (
    Scan,
    find_described_scans,
    read_table,
)
from nnunet_cel.dataset_conversion.conversion import Inspection
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.dataset_conversion.splits import choose_test_groups, random_order

__all__ = [
    "MIN_LESION_VOXELS",
    "add_arguments",
    "find_cases",
    "linking_table",
    "number_cases",
]

_SOURCE = "CEL"
MIN_LESION_VOXELS = 4  # "more than three voxels"
_DIAGNOSIS = "diagnosis"


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
        "--table",
        type=Path,
        metavar="FILE",
        help="CSV with the column subject and that of --group-by, for folders",
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
    table: Path | None = None,
    group_by: str | None = None,
) -> list[SourceCase]:
    """Return the cases of a folder, a BIDS data set or a table.

    Args:
        source: Folder, or CSV file.
        images: Pattern of the images.
        labels: Pattern of the label maps.
        lesion_values: Values of the label maps that are lesion.
        table: CSV with columns of the patients.
        group_by: Column of the strata; None for the diagnosis if it is known.

    Returns:
        Cases that bear the names of the patients, for :func:`number_cases`.

    Raises:
        ValueError: If there is no case, or something is missing or there twice.
    """
    source = Path(source)
    if not lesion_values or not all(1 <= value <= 255 for value in lesion_values):
        raise ValueError(
            "The lesion values must be from 1 to 255. Got "
            f"{', '.join(map(str, lesion_values)) or 'none'} instead."
        )
    scans = find_described_scans(source, images, labels)
    strata = _strata(scans, table, group_by)
    column = group_by or _DIAGNOSIS
    return [
        SourceCase(
            identifier=scan.name,
            source=_SOURCE,
            root=source.parent if source.is_file() else source,
            image=scan.image,
            labels=(scan.label,),
            values={0: 0} | dict.fromkeys(sorted(lesion_values), 1),
            min_lesion_voxels=MIN_LESION_VOXELS,
            without_lesion="exclude",
            group=scan.subject,
            stratum=stratum,
            facts={column: stratum} if stratum else {},
        )
        for scan, stratum in zip(scans, strata, strict=True)
    ]


def number_cases(
    selected: Sequence[tuple[SourceCase, Inspection]],
    *,
    test_fraction: float,
    seed: int,
) -> list[tuple[SourceCase, Inspection]]:
    """Return the cases with neutral names, divided into training and test.

    The numbers follow a random order of the patients.

    Raises:
        ValueError: If the test fraction leaves nobody for training.
    """
    cases = [case for case, _ in selected]
    test = choose_test_groups(cases, test_fraction, seed)
    groups = {case.group for case in cases}
    order = {group: i for i, group in enumerate(random_order(groups, seed))}
    arranged = sorted(
        selected, key=lambda pair: (order[pair[0].group], pair[0].identifier)
    )
    return [
        (
            replace(
                case,
                identifier=f"CEL_{number:03d}",
                split="test" if case.group in test else "train",
            ),
            found,
        )
        for number, (case, found) in enumerate(arranged, start=1)
    ]


def linking_table(
    original: Sequence[SourceCase],
    numbered: Sequence[tuple[SourceCase, Inspection]],
    excluded: Mapping[str, str],
) -> str:
    """Return the CSV text that links cases and patients.

    Args:
        original: All cases as they were found.
        numbered: Those in the data set, with their neutral names.
        excluded: Names of the others, with the reason.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "split", "subject", "source", "image", "label", "note"])
    by_image = {case.image: case.identifier for case in original}

    def write(case: SourceCase, identifier: str, split: str, note: str) -> None:
        files = (case.image, case.labels[0])
        writer.writerow(
            [identifier, split, case.group, by_image[case.image], *files, note]
        )

    for case, _ in numbered:
        write(case, case.identifier, case.split, "")
    for case in original:
        if case.identifier in excluded:
            write(case, "", "", f"left out: {excluded[case.identifier]}")
    return text.getvalue()


def _strata(
    scans: Sequence[Scan], table: Path | None, group_by: str | None
) -> list[str]:
    """Return the stratum of each scan, empty where nothing is known."""
    column = (group_by or _DIAGNOSIS).lower()
    rows = {scan.subject: scan.row for scan in scans}
    if table is not None:
        rows |= {
            row["subject"]: row for row in read_table(table, required=("subject",))
        }
    values = [rows[scan.subject].get(column, "") for scan in scans]
    lacking = sorted(
        {s.subject for s, value in zip(scans, values, strict=True) if not value}
    )
    if lacking and (
        group_by is not None or len(lacking) < len({s.subject for s in scans})
    ):
        raise ValueError(
            f"Every subject must have a {column}, of which training and test get equal "
            f"shares. Got none for {', '.join(lacking)}: fill the column {column!r} of "
            "the table."
        )
    return values
