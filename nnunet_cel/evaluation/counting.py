"""Counts and measures lesions of label maps, without a reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.cases import tabulate_lesions
from nnunet_cel.evaluation.labels import Labels, read_labels
from nnunet_cel.evaluation.lesions import bounding_box, find_lesions, is_dropped
from nnunet_cel.evaluation.protocol import Protocol
from nnunet_cel.parallel import try_cases
from nnunet_cel.scans import find_label_maps, pair_images
from nnunet_cel.volumes import check_same_grid, read_label_map, read_volume

__all__ = ["count_lesions"]


def count_lesions(
    predictions: Path | str,
    protocol: Protocol,
    *,
    images: Path | str | None = None,
    label: int | None = None,
    processes: int = 1,
    description: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count and measure the lesions of all label maps of a folder.

    Args:
        predictions: Folder with one label map for each case.
        protocol: Its connectivity, smallest lesion and size bins.
        images: Folder with the images, ``CASE.nii.gz`` or ``CASE_0000.nii.gz`` and so
            on; None for no intensities.
        label: Value of lesion voxels; None is 1, see
            :func:`~nnunet_cel.evaluation.labels.read_labels`.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Returns:
        One row for each lesion, the largest of a case first, and one row for each case,
        those without lesions included.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If files are missing or damaged; the message lists all of them.
    """
    predictions = Path(predictions)
    maps = find_label_maps(predictions)
    labels = read_labels([predictions, predictions.parent], lesion=label)
    found = pair_images(Path(images), list(maps)) if images is not None else {}
    done = try_cases(
        partial(_count_case, protocol, labels),
        [(name, path, found.get(name, {})) for name, path in maps.items()],
        processes=processes,
        description=description,
    )
    tables = [table for table, _ in done]
    lesions = pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True)
    return lesions, pd.DataFrame([row for _, row in done])


def _count_case(
    protocol: Protocol, labels: Labels, task: tuple[str, Path, Mapping[str, Path]]
) -> tuple[pd.DataFrame, dict[str, str | int | float]]:
    """Return lesions and sums of a case."""
    name, path, images = task
    volume = read_label_map(path)
    labels.check(path, volume.voxels)
    mask = volume.voxels == labels.lesion
    box = bounding_box(mask)
    lesions = find_lesions(mask[box], connectivity=protocol.connectivity)
    offset = [part.start for part in box]
    table = tabulate_lesions(lesions, volume.affine, protocol, offset=offset)
    for channel, image in images.items():
        picture = read_volume(image)
        check_same_grid(f"The image {image}", picture, volume)
        column = f"intensity_{channel}" if channel else "intensity"
        table[column] = lesions.means(picture.voxels[box])
    dropped = is_dropped(lesions, protocol, volume.voxel_volume)
    table = table[~dropped].sort_values("voxels", ascending=False, kind="stable")
    table.insert(0, "case", name)
    table.insert(1, "lesion", np.arange(1, len(table) + 1))
    row: dict[str, str | int | float] = {
        "case": name,
        "lesions": len(table),
        "volume_ml": float(table["volume_mm3"].sum()) / 1000,
        "dropped": int(dropped.sum()),
        "dropped_ml": float(lesions.voxels[dropped].sum() * volume.voxel_volume / 1000),
    }
    return table, row
