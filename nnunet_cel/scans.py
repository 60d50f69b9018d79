"""Finds cases in folders and tables: images, label maps, and which belong together.

Words:

- *case*: one image, a file or a folder with a DICOM series. It is named after its file
  without the ending and a channel number ``_0000``, a DICOM series after its folder.
- *scan*: one image of a patient with its label map.
- *pattern*: a path below the root with ``{subject}`` (and ``{session}``) where the
  patient's (and the visit's) name stands; ``*`` and ``?`` as in a shell, ``**`` for any
  folders. With no ``{subject}`` a single ``*`` stands for it.
- *table*: a CSV or TSV file with one row for each scan or patient.

Hidden files and folders, resource files of macOS and other kinds of files are left out.
A folder that is not there is a FileNotFoundError everywhere.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from nnunet_cel.dicom import dicom_files
from nnunet_cel.files import read_table
from nnunet_cel.volumes import ENDINGS, split_ending

__all__ = [
    "PREPARED",
    "Scan",
    "case_name",
    "find_described_scans",
    "find_files",
    "find_images",
    "find_label_maps",
    "is_bids",
    "is_single",
    "pair_cases",
    "pair_images",
    "refuse",
    "walk_images",
]

Key = TypeVar("Key", bound=Hashable)

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
        label: File of the label map, None if there is none.
        row: Further columns of the table, such as the diagnosis.
    """

    subject: str
    session: str
    image: Path
    label: Path | None
    row: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the scan that can be part of the name of a file."""
        name = "_".join(filter(None, (self.subject, self.session)))
        return re.sub(r"[^\w.+-]+", "_", name).strip(".") or "_"


def refuse(paths: Iterable[Path], rule: str, cure: str) -> None:
    """Raise one ValueError that lists all paths that break a rule, if any do."""
    wrong = sorted(paths)
    if wrong:
        raise ValueError("\n  ".join((rule, *map(str, wrong))) + f"\n{cure}")


def _unique(pairs: Iterable[tuple[Key, Path]], rule: str, cure: str) -> dict[Key, Path]:
    """Return paths by their keys, and refuse several of one key."""
    found: dict[Key, list[Path]] = defaultdict(list)
    for key, path in pairs:
        found[key].append(path)
    several = [path for paths in found.values() if len(paths) > 1 for path in paths]
    refuse(several, f"{rule} Got several of one case:", cure)
    return {key: path for key, (path,) in found.items()}


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Yield folders from the top with the folders and image files in them.

    Links to folders are followed. The caller may take away folders that are not to be
    walked.
    """

    def fail(error: OSError) -> None:
        raise error

    def kept(names: Iterable[str]) -> list[str]:
        return sorted(n for n in names if not n.startswith(".") and n != "__MACOSX")

    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    seen: set[str] = set()
    for name, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(name)
        subfolders[:] = [] if real in seen else kept(subfolders)
        if real not in seen:  # not a link that leads back
            seen.add(real)
            images = [Path(name, file) for file in kept(files) if split_ending(file)[1]]
            yield Path(name), subfolders, images


def find_files(
    root: Path | str, patterns: Sequence[str], key: Callable[[re.Match[str]], Key]
) -> list[dict[Key, Path]]:
    """Return the image files below a folder that match each pattern, by a key.

    The regular expressions are searched in absolute paths with ``/`` between folders,
    so that any folder of a source may be named.

    Args:
        root: The folder.
        patterns: One for each kind of files, such as images and label maps.
        key: Makes the key of a case from the match.

    Raises:
        ValueError: If several files of a kind have the same key.
    """
    files = sorted(file for _, _, files in _walk(Path(root)) for file in files)
    return [
        _unique(
            (
                (key(match), file)
                for file in files
                if (match := re.search(pattern, file.absolute().as_posix()))
            ),
            "There must be one file of a kind for each case.",
            "Name the folder of one copy only.",
        )
        for pattern in patterns
    ]


def case_name(path: Path) -> str:
    """Return the name of the case that a file or a folder with a DICOM series holds."""
    if path.is_dir():
        return path.resolve().name
    return split_ending(path)[0].removesuffix(_CHANNEL)


