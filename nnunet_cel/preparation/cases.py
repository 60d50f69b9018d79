"""Finds images in folders and names the cases after them.

A case is named after its file without the ending and without a channel number
``_0000``, a DICOM series after its folder. In folders of folders the names on the way
are joined by ``_``: ``patient1/T1.nii.gz`` becomes ``patient1_T1``.

Skipped are hidden files, resource files of macOS, files of other kinds, and folders
that `nnunet-cel prepare` wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_cel.dicom import dicom_files
from nnunet_cel.volumes import ENDINGS, split_ending

__all__ = [
    "RECORD",
    "case_name",
    "find_images",
    "is_single",
    "walk_images",
]

_CHANNEL = "_0000"

RECORD = "preparation.json"
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
            elif not (path / RECORD).is_file():
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
