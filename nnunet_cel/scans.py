"""Finds cases in folders and tables: images, label maps, and which belong together.

Words:

- *case*: one image, a file or a folder with a DICOM series. It is named after its file
  without the ending and a channel number ``_0000``, a DICOM series after its folder.
- *scan*: one image of a patient with its label map.
- *pattern*: a path below the root with ``{subject}`` (and ``{session}``) where the
  patient's (and the visit's) name stands; ``*`` and ``?`` as in a shell, ``**`` for any
  folders. With no ``{subject}`` a single ``*`` stands for it.
- *table*: a CSV or TSV file with one row for each scan or patient.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_cel.image_files import (
    find_files,
    find_unique,
    holds_dicom,
    image_files,
    refuse,
    refuse_missing,
    unique,
    walk_folders,
)
from nnunet_cel.volumes import ENDINGS, split_ending

__all__ = [
    "PREPARED",
    "Scan",
    "case_name",
    "find_described_scans",
    "find_images",
    "find_label_maps",
    "is_bids",
    "is_single",
    "pair_cases",
    "pair_images",
    "read_table",
    "walk_images",
]

PREPARED = "preparation.json"
"""Name of the file by which a folder that `nnunet-cel prepare` wrote is known."""

_CHANNEL = "_0000"
_ENDING = "(?i:" + "|".join(map(re.escape, ENDINGS)) + ")"
_FOLDER_PAIRS = tuple(
    rf"(?:.*/)?{folder}(?P<session>[^/]*)/(?P<subject>[^/]+?){channel}{_ENDING}"
    for folder, channel in (("images", f"(?:{_CHANNEL})?"), ("labels", ""))
)
_BIDS_SUBJECT = r"sub-(?P<subject>[A-Za-z0-9]+)/(?:ses-(?P<session>[A-Za-z0-9]+)/)?"
_BIDS = (
    rf"{_BIDS_SUBJECT}anat/[^/]*_ce-[A-Za-z0-9]+[^/]*_T1w{_ENDING}",
    rf"derivatives/(?:.*/)?{_BIDS_SUBJECT}(?:.*/)?"
    r"[^/]*_(?:label|desc)-[A-Za-z0-9]*(?i:les|cel)[A-Za-z0-9]*"
    rf"(?:_[A-Za-z0-9]+-[A-Za-z0-9]+)*_(?:mask|dseg){_ENDING}",
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


def case_name(path: Path) -> str:
    """Return the name of the case that a file or a folder with a DICOM series holds."""
    if path.is_dir():
        return path.resolve().name
    return split_ending(path)[0].removesuffix(_CHANNEL)


def is_single(path: Path) -> bool:
    """Return whether a path is one image: a file, or a folder with a DICOM series."""
    return path.is_file() or (path.is_dir() and holds_dicom(path))


def find_images(path: Path) -> dict[str, Path]:
    """Return the images at a path by the names of their cases, in their order.

    Args:
        path: An image file, a folder with a DICOM series, or a folder of these. A
            folder in it may hold one image only, so that a label map beside an image
            is not taken for another case.

    Raises:
        OSError: If there is no such path.
        ValueError: If there is no image, two cases have the same name, or a folder in
            the folder holds several images.
    """
    if is_single(path):
        return {case_name(path): path}
    images = {image: name for image, _, name in walk_images(path)}
    if not images:
        raise ValueError(
            f"The folder {path} must hold images ({', '.join(ENDINGS)}) or folders "
            "with a DICOM series. Got none."
        )
    unique(  # some file systems do not tell a from A
        ((name.lower(), image) for image, name in images.items()),
        f"The images in {path} must have names that differ in more than the ending, "
        f"{_CHANNEL} and capitals.",
        "Rename or remove one of each.",
    )
    unique(
        ((p.parent, p) for p in images if p.is_file() and p.parent != path),
        f"A folder in {path} must hold one image.",
        "Name that folder itself to take all of its images, or put the images that "
        "you mean into one folder.",
    )
    return dict(sorted((name, image) for image, name in images.items()))


def walk_images(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the images at any depth: path, name, and name joined with the folders'.

    A file ``patient1/T1.nii.gz`` has the joined name ``patient1_T1``. Folders that
    `nnunet-cel prepare` wrote are left out.

    Raises:
        OSError: If there is no such folder.
        ValueError: If a folder holds image files and a DICOM series.
    """
    for path, subfolders, files in walk_folders(folder):
        images = files
        if path != folder and (path / PREPARED).is_file():
            subfolders.clear()
            continue
        if path != folder and holds_dicom(path):
            subfolders.clear()
            images = [path]
        for image in images:
            *parts, _ = image.relative_to(folder).parts
            yield image, case_name(image), "_".join((*parts, case_name(image)))


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Return the label map of each case in a folder, in the order of their names.

    Raises:
        OSError: If there is no such folder.
        ValueError: If it has no label map, or two of one case.
    """
    files = image_files(folder)
    if not files:
        raise ValueError(
            f"The folder {folder} must have label maps, such as CASE.nii.gz. It has "
            "none: name the folder that nnUNetv2_predict wrote, or labelsTs."
        )
    found = unique(
        ((split_ending(file)[0], file) for file in files),
        f"The folder {folder} must have one label map for each case.",
        "Move one away.",
    )
    return dict(sorted(found.items()))


def pair_images(folder: Path, cases: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Return the images of each case by channel, such as ``0000``.

    The channel of an image without a number, ``CASE.nii.gz``, is empty. Images of other
    cases are left out.

    Raises:
        OSError: If there is no such folder.
        ValueError: If a case has no image; the message lists all of them.
    """
    found: dict[str, dict[str, Path]] = {case: {} for case in cases}
    for path in image_files(folder):
        name, _ = split_ending(path)
        case, _, channel = name.rpartition("_")
        if name in found:
            found[name][""] = path
        elif case in found and re.fullmatch(r"\d{4}", channel):
            found[case][channel] = path
    missing = [case for case, images in found.items() if not images]
    if missing:
        raise ValueError(
            f"The folder {folder} must have an image of each case, such as "
            f"{missing[0]}_0000.nii.gz. It has none of {', '.join(missing)}."
        )
    return found