def is_single(path: Path) -> bool:
    """Return whether a path is one image: a file, or a folder with a DICOM series."""
    return path.is_file() or (path.is_dir() and _holds_dicom(path))


def _holds_dicom(folder: Path) -> bool:
    """Return whether DICOM files lie in a folder itself, and no image beside them."""
    if all(split_ending(path)[1] for path in dicom_files(folder)):
        return False
    if images := next(_walk(folder))[2]:
        raise ValueError(
            f"The folder {folder} must hold a DICOM series or image files. Got both, "
            f"for example {images[0].name}: move one of them."
        )
    return True


def walk_images(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the images at any depth, with their names joined with the folders'.

    A file ``patient1/T1.nii.gz`` has the joined name ``patient1_T1``. Folders that
    `nnunet-cel prepare` wrote are left out.

    Raises:
        ValueError: If a folder holds image files and a DICOM series.
    """
    for path, subfolders, images in _walk(folder):
        if path != folder and (path / PREPARED).is_file():
            subfolders.clear()
            continue
        if path != folder and _holds_dicom(path):
            subfolders.clear()
            images = [path]
        for image in images:
            *parts, _ = image.relative_to(folder).parts
            yield image, "_".join((*parts, case_name(image)))


def find_images(path: Path) -> dict[str, Path]:
    """Return the images at a path by the names of their cases, in their order.

    The path is an image file, a folder with a DICOM series, or a folder of these. A
    folder in it may hold one image only, so that a label map beside an image is not
    taken for another case.

    Raises:
        ValueError: If there is no image, two cases have the same name, or a folder in
            the folder holds several images.
    """
    if is_single(path):
        return {case_name(path): path}
    images = dict(walk_images(path))
    if not images:
        raise ValueError(
            f"The folder {path} must hold images ({', '.join(ENDINGS)}) or folders "
            "with a DICOM series. Got none."
        )
    # Some file systems do not tell a from A.
    alike = [(name.lower(), image) for image, name in images.items()]
    neighbors = [(str(p.parent), p) for p in images if p.is_file() and p.parent != path]
    _unique(
        [*alike, *neighbors],
        f"The images in {path} must have names that differ in more than the ending, "
        f"{_CHANNEL} and capitals, and each folder in it must hold one image.",
        "Rename or remove one of each, name the folder that holds several itself, or "
        "put the images that you mean into one folder.",
    )
    return dict(sorted((name, image) for image, name in images.items()))


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Return the label map of each case in a folder, in the order of their names.

    Raises:
        ValueError: If it has no label map, or two of one case.
    """
    _, _, files = next(_walk(folder))
    if not files:
        raise ValueError(
            f"The folder {folder} must hold label maps such as CASE.nii.gz. Got none."
        )
    found = _unique(
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
        ValueError: If a case has no image; the message lists all of them.
    """
    found: dict[str, dict[str, Path]] = {case: {} for case in cases}
    for path in next(_walk(folder))[2]:
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

    With ``subset``, references without a prediction are left out.

    Raises:
        ValueError: If a file has no partner; the message lists all of them.
    """
    predicted, true = find_label_maps(predictions), find_label_maps(references)
    missing = [] if subset else sorted(set(true) - set(predicted))
    surplus = sorted(set(predicted) - set(true))
    if missing or surplus:
        raise ValueError(
            "Predictions and references must have the same names. References without "
            f"prediction (--subset allows them): {', '.join(missing) or 'none'}. "
            f"Predictions without reference: {', '.join(surplus) or 'none'}."
        )
    return {name: (predicted[name], true[name]) for name in predicted}


def find_described_scans(
    source: Path,
    images: str | None = None,
    labels: str | None = None,
    *,
    labeled: bool = True,
) -> list[Scan]:
    """Return the scans of a table, of two patterns, of a BIDS data set or of folders.

    Several rows of a patient in a table are several visits. In a BIDS data set, masks
    lie in ``derivatives``, and columns of ``participants.tsv`` are read. Otherwise
    folders such as ``imagesTr`` and ``labelsTr`` pair; where there are several such
    pairs, what stands behind ``images`` is the session.

    Args:
        source: CSV or TSV file, or folder.
        images: Pattern of the images, such as ``{subject}/T1_gado.nii.gz``.
        labels: Pattern of the label maps.
        labeled: Whether every scan must have a label map, not all of them or none.

    Raises:
        ValueError: If there is no scan, a file is missing, only one pattern is given or
            does not say where the patient stands, or names are alike.
    """
    if source.is_file():
        scans = _scans_of_table(source, labeled)
    elif images or labels:
        labeled |= labels is not None
        kinds = [images, labels][: 1 + labeled]
        scans = _pair(source, labeled, *(_to_regex(kind or "") for kind in kinds))
    elif is_bids(source):
        scans = _pair(source, labeled, *_BIDS)
        participants = source / "participants.tsv"
        if participants.is_file():
            rows = read_table(participants, required=("participant_id",))
            known = {row["participant_id"].removeprefix("sub-"): row for row in rows}
            scans = [replace(scan, row=known.get(scan.subject, {})) for scan in scans]
    else:
        scans = _pair(source, labeled, *_FOLDER_PAIRS)
        if len({scan.session for scan in scans}) == 1:
            scans = [replace(scan, session="") for scan in scans]
    # Nobody may be two patients, of whom one is in training and one in test.
    _refuse_alike("patients", {scan.subject for scan in scans})
    _refuse_alike("scans", [scan.name for scan in scans])
    return scans


def is_bids(folder: Path) -> bool:
    """Return whether a folder is a BIDS data set."""
    return (folder / "dataset_description.json").is_file()


def _scans_of_table(file: Path, labeled: bool) -> list[Scan]:
    """Return the scans that the rows of a table name."""
    scans: list[Scan] = []
    rows = read_table(file, required=("subject", "image", "label")[: 2 + labeled])
    if not labeled and any(row.get("label") for row in rows):
        return _scans_of_table(file, labeled=True)
    for row in rows:
        subject = row["subject"]
        visit = 1 + sum(scan.subject == subject for scan in scans)
        session = row.get("session") or (str(visit) if visit > 1 else "")
        label = file.parent / row["label"] if labeled else None
        scans.append(Scan(subject, session, file.parent / row["image"], label, row))
    if not scans:
        raise ValueError(f"The table {file} must have a row for each scan. Got none.")
    refuse(
        [p for s in scans for p in (s.image, s.label) if p and not p.exists()],
        f"The files in {file} must exist. Absent are:",
        "Paths are relative to the folder of the table.",
    )
    return scans


def _pair(root: Path, labeled: bool, *patterns: str) -> list[Scan]:
    """Return images and label maps below a root that match regular expressions."""

    def key(match: re.Match[str]) -> tuple[str, str]:
        names = match.groupdict()
        subject = unicodedata.normalize("NFC", names["subject"])
        return subject, names.get("session") or ""

    start = re.escape(root.absolute().as_posix())
    found, *others = find_files(root, [f"^{start}/{p}$" for p in patterns], key)
    masks = others[0] if others else {}
    if not found:
        raise ValueError(
            f"The folder {root} must hold images that are named as expected. It holds "
            "none: describe them in a CSV table, or with --images and --labels, such "
            "as '{subject}/T1_gado.nii.gz' and '{subject}/lesions.nii.gz'."
        )
    refuse(
        (f for key, f in found.items() if (labeled or masks) and key not in masks),
        "Every image must have a label map of the same subject. Got none for:",
        "Add an empty one for a scan without lesion, or mend the pattern.",
    )
    return [Scan(*key, found[key], masks.get(key)) for key in sorted(found)]


def _to_regex(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    if "{subject}" not in pattern and len(re.findall(r"\*+", pattern)) == 1:
        pattern = re.sub(r"\*+", "{subject}", pattern)
    if "{subject}" not in pattern:
        raise ValueError(
            "The patterns --images and --labels must both say where the patient's name "
            f"stands, such as '{{subject}}/T1_gado.nii.gz'. Got {pattern!r} instead."
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
