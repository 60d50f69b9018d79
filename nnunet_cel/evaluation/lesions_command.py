"""Counts and measures lesions of predictions, without a reference.

PREDICTIONS is a folder with one label map for each case. The table has one row for each
lesion: volume, place, and with --images its mean intensity. Lesions that are too small
for the protocol are left out.

    nnunet-cel lesions PREDICTIONS -o lesions.csv
    nnunet-cel lesions PREDICTIONS --images IMAGES -o lesions.csv --cases cases.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_cel import parallel
from nnunet_cel.evaluation.options import add_options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="table with a row for each lesion, .csv",
    )
    parser.add_argument(
        "--cases",
        type=Path,
        metavar="FILE",
        help="table with a row for each case, .csv",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder with the images"
    )
    add_options(parser, "protocol", "label", "overwrite")
    parallel.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from nnunet_cel.evaluation.counting import count_lesions
    from nnunet_cel.evaluation.protocol import load_protocol
    from nnunet_cel.evaluation.tables import write_table

    files = [path for path in (args.out, args.cases) if path is not None]
    _check_files(files, overwrite=args.overwrite)
    lesions, cases = count_lesions(
        args.predictions,
        load_protocol(args.protocol),
        images=args.images,
        label=args.label,
        processes=args.processes,
        description=None if args.no_progress else "Counting",
    )
    write_table(args.out, lesions)
    if args.cases is not None:
        write_table(args.cases, cases)
    table = cases.set_index("case")[["lesions", "volume_ml"]]
    table.columns = ["lesions", "ml"]
    print(table.rename_axis(None).to_string(float_format="{:.3f}".format))
    print(f"Wrote {' and '.join(map(str, files))}")
    return 0


def _check_files(files: list[Path], *, overwrite: bool) -> None:
    """Refuse tables that cannot be written, before any work is done."""
    for path in files:
        if path.suffix.lower() != ".csv":
            raise ValueError(f"A table must be a file ending in .csv. Got {path}.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {path.parent} for {path}.")
        if path.exists() and (path.is_dir() or not overwrite):
            raise FileExistsError(
                f"The table {path} exists and is not replaced without being told so. "
                "Choose another file, or replace it with --overwrite."
            )
    if len({path.resolve() for path in files}) < len(files):
        raise ValueError(f"The two tables must be different files. Got {files[0]}.")
