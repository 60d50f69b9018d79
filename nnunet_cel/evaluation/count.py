"""Counts and measures lesions of predictions, without a reference.

PREDICTIONS is a folder with one label map for each case. The table OUT, a .csv file,
has one row for each lesion: volume, place, and with --images its mean intensity.
Lesions that are too small for the protocol are left out.

    nnunet-cel lesions PREDICTIONS -o lesions.csv
    nnunet-cel lesions PREDICTIONS --images IMAGES -o lesions.csv --cases cases.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_cel import parallel
from nnunet_cel.evaluation.dataset import add_options, join_cases
from nnunet_cel.evaluation.labels import Labels, read_labels
from nnunet_cel.evaluation.lesions import find_lesions, is_dropped, tabulate_lesions
from nnunet_cel.evaluation.protocol import Protocol, load_protocol
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.scans import find_label_maps, pair_images
from nnunet_cel.volumes import check_same_grid, read_label_map, read_volume

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS")
    parser.add_argument(
        "--cases", type=Path, metavar="FILE", help="table with a row for each case"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder with the images"
    )
    add_options(parser, "protocol", "label")
    parallel.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    files = [path for path in (args.out, args.cases) if path is not None]
    for path in files:  # before any work is done
        if path.exists() and not args.overwrite:
            raise FileExistsError(
                f"The table {path} exists and is not replaced without being told so. "
                "Choose another file, or replace it with --overwrite."
            )
    if len({path.resolve() for path in files}) < len(files):
        raise ValueError(f"The two tables must be different files. Got {files[0]}.")
    maps = find_label_maps(args.predictions)
    labels = read_labels([args.predictions, args.predictions.parent], lesion=args.label)
    images = pair_images(args.images, list(maps)) if args.images is not None else {}
    results = parallel.mapper(args, "Counting")(
        partial(_count_case, load_protocol(args.protocol), labels),
        [(path, images.get(name, {})) for name, path in maps.items()],
    )
    found = join_cases(maps, results)
    for path, name in zip(files, ("lesions", "cases"), strict=False):
        write_table(path, found[name])
    table = found["cases"].set_index("case")[["lesions", "volume_ml"]]
    table = table.rename(columns={"volume_ml": "ml"}).rename_axis(None)
    print(table.to_string(float_format="{:.3f}".format))
    print(f"Wrote {' and '.join(map(str, files))}")
    return 0


def _count_case(
    protocol: Protocol, labels: Labels, task: tuple[Path, Mapping[str, Path]]
) -> dict[str, pd.DataFrame]:
    """Return lesions, the largest first, and sums of a case.

    Args:
        protocol: Its connectivity, smallest lesion and size bins.
        labels: What the values of the label map mean.
        task: The label map, and the image of each channel.
    """
    path, images = task
    volume = read_label_map(path)
    labels.check(path, volume.voxels)
    lesions = find_lesions(volume.voxels == labels.lesion, protocol.connectivity)
    table = tabulate_lesions(lesions, volume.affine, protocol)
    for channel, image in images.items():
        picture = read_volume(image)
        check_same_grid(f"The image {image}", picture, volume)
        column = f"intensity_{channel}" if channel else "intensity"
        table[column] = lesions.means(picture.voxels)
    dropped = is_dropped(lesions, protocol, volume.voxel_volume)
    ml = table["volume_mm3"] / 1000
    row = {
        "lesions": (~dropped).sum(),
        "volume_ml": ml[~dropped].sum(),
        "dropped": dropped.sum(),
        "dropped_ml": ml[dropped].sum(),
    }
    table = table[~dropped].sort_values("voxels", ascending=False, kind="stable")
    table.insert(0, "lesion", np.arange(1, len(table) + 1))
    return {"lesions": table, "cases": pd.DataFrame([row])}
