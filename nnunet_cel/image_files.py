"""Finds image files below folders, and groups them by what their paths say.

Hidden files and folders, resource files of macOS and other kinds of files are left out.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from nnunet_cel.dicom import dicom_files
from nnunet_cel.volumes import split_ending

__all__ = [
    "find_files",
    "find_unique",
    "holds_dicom",
    "image_files",
    "refuse",
    "refuse_missing",
    "unique",
    "walk_folders",
]

Key = TypeVar("Key", bound=Hashable)


def find_files(root: Path | str) -> list[Path]:
    """Return all image files below a folder, in the order of their names.

    Raises:
        OSError: If it, or a folder below it, cannot be read.
    """
    return sorted(file for _, _, files in walk_folders(Path(root)) for file in files)


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
        pattern: Searched in the absolute path with ``/`` between folders, so that any
            folder of a source may be named.
        key: Makes the key, for example subject and time point.
        what: What the files are, for the message, for example ``"FLAIR images"``.

    Raises:
        ValueError: If several files have the same key.
    """
    matches = ((pattern.search(file.absolute().as_posix()), file) for file in files)
    return unique(
        ((key(match), file) for match, file in matches if match),
        f"There must be one file for each case among the {what}.",
        "Name the folder of one copy only.",
    )


def refuse_missing(files: Iterable[Path], *, what: str, cure: str) -> None:
    """Refuse images that lack something with a ValueError that names all of them."""
    lacking = sorted(files)
    rule = f"Every image must have {what}. There is none for {len(lacking)}:"
    refuse(lacking, rule, cure)


def unique(pairs: Iterable[tuple[Key, Path]], rule: str, cure: str) -> dict[Key, Path]:
    """Return paths by their keys, and refuse several of one key."""
    found: dict[Key, list[Path]] = defaultdict(list)
    for key, path in pairs:
        found[key].append(path)
    several = [path for paths in found.values() if len(paths) > 1 for path in paths]
    refuse(several, f"{rule} Got several of one case:", cure)
    return {key: path for key, (path,) in found.items()}


def refuse(paths: Sequence[Path], rule: str, cure: str) -> None:
    """Raise one error that lists all paths that break a rule, if any do."""
    if paths:
        raise ValueError("\n  ".join((rule, *map(str, paths))) + f"\n{cure}")


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Yield folders from the top with the folders and image files in them.

    Links to folders are followed. The caller may take away folders that are not to be
    walked.

    Raises:
        OSError: If there is no such folder, or one below it cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    seen: set[str] = set()
    for name, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        folder, real = Path(name), os.path.realpath(name)
        subfolders[:] = sorted(n for n in subfolders if not _is_dirt(n))
        if real in seen:  # a link that leads back
            subfolders.clear()
            continue
        seen.add(real)
        images = sorted(n for n in files if split_ending(n)[1] and not _is_dirt(n))
        yield folder, subfolders, [folder / image for image in images]


def image_files(folder: Path) -> list[Path]:
    """Return the image files that lie in a folder itself, in the order of names."""
    return next(walk_folders(folder))[2]


def _is_dirt(name: str) -> bool:
    """Return whether a name is hidden, or that of resource files of macOS."""
    return name.startswith(".") or name == "__MACOSX"


def holds_dicom(folder: Path) -> bool:
    """Return whether DICOM files lie in a folder itself."""
    if all(split_ending(path)[1] for path in dicom_files(folder)):
        return False
    images = image_files(folder)
    if images:
        raise ValueError(
            f"The folder {folder} must hold a DICOM series or image files. Got both, "
            f"for example {images[0].name}: move one of them."
        )
    return True
