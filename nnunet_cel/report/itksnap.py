"""Writes agreement maps that open in color in ITK-SNAP and 3D Slicer.

Files, beside one label map for each case:

- ``labels.txt``: ITK-SNAP's label descriptions (Segmentation > Import Label
  Descriptions, or ``itksnap -g IMAGE -s MAP -l labels.txt``).
- ``labels.ctbl``: the same as a color table of 3D Slicer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nnunet_cel.files import write_whole
from nnunet_cel.parallel import map_cases
from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.report.agreement import KINDS, read_agreement
from nnunet_cel.report.results import LabelMaps
from nnunet_cel.scans import raise_together
from nnunet_cel.volumes import write_volume

__all__ = ["itksnap_labels", "slicer_colors", "write_agreement_maps"]

_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
    0     0    0    0        0  0  0    "Clear Label"
"""


def itksnap_labels() -> str:
    """Return the content of ITK-SNAP's label description file."""
    lines = [
        f"{value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "
        f'"{name.capitalize()}"\n'
        for value, name, (red, green, blue) in _labels()
    ]
    return _HEADER + "".join(lines)


def slicer_colors() -> str:
    """Return the content of a color table of 3D Slicer."""
    lines = [
        f"{value} {name.capitalize().replace(' ', '_')} {red} {green} {blue} 255\n"
        for value, name, (red, green, blue) in _labels()
    ]
    return "0 Background 0 0 0 0\n" + "".join(lines)


def write_agreement_maps(
    folder: Path,
    maps: Sequence[LabelMaps],
    *,
    label: int,
    ignore: int | None,
    processes: int = 1,
    description: str | None = None,
) -> None:
    """Write the agreement map of every case, and the files that give them color.

    Args:
        folder: Folder to write to, which exists.
        maps: The label maps of each case.
        label: Value of lesion voxels.
        ignore: Value of reference voxels that are left out.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Raises:
        ValueError: If label maps were changed since they were evaluated, or cannot be
            read; the message lists all of them.
    """
    problems = map_cases(
        partial(_write_case, folder, label, ignore),
        maps,
        processes=processes,
        description=description,
    )
    raise_together(problem for problem in problems if problem)
    write_whole(folder / "labels.txt", itksnap_labels())
    write_whole(folder / "labels.ctbl", slicer_colors())


def _write_case(folder: Path, label: int, ignore: int | None, maps: LabelMaps) -> str:
    """Write the agreement map of a case; return what is wrong with it."""
    try:
        volume = read_agreement(maps, label=label, ignore=ignore)
        write_volume(folder / f"{maps.case}.nii.gz", volume)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _labels() -> list[tuple[int, str, tuple[int, int, int]]]:
    """Return value, name and color of each kind of voxel."""
    entries = []
    for value, (kind, name) in enumerate(KINDS.items(), start=1):
        red, green, blue = bytes.fromhex(AGREEMENT_COLORS[kind].removeprefix("#"))
        entries.append((value, name, (red, green, blue)))
    return entries
