"""Finds images and lesion masks in the folders of a clinic.

Words:

- *pattern*: a path below the root with ``{subject}`` (and ``{session}``) where the
  patient's (and the visit's) name stands; ``*`` and ``?`` as in a shell, ``**`` for any
  folders. With no ``{subject}`` a single ``*`` stands for it.
- *scan*: one image of a patient with its label map.
- *table*: a CSV or TSV file with one row for each scan or patient.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_cel.csv_text import unguard
from nnunet_cel.dataset_conversion.source import (
    find_files,
    find_unique,
    refuse_missing,
)
from nnunet_cel.volumes import ENDINGS

__all__ = [
    "Scan",
    "find_bids_scans",
    "find_described_scans",
    "find_folder_pairs",
    "find_scans",
    "is_bids",
    "read_scan_table",
    "read_table",
]

_LONGEST_NAME = 100  # the names of files have an end, too
_ENDING = "(?i:" + "|".join(map(re.escape, ENDINGS)) + ")$"
_BIDS_SUBJECT = r"/sub-(?P<subject>[A-Za-z0-9]+)/(?:ses-(?P<session>[A-Za-z0-9]+)/)?"
_BIDS_IMAGE = _BIDS_SUBJECT + r"anat/[^/]*_ce-[A-Za-z0-9]+[^/]*_T1w" + _ENDING
_BIDS_LABEL = (
    "/derivatives/(?:.*/)?"
    + _BIDS_SUBJECT.removeprefix("/")
    + r"(?:.*/)?[^/]*_(?:label|desc)-[A-Za-z0-9]*(?i:les|cel)[A-Za-z0-9]*"
    + r"(?:_[A-Za-z0-9]+-[A-Za-z0-9]+)*_(?:mask|dseg)"
    + _ENDING
)


@dataclass(frozen=True)
class Scan:
    """One image of a patient with its label map.

    Args:
        subject: Name of the patient.
        session: Name of the visit, empty if there is only one.
        image: File, or folder with a DICOM series.
        label: File of the label map.
        row: Further columns of the table, such as the diagnosis.
    """

    subject: str
    session: str
    image: Path
    label: Path
    row: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the scan that can be part of the name of a file."""
        name = "_".join(filter(None, (self.subject, self.session)))
        return re.sub(r"[^\w.+-]+", "_", name).strip(".") or "_"


def find_described_scans(
    source: Path, images: str | None = None, labels: str | None = None
) -> list[Scan]:
    """Return the scans of a table, of two patterns, of a BIDS data set or of folders.

    Args:
        source: CSV or TSV file, or folder.
        images: Pattern of the images.
        labels: Pattern of the label maps.

    Raises:
        ValueError: If there is no scan, only one pattern is given, or two scans have
            the same name.
    """
    if (images is None) != (labels is None):
        raise ValueError(
            "The patterns of images and label maps must be given together. Got only "
            f"{'--images' if images else '--labels'}."
        )
    if source.is_file():
        scans = read_scan_table(source)
    elif images is not None and labels is not None:
        scans = find_scans(source, images, labels)
    elif is_bids(source):
        scans = find_bids_scans(source)
    else:
        scans = find_folder_pairs(source)
    _check_names(scans)
    return scans


def _check_names(scans: Sequence[Scan]) -> None:
    """Refuse names that may be the same patient's or scan's, and too long ones."""
    spellings: dict[str, str] = {}
    first: dict[str, Scan] = {}
    for scan in scans:
        spelling = spellings.setdefault(_plain(scan.subject), scan.subject)
        if spelling != scan.subject:
            raise ValueError(
                "The name of a patient must always be spelled in the same way. Got "
                f"{spelling!r} and {scan.subject!r}, which differ in nothing but signs "
                "and capitals: a patient could be in training and test."
            )
        other = first.setdefault(_plain(scan.name), scan)
        if other is not scan:
            raise ValueError(
                "Scans must have names that differ in more than signs and capitals. "
                f"Got {scan.name} for {scan.image} and {other.name} for {other.image}: "
                "rename a subject or session."
            )
        if len(scan.name) > _LONGEST_NAME:
            raise ValueError(
                f"The name of a scan must have at most {_LONGEST_NAME} letters. Got "
                f"{len(scan.name)} in {scan.name[:40]}...: use a shorter one."
            )


