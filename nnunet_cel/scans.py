"""Finds cases in folders and tables: images, label maps, and which belong together.

Words:

- *case*: one image, a file or a folder with a DICOM series. It is named after its file
  without the ending and a channel number ``_0000``, a DICOM series after its folder.
- *scan*: one image of a patient with its label map.
- *pattern*: a path below the root with ``{subject}`` (and ``{session}``) where the
  patient's (and the visit's) name stands; ``*`` and ``?`` as in a shell, ``**`` for any
  folders. With no ``{subject}`` a single ``*`` stands for it.
- *table*: a CSV or TSV file with one row for each scan or patient.

Hidden files, resource files of macOS and files of other kinds are no images.
"""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from nnunet_cel.csv_text import unguard
from nnunet_cel.dicom import dicom_files
from nnunet_cel.volumes import ENDINGS, split_ending

__all__ = [
    "PREPARED",
    "Scan",
    "case_name",
    "find_bids_scans",
    "find_described_scans",
    "find_files",
    "find_folder_pairs",
    "find_images",
    "find_label_maps",
    "find_scans",
    "find_unique",
    "is_bids",
    "is_single",
    "pair_cases",
    "pair_images",
    "raise_together",
    "read_scan_table",
    "read_table",
    "refuse_missing",
    "walk_images",
]

Key = TypeVar("Key", bound=Hashable)

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


def find_files(root: Path | str) -> list[Path]:
    """Return all files below a folder that may be images, in the order of their names.

    Hidden files and folders, ``__MACOSX`` and unfinished downloads are left out.
    Links to folders are followed.

    Raises:
        NotADirectoryError: If the root is no folder.
        PermissionError: If a folder below it cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise NotADirectoryError(f"The folder of a source must exist. Got {root}.")

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = sorted(name for name in subfolders if not _is_dirt(name))
        if real in seen:  # a link that leads back
            subfolders.clear()
            continue
        seen.add(real)
        _check_name(folder)
        found += [
            Path(folder, name)
            for name in names
            if name.lower().endswith(ENDINGS) and not _is_dirt(name)
        ]
    return sorted(found)


def find_unique(
    files: Iterable[Path],
    pattern: re.Pattern[str],
    key: Callable[[re.Match[str]], Key],
    *,
    what: str,
) -> dict[Key, Path]:
    """Return the files whose path matches a pattern, by a key made from the match.

    Args:
        files: Files to look at.
        pattern: Searched in the absolute path with ``/`` between folders.
        key: Makes the key, for example subject and time point.
        what: What the files are, for the message, for example ``"FLAIR images"``.

    Raises:
        ValueError: If several files have the same key.
    """
    found: dict[Key, list[Path]] = defaultdict(list)
    for file in files:
        match = pattern.search(file.absolute().as_posix())
        if match:
            found[key(match)].append(file)
    several = [paths for paths in found.values() if len(paths) > 1]
    if several:
        lists = "\n".join("  " + "\n  ".join(map(str, paths)) for paths in several)
        raise ValueError(
            f"There must be one file for each case among the {what}. Got several of "
            f"{len(several)} cases:\n{lists}\nName the folder of one copy only."
        )
    return {case: paths[0] for case, paths in found.items()}


def refuse_missing(files: Iterable[Path], *, what: str, cure: str) -> None:
    """Refuse images that lack something, naming all of them.

    Raises:
        ValueError: If there is any file.
    """
    lacking = sorted(files)
    if lacking:
        names = "\n".join(f"  {file}" for file in lacking)
        raise ValueError(
            f"Every image must have {what}. There is none for {len(lacking)}:\n"
            f"{names}\n{cure}"
        )


def _check_name(folder: str) -> None:
    """Refuse a name that cannot be recorded, before any work."""
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The names of folders must be UTF-8. Got {folder!r}: rename it."
        ) from error


def _is_dirt(name: str) -> bool:
    """Return whether a name is that of a resource fork or an unfinished download."""
    return name.startswith(".") or name == "__MACOSX" or name.endswith(".part")


_CHANNEL = "_0000"

PREPARED = "preparation.json"
"""Name of the file by which a folder that `nnunet-cel prepare` wrote is known."""


def case_name(path: Path) -> str:
    """Return the name of the case that a file or a folder with a DICOM series holds."""
    if path.is_dir():
        return path.resolve().name
    return split_ending(path)[0].removesuffix(_CHANNEL)


def is_single(path: Path) -> bool:
    """Return whether a path is one image: a file, or a folder with a DICOM series."""
    return path.is_file() or (path.is_dir() and _holds_dicom(path))


def find_images(path: Path) -> dict[str, Path]:
    """Return the images at a path by the names of their cases, in their order.

    Args:
        path: An image file, a folder with a DICOM series, or a folder of these. A
            folder in it may hold one image only, so that a label map beside an image
            is not taken for another case.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: If there is no image, two cases have the same name, or a folder in
            the folder holds several images.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if is_single(path):
        return {case_name(path): path}
    images: dict[str, Path] = {}
    taken: dict[str, Path] = {}
    clashes = []
    for image, _, name in walk_images(path):
        # Some file systems do not tell a from A.
        other = taken.setdefault(name.lower(), image)
        if other is not image:
            clashes.append(f"  {name}: {other} and {image}")
        images[name] = image
    if clashes:
        lines = "\n".join(clashes)
        raise ValueError(
            f"The images in {path} must have names that differ in more than the "
            f"ending, {_CHANNEL} and capitals. Got the same name for\n{lines}\nRename "
            "or remove one of each."
        )
    if not images:
        raise ValueError(
            f"The folder {path} must hold images ({', '.join(ENDINGS)}) or folders "
            "with a DICOM series. Got none."
        )
    _refuse_neighbors(path, images)
    return dict(sorted(images.items()))