def pair_cases(
    predictions: Path, references: Path, *, subset: bool = False
) -> dict[str, tuple[Path, Path]]:
    """Return prediction and reference of each case.

    Args:
        predictions: Folder of the predictions.
        references: Folder of the references.
        subset: Whether references without a prediction are left out.

    Raises:
        OSError: If there is no such folder.
        ValueError: If a file has no partner; the message lists all of them.
    """
    predicted, true = find_label_maps(predictions), find_label_maps(references)
    missing = [] if subset else sorted(set(true) - set(predicted))
    surplus = sorted(set(predicted) - set(true))
    if missing or surplus:
        raise ValueError(
            "Predictions and references must be of the same cases, with the same "
            f"names. {len(missing)} of {len(true)} references have no prediction: "
            f"{', '.join(missing) or 'none'} (--subset allows that). {len(surplus)} of "
            f"{len(predicted)} predictions have no reference: "
            f"{', '.join(surplus) or 'none'}."
        )
    return {name: (predicted[name], true[name]) for name in predicted}


def find_described_scans(
    source: Path, images: str | None = None, labels: str | None = None
) -> list[Scan]:
    """Return the scans of a table, of two patterns, of a BIDS data set or of folders.

    - A table has the columns ``subject``, ``image``, ``label``; paths are relative to
      its folder. Several rows of a patient are several scans, whose visits a column
      ``session`` can name.
    - A BIDS data set has images ``sub-*/[ses-*/]anat/*_ce-*_T1w.nii.gz``, and masks in
      ``derivatives`` named ``*_label-lesion_mask``, ``*_desc-lesion_mask`` or with
      ``CEL``. Columns of ``participants.tsv`` are read.
    - Otherwise folders such as ``imagesTr`` and ``labelsTr`` pair. Where there are
      several such pairs, what stands behind ``images`` is the session.

    Args:
        source: CSV or TSV file, or folder.
        images: Pattern of the images, such as ``{subject}/T1_gado.nii.gz``.
        labels: Pattern of the label maps.

    Raises:
        ValueError: If there is no scan, a file is missing, only one pattern is given or
            does not say where the patient stands, or names are alike.
    """
    if (images is None) != (labels is None):
        raise ValueError(
            "The patterns of images and label maps must be given together. Got only "
            f"{'--images' if images else '--labels'}."
        )
    if source.is_file():
        scans = _scans_of_table(source)
    elif images is not None and labels is not None:
        scans = _pair(source, _to_regex(images), _to_regex(labels))
    elif is_bids(source):
        scans = _pair(source, *_BIDS)
        participants = source / "participants.tsv"
        if participants.is_file():
            rows = read_table(participants, required=("participant_id",))
            known = {row["participant_id"].removeprefix("sub-"): row for row in rows}
            scans = [replace(scan, row=known.get(scan.subject, {})) for scan in scans]
    else:
        scans = _pair(source, *_FOLDER_PAIRS)
        if len({scan.session for scan in scans}) == 1:
            scans = [replace(scan, session="") for scan in scans]
    # Nobody may be two patients, of whom one is in training and one in test.
    _refuse_alike("patients", {scan.subject for scan in scans})
    _refuse_alike("scans", [scan.name for scan in scans])
    return scans