def _plain(name: str) -> str:
    """Return a name without what people write now so and now so."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def is_bids(folder: Path) -> bool:
    """Return whether a folder is a BIDS data set."""
    return (folder / "dataset_description.json").is_file()


def find_scans(root: Path, images: str, labels: str) -> list[Scan]:
    """Return the scans that two patterns describe.

    Args:
        root: Folder from which the patterns start.
        images: Pattern of the images, such as ``{subject}/T1_gado.nii.gz``.
        labels: Pattern of the label maps.

    Raises:
        ValueError: If a pattern does not say where the patient stands, nothing matches,
            or an image has no label map.
    """
    return _pair(root, _to_regex(root, images), _to_regex(root, labels))


def find_folder_pairs(root: Path) -> list[Scan]:
    """Return the scans in folders such as ``imagesTr`` and ``labelsTr``.

    The image may end in ``_0000``, as in nnU-Net. Where there are several such pairs of
    folders, what stands behind ``images`` is the session.
    """
    name = r"(?P<session>[^/]*)/(?P<subject>[^/]+?)"
    start = re.escape(_as_posix(root)) + "/(?:.*/)?"
    scans = _pair(
        root,
        f"^{start}images{name}(?:_0000)?{_ENDING}",
        f"^{start}labels{name}{_ENDING}",
    )
    if len({scan.session for scan in scans}) == 1:
        return [replace(scan, session="") for scan in scans]
    return scans


def find_bids_scans(root: Path) -> list[Scan]:
    """Return contrast-enhanced T1w images of a BIDS data set with their lesion masks.

    Images are ``sub-*/[ses-*/]anat/*_ce-*_T1w.nii.gz``; masks lie in ``derivatives``
    and are named ``*_label-lesion_mask``, ``*_desc-lesion_mask`` or with ``CEL``.
    Columns of ``participants.tsv`` are read.
    """
    start = "^" + re.escape(_as_posix(root))
    scans = _pair(root, start + _BIDS_IMAGE, start + _BIDS_LABEL)
    participants = root / "participants.tsv"
    if not participants.is_file():
        return scans
    rows = {
        row["participant_id"].removeprefix("sub-"): row
        for row in read_table(participants, required=("participant_id",))
    }
    return [replace(scan, row=rows.get(scan.subject, {})) for scan in scans]


def read_scan_table(file: Path) -> list[Scan]:
    """Return the scans of a table with the columns ``subject``, ``image``, ``label``.

    Paths are relative to the folder of the table. Several rows of a patient are several
    scans; a column ``session`` can name the visits.

    Raises:
        ValueError: If a column or cell is missing, or a file does not exist.
    """
    rows = read_table(file, required=("subject", "image", "label"))
    visits: Counter[str] = Counter()
    scans = []
    for row in rows:
        subject = row["subject"]
        visits[subject] += 1
        session = row.get("session") or (str(visits[subject]) * (visits[subject] > 1))
        image, label = (Path(file.parent, row[name]) for name in ("image", "label"))
        scans.append(Scan(subject, session, image, label, row))
    absent = [path for s in scans for path in (s.image, s.label) if not path.exists()]
    if absent:
        names = "\n".join(f"  {path}" for path in absent)
        raise ValueError(
            f"The files in {file} must exist; paths are relative to its folder. "
            f"{len(absent)} do not:\n{names}"
        )
    return scans


def read_table(file: Path, *, required: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table, separated by comma, semicolon or tab.

    Names of columns are in lower case, and blanks around cells are removed.

    Args:
        file: CSV or TSV in UTF-8, with or without byte order mark.
        required: Columns that must be there and have no empty cell.

    Raises:
        ValueError: If the file is not such a table.
    """
    try:
        text = unicodedata.normalize("NFC", file.read_text(encoding="utf-8-sig"))
        tables = [_parse(text, separator) for separator in ",;\t"]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"The table {file} must be CSV or TSV in UTF-8. It cannot be read: "
            f'{error}. Save it anew, as "CSV UTF-8".'
        ) from error
    table = max(tables, key=lambda rows: len(set(required) & {*_header(rows)}))
    columns = _header(table)
    missing = [name for name in required if name not in columns]
    if missing or len(set(columns)) != len(columns):
        raise ValueError(
            f"The table {file} must have the columns {', '.join(required)}, each once. "
            f"Got {', '.join(columns) or 'none'}: name them in its first line."
        )
    if len(table) < 2:
        raise ValueError(
            f"The table {file} must have a row below the names of its columns. It has "
            "none: is it the right file?"
        )
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        row = dict(zip(columns, cells, strict=False))
        empty = [name for name in required if not row.get(name)]
        if empty or len(cells) > len(columns):
            raise ValueError(
                f"Row {number} of the table {file} must have one cell for each column "
                f"({', '.join(columns)}), and {', '.join(required)} not empty. Got "
                f"{', '.join(cells)}."
            )
        rows.append({name: row.get(name, "") for name in columns})
    return rows


def _parse(text: str, separator: str) -> list[list[str]]:
    """Return the rows of a table that are not empty, without empty cells at the end."""
    rows = []
    for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        row = [" ".join(unguard(cell).split()) for cell in cells]
        while row and not row[-1]:
            row.pop()
        if row and not row[0].lower().startswith("sep="):  # a hint for Excel
            rows.append(row)
    return rows


def _header(table: list[list[str]]) -> list[str]:
    """Return the names of the columns."""
    return [name.lower() for name in table[0]] if table else []


def _pair(root: Path, images: str, labels: str) -> list[Scan]:
    """Return images and label maps of the same subject and session."""
    files = find_files(root)
    found = find_unique(files, re.compile(images), _key, what="images")
    masks = find_unique(files, re.compile(labels), _key, what="label maps")
    if not found:
        raise ValueError(
            f"The folder {root} must hold images that are named as expected. It holds "
            "none: describe them with --images and --labels, such as --images "
            "'{subject}/T1_gado.nii.gz' --labels '{subject}/lesions.nii.gz', or in a "
            "CSV table."
        )
    refuse_missing(
        (file for key, file in found.items() if key not in masks),
        what="a label map of the same subject",
        cure="Add an empty one for a scan without lesion, or mend the pattern.",
    )
    return [
        Scan(subject, session, found[subject, session], masks[subject, session])
        for subject, session in sorted(found)
    ]


def _key(match: re.Match[str]) -> tuple[str, str]:
    """Return subject and session."""
    names = match.groupdict()
    subject = unicodedata.normalize("NFC", names["subject"])
    return subject, names.get("session") or ""


def _to_regex(root: Path, pattern: str) -> str:
    """Return the regular expression of a pattern."""
    if "{subject}" not in pattern and len(re.findall(r"\*+", pattern)) == 1:
        pattern = re.sub(r"\*+", "{subject}", pattern)
    if "{subject}" not in pattern:
        raise ValueError(
            "A pattern must say where the patient's name stands, for example "
            f"'{{subject}}/T1_gado.nii.gz'. Got {pattern!r} instead."
        )
    names: set[str] = set()
    parts = []
    for part in re.split(r"(\{subject\}|\{session\}|\*\*/|\*|\?)", pattern):
        if part in ("{subject}", "{session}"):
            name = part[1:-1]
            parts.append(f"(?P={name})" if name in names else f"(?P<{name}>[^/]+?)")
            names.add(name)
        else:
            shell = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
            parts.append(shell.get(part, re.escape(part)))
    return f"^{re.escape(_as_posix(root))}/{''.join(parts)}$"


def _as_posix(root: Path) -> str:
    return root.absolute().as_posix()
