"""Finds the cases of a source by the names of their files.

Words:

- *source*: a data set in the layout in which it was distributed, or a clinic's scans.
- *root*: the folder of a source that the user names.
- *source case*: the files of one case below the root, and what to do with them.

Files are found by their names, in whatever folders they are wrapped. Names are matched
from the top of the file system on, so that the root may be any folder of the source.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from nnunet_cel.volumes import ENDINGS

__all__ = ["SourceCase", "find_files", "find_unique", "refuse_missing"]

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class SourceCase:
    """The files of one case, and what to do with them.

    Args:
        identifier: Name of the case in the data set.
        source: Name of the source, for example ``"MSSEG 2016"``.
        root: The root below which the files lie.
        image: File of the image, or folder of its DICOM series.
        labels: Files of the label map, one for each rater that counts.
        combine: With several raters, whether a voxel is lesion that any of them or
            that all of them marked.
        values: Value in the data set for each value of the label maps; any other
            value is an error.
        min_lesion_voxels: The largest lesion must have this many voxels.
        without_lesion: What becomes of a case without such a lesion.
        group: The patient, who is never in two folds, or in training and test.
        stratum: Folds have equal shares of each stratum.
        split: ``"train"`` or ``"test"``.
        strip_on: Image on the same grid on which the brain is extracted; None if the
            image is already skull-stripped.
        other_values_cure: What to do about other values, for the message.
        mask_names: Names under which the user's own brain mask is looked for.
        facts: What else is known about the case.
    """

    identifier: str
    source: str
    root: Path
    image: Path
    labels: tuple[Path, ...]
    combine: Literal["union", "intersection"] = "union"
    values: Mapping[int, int] = field(default_factory=lambda: {0: 0, 1: 1})
    min_lesion_voxels: int = 1
    without_lesion: Literal["refuse", "exclude", "keep"] = "refuse"
    group: str = ""
    stratum: str = ""
    split: Literal["train", "test"] = "train"
    strip_on: Path | None = None
    other_values_cure: str = "is it the right file?"
    mask_names: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


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