def is_bids(folder: Path) -> bool:
    """Return whether a folder is a BIDS data set."""
    return (folder / "dataset_description.json").is_file()


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
        separator = max(",;\t", key=text.lstrip().partition("\n")[0].count)
        read = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        table = [cells for cells in map(_cleaned, read) if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"The table {file} must be CSV or TSV in UTF-8. It cannot be read: "
            f'{error}. Save it anew, as "CSV UTF-8".'
        ) from error
    columns = [name.lower() for name in table[0]] if table else []
    if not set(required) <= set(columns) or len(set(columns)) != len(columns):
        raise ValueError(
            f"The table {file} must have the columns {', '.join(required)}, each once. "
            f"Got {', '.join(columns) or 'none'}: name them in its first line."
        )
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
        if len(cells) > len(columns) or not all(row[name] for name in required):
            raise ValueError(
                f"Row {number} of the table {file} must have one cell for each column "
                f"({', '.join(columns)}), and {', '.join(required)} not empty. Got "
                f"{', '.join(cells)}."
            )
        rows.append(row)
    return rows


def _cleaned(cells: list[str]) -> list[str]:
    """Return the cells of a row without blanks, and without empty ones at the end."""
    # An apostrophe before a formula was put there so that no spreadsheet runs it.
    row = [re.sub(r"^'(?=[=+@\t\r-])", "", " ".join(cell.split())) for cell in cells]
    while row and not row[-1]:
        row.pop()
    return row


def _scans_of_table(file: Path) -> list[Scan]:
    """Return the scans that the rows of a table name."""
    visits: Counter[str] = Counter()
    scans = []
    for row in read_table(file, required=("subject", "image", "label")):
        subject = row["subject"]
        visits[subject] += 1
        session = row.get("session") or (str(visits[subject]) * (visits[subject] > 1))
        image, label = (file.parent / row[name] for name in ("image", "label"))
        scans.append(Scan(subject, session, image, label, row))
    refuse(
        [path for s in scans for path in (s.image, s.label) if not path.exists()],
        f"The files in {file} must exist. Absent are:",
        "Paths are relative to the folder of the table.",
    )
    return scans


def _pair(root: Path, images: str, labels: str) -> list[Scan]:
    """Return images and label maps of the same subject and session.

    Args:
        root: A folder.
        images: Regular expression of the paths of images below it.
        labels: That of label maps.
    """
    start = re.escape(root.absolute().as_posix())
    files = find_files(root)
    found, masks = (
        find_unique(files, re.compile(f"^{start}/{pattern}$"), _subject, what=what)
        for pattern, what in ((images, "images"), (labels, "label maps"))
    )
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
    return [Scan(*key, found[key], masks[key]) for key in sorted(found)]


def _subject(match: re.Match[str]) -> tuple[str, str]:
    """Return subject and session."""
    names = match.groupdict()
    return unicodedata.normalize("NFC", names["subject"]), names.get("session") or ""


def _to_regex(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    if "{subject}" not in pattern and len(re.findall(r"\*+", pattern)) == 1:
        pattern = re.sub(r"\*+", "{subject}", pattern)
    if "{subject}" not in pattern:
        raise ValueError(
            "A pattern must say where the patient's name stands, for example "
            f"'{{subject}}/T1_gado.nii.gz'. Got {pattern!r} instead."
        )
    regex = re.escape(pattern)
    for sign, part in (("**/", "(?:.*/)?"), ("*", "[^/]*"), ("?", "[^/]")):
        regex = regex.replace(re.escape(sign), part)
    for name in ("subject", "session"):  # the same where it stands again
        sign = re.escape(f"{{{name}}}")
        regex = regex.replace(sign, f"(?P<{name}>[^/]+?)", 1)
        regex = regex.replace(sign, f"(?P={name})")
    return regex


def _refuse_alike(what: str, names: Iterable[str]) -> None:
    """Refuse names that differ in nothing but what people write now so and now so."""
    plain = defaultdict(list)
    for name in names:
        letters = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name))
        plain[letters.casefold()].append(name)
    alike = [sorted(several) for several in plain.values() if len(several) > 1]
    if alike:
        raise ValueError(
            f"The names of {what} must differ in more than signs and capitals. Got "
            f"{'; '.join(' and '.join(names) for names in alike)}: rename one of each."
        )
