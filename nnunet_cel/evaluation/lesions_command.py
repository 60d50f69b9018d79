"""Counts and measures lesions of predictions, without a reference.

PREDICTIONS is a folder with one label map for each case. The table OUT, a .csv file,
has one row for each lesion: volume, place, and with --images its mean intensity.
Lesions that are too small for the protocol are left out.

    nnunet-cel lesions PREDICTIONS -o lesions.csv
    nnunet-cel lesions PREDICTIONS --images IMAGES -o lesions.csv --cases cases.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_cel import parallel
from nnunet_cel.evaluation.dataset import count_lesions
from nnunet_cel.evaluation.options import add_options
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.tables import write_table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS")
    parser.add_argument(
        "--cases",
        type=Path,
        metavar="FILE",
        help="table with a row for each case, .csv",
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
        if path.suffix.lower() != ".csv" or not path.parent.is_dir():
            raise ValueError(
                f"A table must be a file ending in .csv in a folder that exists. Got "
                f"{path} instead."
            )
        if path.exists() and not args.overwrite:
            raise FileExistsError(
                f"The table {path} exists and is not replaced without being told so. "
                "Choose another file, or replace it with --overwrite."
            )
    if len({path.resolve() for path in files}) < len(files):
        raise ValueError(f"The two tables must be different files. Got {files[0]}.")
    lesions, cases = count_lesions(
        args.predictions,
        load_protocol(args.protocol),
        images=args.images,
        label=args.label,
        processes=args.processes,
        description=None if args.no_progress else "Counting",
    )
    for path, table in zip(files, (lesions, cases), strict=False):
        write_table(path, table)
    table = cases.set_index("case")[["lesions", "volume_ml"]]
    table = table.rename(columns={"volume_ml": "ml"}).rename_axis(None)
    print(table.to_string(float_format="{:.3f}".format))
    print(f"Wrote {' and '.join(map(str, files))}")
    return 0