def walk_images(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the images at any depth: path, name, and name joined with the folders'.

    Raises:
        ValueError: If a folder holds image files and a DICOM series.
    """
    for path in _walk(folder):
        parts = path.relative_to(folder).parts[:-1]
        yield path, case_name(path), "_".join((*parts, case_name(path)))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield image files and folders with DICOM series below a folder."""
    entries = [path for path in sorted(folder.iterdir()) if not _is_hidden(path)]
    files = [path for path in entries if path.is_file() and split_ending(path)[1]]
    yield from files
    for path in entries:
        if path.is_dir():
            if _holds_dicom(path):
                yield path
            elif not (path / PREPARED).is_file():
                yield from _walk(path)


def _holds_dicom(folder: Path) -> bool:
    """Return whether DICOM files lie in a folder itself."""
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not _is_hidden(path)
    ]
    if all(split_ending(path)[1] for path in dicom_files(folder)):
        return False
    images = [path.name for path in files if split_ending(path)[1]]
    if images:
        raise ValueError(
            f"The folder {folder} must hold a DICOM series or image files. Got both, "
            f"for example {images[0]}: move one of them."
        )
    return True


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _refuse_neighbors(root: Path, images: dict[str, Path]) -> None:
    """Refuse several images in one folder of the folder."""
    first: dict[Path, Path] = {}
    for image in images.values():
        if image.parent == root or image.is_dir():
            continue
        other = first.setdefault(image.parent, image)
        if other is not image:
            raise ValueError(
                f"A folder in {root} must hold one image. Got {other.name} and "
                f"{image.name} in {image.parent}: name that folder itself to take all "
                "of its images, or put the images that you mean into one folder."
            )


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Return the label map of each case in a folder, in the order of their names.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no label map, or two of one case.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        name, ending = split_ending(path)
        if not ending or not path.is_file() or name.startswith("."):
            continue
        if name in found:
            twice.append(f"{found[name].name} and {path.name}")
        found[name] = path
    if twice:
        raise ValueError(
            f"The folder {folder} must have one label map for each case. Got "
            f"{', '.join(twice)}: move one away."
        )
    if not found:
        raise ValueError(
            f"The folder {folder} must have label maps, such as CASE.nii.gz. It has "
            "none: name the folder that nnUNetv2_predict wrote, or labelsTs."
        )
    return dict(sorted(found.items()))


def pair_images(folder: Path, cases: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Return the images of each case by channel, such as ``0000``.

    The channel of an image without a number, ``CASE.nii.gz``, is empty.

    Args:
        folder: Folder of the images, of other cases, too.
        cases: Names of the cases.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a case has no image; the message lists all of them.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[str, dict[str, Path]] = {case: {} for case in cases}
    for path in sorted(folder.iterdir()):
        name, ending = split_ending(path)
        if not ending:
            continue
        numbered = re.fullmatch(r"(.*)_(\d{4})", name)
        if name in found:
            found[name][""] = path
        elif numbered and numbered[1] in found:
            found[numbered[1]][numbered[2]] = path
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
        FileNotFoundError: If there is no such folder.
        ValueError: If a file has no partner; the message lists all of them.
    """
    predicted, true = find_label_maps(predictions), find_label_maps(references)
    problems = []
    missing = sorted(set(true) - set(predicted))
    if missing and not subset:
        problems.append(
            f"{len(missing)} of {len(true)} references have no prediction: "
            f"{', '.join(missing)}. Predict them, or allow it with --subset."
        )
    surplus = sorted(set(predicted) - set(true))
    if surplus:
        problems.append(
            f"{len(surplus)} of {len(predicted)} predictions have no reference: "
            f"{', '.join(surplus)}. Move them away, or add the references."
        )
    if problems:
        raise ValueError(
            "Predictions and references must be of the same cases, with the same "
            f"names. {' '.join(problems)}"
        )
    return {name: (predicted[name], true[name]) for name in predicted}


def raise_together(messages: Iterable[str]) -> None:
    """Raise one error that lists all messages, if there are any.

    Raises:
        ValueError: If there is a message.
    """
    problems = list(messages)
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"{len(problems)} cases have problems:\n{listed}")
