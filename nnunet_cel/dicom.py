"""Reads a folder with one DICOM series, and refuses what would lie in a wrong place.

Every slice must say where it lies. Slices must be parallel, equally far apart and
stacked along their normal, and no file of the folder may be left over: a file that is
cut off at either end of the series would otherwise go unnoticed.
"""

from __future__ import annotations

import locale
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["dicom_files", "keep_locale", "read_series"]

Array = npt.NDArray[Any]

_PLACE = ("0020|0032", "0020|0037", "0028|0030")
"""Tags of the position of a slice, its orientation and the distances of its pixels."""

_INTERCEPT, _SLOPE = "0028|1052", "0028|1053"
_UNEVEN = 0.05  # of the distance of slices: scanners round, a lost slice is off by 1
_TOLERANCE = 0.01  # of directions
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
    """Return the image of the one DICOM series in a folder, as SimpleITK has it.

    Raises:
        ValueError: If it is not one whole series, or not a box with right angles.
        RuntimeError: If SimpleITK cannot read a file.
    """
    import SimpleITK as sitk  # takes half a second, and most data are NIfTI

    reader = sitk.ImageSeriesReader()
    series = [
        reader.GetGDCMSeriesFileNames(str(folder), number)
        for number in reader.GetGDCMSeriesIDs(str(folder))
    ]
    files = [Path(name) for names in series for name in names]
    lost = sorted({p.name for p in dicom_files(folder)} - {p.name for p in files})
    if len(series) != 1 or lost or len(files) < 2:
        raise ValueError(
            f"The DICOM files in {folder} must be one series, a file for each slice. "
            f"Got {len(files)} of {len(series)} series and {len(lost)} that cannot be "
            f"read ({', '.join(lost[:5])}): name a folder of one series, get it again, "
            "or convert files of several slices to NIfTI, for example with dcm2niix."
        )
    reader.SetFileNames(series[0])
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    tags = {
        file: {key: reader.GetMetaData(i, key) for key in reader.GetMetaDataKeys(i)}
        for i, file in enumerate(files)
    }
    scales = {(known.get(_SLOPE), known.get(_INTERCEPT)) for known in tags.values()}
    if len(scales) > 1:  # the first slice alone decides about the type of all
        reader.SetOutputPixelType(sitk.sitkFloat32)
        image = reader.Execute()
    _check_slices(folder, tags)
    for file in files:
        _check_length(file, tags[file])
    return image


def _check_slices(folder: Path, tags: Mapping[Path, dict[str, str]]) -> None:
    """Refuse slices that are not parallel, equally far apart and above each other."""
    position, orientation, spacing = (
        np.array([_numbers(path, known, tag) for path, known in tags.items()])
        for tag in _PLACE
    )
    steps = np.diff(position, axis=0)
    usual = np.median(steps, axis=0)
    distance = float(np.linalg.norm(usual))
    off = np.linalg.norm(steps - usual, axis=1) > _UNEVEN * distance
    normal = np.cross(orientation[0, :3], orientation[0, 3:])
    if (abs(orientation - orientation[0]) > 1e-3).any():
        fault = "lie in different directions"
    elif (abs(spacing - spacing[0]) > 1e-3).any():
        fault = "have pixels of different sizes"
    elif distance == 0:
        fault = "say that they lie at the same place"
    elif off.any():
        fault = (
            f"are not equally far apart: {int(off.sum())} steps differ from the usual "
            f"one of {distance:.3f} mm, so that slices are missing or doubled"
        )
    elif abs(abs(usual @ normal) / distance - 1) > _TOLERANCE**2 / 2:
        fault = "are not stacked along their normal, as with a tilted gantry"
    else:
        return
    raise ValueError(
        f"The slices of the DICOM series in {folder} must be a box with right angles. "
        f"They {fault}. Get the series again, or resample it."
    )


def _numbers(path: Path, tags: dict[str, str], tag: str) -> list[float]:
    """Return the numbers of a tag of a slice."""
    try:
        return [float(part) for part in tags[tag].split("\\")]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"The DICOM file {path} must be one slice with numbers in the tag "
            f"{tag}. Got {tags.get(tag, '').strip()[:100]!r}: get it again, or "
            "convert the series to NIfTI, for example with dcm2niix."
        ) from error


def _check_length(path: Path, tags: dict[str, str]) -> None:
    """Refuse a file without compression whose pixels are not all there.

    GDCM fills what is missing with whatever the memory holds.
    """
    content = path.read_bytes()
    if not any(syntax in content[:2000] for syntax in _UNCOMPRESSED):
        return
    size = [int(tags[tag]) for tag in ("0028|0010", "0028|0011", "0028|0100")]
    start = content.find(_PIXEL_DATA)
    if start < 0 or len(content) - start - 8 < math.prod(size) // 8:
        raise ValueError(
            f"The DICOM file {path} must hold pixels of {size[0]} x {size[1]} x "
            f"{size[2]} bits. It is cut off: get it again from its source."
        )


def _is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM image, from its ending or its first bytes."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    with path.open("rb") as file:  # DICOMDIR is a list of the other files
        return path.name != "DICOMDIR" and file.read(132)[128:] == b"DICM"
