"""Writes raw data sets of nnU-Net v2.

Words:

- *case*: an image, and a label map on the same voxel grid.
- *channel*: what kind of image it is, for example FLAIR.
- *training case*: goes to ``imagesTr`` and ``labelsTr``.
- *test case*: goes to ``imagesTs`` and ``labelsTs``. nnU-Net itself never reads
  ``labelsTs``; it is there for the evaluation.

The same cases give the same bytes.
Reference: nnU-Net v2, documentation/dataset_format.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_cel.files import to_json, write_whole
from nnunet_cel.volumes import Volume, write_volume

__all__ = [
    "MARK",
    "dataset_folder",
    "rename_case",
    "write_case",
    "write_header",
]

MARK = "dataset.json"
"""File by which a raw data set is known."""

_ENDING = ".nii.gz"
_SUFFIX = {"train": "Tr", "test": "Ts"}


def dataset_folder(parent: Path | str | None, dataset_id: int, name: str) -> Path:
    """Return the folder of a data set, such as ``nnUNet_raw/Dataset501_WMH``.

    The parent is the folder of raw data sets, by default ``$nnUNet_raw``.

    Raises:
        ValueError: If there is no parent, the number is out of range, or another data
            set has it, since nnU-Net finds data sets by their number.
    """
    parent = parent or os.environ.get("nnUNet_raw")
    if not parent:
        raise ValueError(
            "There is no folder for the data set: name one, or set the environment "
            "variable nnUNet_raw."
        )
    if not 1 <= dataset_id <= 999:
        raise ValueError(
            f"The number of the data set must be from 1 to 999. Got {dataset_id} "
            "instead."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise ValueError(
            "The name of a data set must be of letters, digits and the signs . _ + - "
            f"and begin with a letter or digit. Got {name!r} instead."
        )
    folder = Path(parent) / f"Dataset{dataset_id:03d}_{name}"
    homes = [parent, *map(os.environ.get, ("nnUNet_preprocessed", "nnUNet_results"))]
    taken = [Path(h).glob(f"Dataset{dataset_id:03d}_*") for h in homes if h]
    others = [path for paths in taken for path in paths if path.name != folder.name]
    if others:
        raise ValueError(
            f"The number {dataset_id} must belong to one data set only. "
            f"{min(others)} has it: choose another number."
        )
    return folder


def write_case(
    folder: Path, name: str, image: Volume, label: Volume, split: str = "train"
) -> None:
    """Write a case into a data set.

    Args:
        folder: The folder of the data set.
        name: Name of the case, for example ``"WMH_001"``.
        image: Finite voxels.
        label: Integers of one byte on the same grid.
        split: ``"train"`` or ``"test"``.
    """
    for channel, volume in (("_0000", image), ("", label)):
        path = _path(folder, name, channel, split)
        path.parent.mkdir(exist_ok=True)
        write_volume(path, volume)


def rename_case(folder: Path, old: str, new: str, split: str) -> None:
    """Give a training case another name, and its place.

    Raises:
        ValueError: If another case has the name.
    """
    for channel in ("_0000", ""):
        path = _path(folder, new, channel, split)
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            raise ValueError(
                f"The names of all cases must differ. Got a second case {new}: is the "
                "source there twice?"
            )
        _path(folder, old, channel, "train").rename(path)


def write_header(
    folder: Path, channel: str, labels: Mapping[str, int], extra: Mapping[str, Any]
) -> None:
    """Write ``dataset.json`` of a data set whose cases are there.

    Raises:
        ValueError: If there is no training case.
    """
    training = folder / "labelsTr"
    count = sum(1 for _ in training.iterdir()) if training.is_dir() else 0
    if not count:
        raise ValueError(
            "A data set must have at least one training case. It got none: check that "
            "the source folder is the right one."
        )
    header = {
        "channel_names": {"0": channel},
        "labels": dict(labels),
        "numTraining": count,
        "file_ending": _ENDING,
        **extra,
    }
    write_whole(folder / MARK, to_json(header))


def _path(folder: Path, name: str, channel: str, split: str) -> Path:
    """Return the place of an image, or of the label map if there is no channel."""
    kind = "images" if channel else "labels"
    return folder / f"{kind}{_SUFFIX[split]}" / f"{name}{channel}{_ENDING}"
