"""Reads a folder with one DICOM series, and refuses what would lie in a wrong place.

Every slice must say where it lies. Slices must be parallel, equally far apart and
stacked along their normal, and no file of the folder may be left over: a file that is
cut off at either end of the series would otherwise go unnoticed.
"""

from __future__ import annotations

import locale
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["dicom_files", "keep_locale", "read_series"]

Array = npt.NDArray[Any]

_POSITION, _ORIENTATION, _SPACING = "0020|0032", "0020|0037", "0028|0030"
_NAMES = {
    _POSITION: "Image Position (Patient)",
    _ORIENTATION: "Image Orientation (Patient)",
    _SPACING: "Pixel Spacing",
}
_COUNTS = {_POSITION: 3, _ORIENTATION: 6, _SPACING: 2}
_NUMBER_OF_FRAMES = "0028|0008"
_TOLERANCE = 0.01  # of the distance of slices, and of directions
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNCOMPRESSED = (b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0")


@contextmanager
def keep_locale() -> Iterator[None]:
    """Restore the locale of the process at the end of a block.

    GDCM, with which SimpleITK handles DICOM files, leaves the locale "C" behind, in
    which Python reads text and the output of commands as ASCII.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def dicom_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are DICOM images, in the order of names."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and _is_dicom(path)
    ]


@keep_locale()
def read_series(folder: Path) -> Any:
    """Return the image of the DICOM series in a folder, as SimpleITK has it.

    Raises:
        ValueError: If there is not exactly one series, a file cannot be read, or the
            slices are not a box with right angles.
    """
    import SimpleITK as sitk  # takes half a second, and most data are NIfTI

    finder = sitk.ImageSeriesReader
    series = finder.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise ValueError(
            f"The folder {folder} must hold exactly one DICOM series. It holds "
            f"{len(series)}: name a folder that has the files of one series alone."
        )
    files = [Path(name) for name in finder.GetGDCMSeriesFileNames(str(folder), *series)]
    left_over = {path.resolve() for path in dicom_files(folder)} - {
        path.resolve() for path in files
    }
    if left_over:
        names = ", ".join(sorted(path.name for path in left_over)[:5])
        raise ValueError(
            f"All DICOM files in {folder} must belong to the series. Got {names}, "
            "which cannot be read: get them again."
        )
    if len(files) < 2:
        raise ValueError(
            f"The DICOM series in {folder} must be of several files, one for each "
            "slice. Got one: convert images with several frames to NIfTI, for example "
            "with dcm2niix."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    reader.MetaDataDictionaryArrayUpdateOn()
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what it warns of is refused
    try:
        image = reader.Execute()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The DICOM series in {folder} cannot be read: {reason}. Get it again from "
            "its source."
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)
    tags = [
        {key: reader.GetMetaData(i, key) for key in reader.GetMetaDataKeys(i)}
        for i in range(len(files))
    ]
    _check_slices(folder, files, tags)
    for path, of_slice in zip(files, tags, strict=True):
        _check_length(path, of_slice)
    return image


def _check_slices(
    folder: Path, files: Sequence[Path], tags: Sequence[dict[str, str]]
) -> None:
    """Refuse slices that are not parallel, equally far apart and above each other."""
    for path, of_slice in zip(files, tags, strict=True):
        missing = [name for tag, name in _NAMES.items() if tag not in of_slice]
        if missing or of_slice.get(_NUMBER_OF_FRAMES, "1").strip() not in ("1", ""):
            raise ValueError(
                f"The DICOM file {path} must be one slice with its place. Got "
                f"{'no ' + ', no '.join(missing) if missing else 'several frames'}: "
                "convert the series to NIfTI, for example with dcm2niix."
            )
    position, orientation, spacing = (
        np.array([_numbers(path, t, tag) for path, t in zip(files, tags, strict=True)])
        for tag in _NAMES
    )
    if (abs(orientation - orientation[0]) > 1e-3).any():
        raise _wrong_slices(folder, "lie in different directions")
    if (abs(spacing - spacing[0]) > 1e-3).any():
        raise _wrong_slices(folder, "have pixels of different sizes")
    steps = np.diff(position, axis=0)
    usual = np.median(steps, axis=0)
    distance = float(np.linalg.norm(usual))
    off = np.linalg.norm(steps - usual, axis=1) > max(_TOLERANCE * distance, 1e-3)
    if distance == 0 or off.any():
        raise _wrong_slices(
            folder,
            f"are not equally far apart: {int(off.sum())} steps differ from the usual "
            f"one of {distance:.3f} mm, so that slices are missing or doubled",
        )
    normal = np.cross(orientation[0, :3], orientation[0, 3:])
    if abs(abs(usual @ normal) / distance - 1) > _TOLERANCE**2 / 2:
        raise _wrong_slices(
            folder, "are not stacked along their normal, as with a tilted gantry"
        )


def _numbers(path: Path, tags: dict[str, str], tag: str) -> list[float]:
    """Return the numbers of a tag of a slice."""
    try:
        numbers = [float(part) for part in tags[tag].split("\\")]
    except ValueError:
        numbers = []
    if len(numbers) != _COUNTS[tag] or not np.isfinite(numbers).all():
        raise ValueError(
            f"The DICOM file {path} must have {_COUNTS[tag]} numbers in the tag "
            f"{_NAMES[tag]}. Got {tags[tag].strip()[:100]!r}: get it again from its "
            "source."
        )
    return numbers


def _wrong_slices(folder: Path, fault: str) -> ValueError:
    return ValueError(
        f"The slices of the DICOM series in {folder} must be a box with right angles. "
        f"They {fault}. Get the series again, or resample it."
    )


def _check_length(path: Path, tags: dict[str, str]) -> None:
    """Refuse a file without compression whose pixels are not all there.

    GDCM fills what is missing with whatever the memory holds.
    """
    content = path.read_bytes()
    head = content[:2000]
    if not any(syntax in head for syntax in _UNCOMPRESSED):
        return
    rows, columns, bits = (
        int(tags[t]) for t in ("0028|0010", "0028|0011", "0028|0100")
    )
    needed = rows * columns * bits // 8
    start = content.find(_PIXEL_DATA)
    while start >= 0:
        if len(content) - start - 8 >= needed:
            return
        start = content.find(_PIXEL_DATA, start + 1)
    raise ValueError(
        f"The DICOM file {path} must hold {needed} bytes of pixels. It is cut off: get "
        "it again from its source."
    )


def _is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM image, from its ending or its first bytes."""
    if path.name == "DICOMDIR":  # a list of the other files
        return False
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
