"""Writes a synthetic data set that nnU-Net can plan, preprocess and train on.

`wmh` gives FLAIR images with white matter hyperintensities (for pretraining), `cel`
gives contrast-enhanced T1w images with enhancing lesions (for fine-tuning). They are
for trying out the commands, not for measuring how well a method works on patients.

    nnunet-cel phantom wmh -n 20 --test 5
    nnunet-cel phantom cel FOLDER -n 12 --test 5 --spacing 2

With --layout it writes scans with skull as a public data set or a clinic keeps them, to
try out `nnunet-cel convert` and `nnunet-cel prepare`.

    nnunet-cel phantom wmh FOLDER -n 5 --layout msseg2016
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from tqdm import tqdm

from nnunet_cel import parallel
from nnunet_cel.dataset_conversion.raw_dataset import MARK, write_case, write_header
from nnunet_cel.files import new_folder
from nnunet_cel.phantom.anatomy import Grid, load_template
from nnunet_cel.phantom.head import make_source_subject
from nnunet_cel.phantom.layouts import LAYOUTS, write_source_tree
from nnunet_cel.phantom.subject import Kind, make_subject
from nnunet_cel.volumes import Volume

__all__ = ["add_arguments", "run"]


class _DataSet(NamedTuple):
    """What distinguishes the two data sets."""

    number: int
    name: str
    channel: str
    lesions: str


_DATA_SETS: dict[Kind, _DataSet] = {
    "wmh": _DataSet(501, "WMH", "FLAIR", "white matter hyperintensities"),
    "cel": _DataSet(502, "CEL", "CE-T1w", "contrast-enhancing lesions"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("kind", choices=get_args(Kind), help="which lesions")
    parser.add_argument(
        "out_folder",
        type=Path,
        nargs="?",
        help="folder for the data set, right after the kind (default: $nnUNet_raw); "
        "with --layout the root of the tree",
    )
    parser.add_argument(
        "-n",
        "--train",
        type=int,
        required=True,
        metavar="N",
        help="number of training cases, or of scans in a layout",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        metavar="NAME",
        help="write a tree of source files in one of the layouts below",
    )
    parser.add_argument(
        "--test",
        type=int,
        default=0,
        metavar="N",
        help="number of test cases, with labels in labelsTs (default: %(default)s)",
    )
    parser.add_argument(
        "--lesion-free",
        type=int,
        default=0,
        metavar="N",
        help="how many of the training cases have no lesion (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another one gives other subjects"
    )
    parser.add_argument(
        "--spacing",
        type=float,
        default=1.0,
        metavar="MM",
        help="voxel edge in mm, from 1 to 8 (default: %(default)s)",
    )
    parser.add_argument(
        "--dataset-id",
        type=int,
        metavar="ID",
        help="number of the data set (default: 501 for wmh, 502 for cel)",
    )
    parallel.add_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what the command wrote before"
    )
    width = max(map(len, LAYOUTS))
    parser.epilog = "layouts:\n" + "\n".join(
        f"  {name:<{width}}  {layout.kind}: {layout.summary} (-n up to {layout.size})"
        for name, layout in LAYOUTS.items()
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    _check_range("seed", args.seed, 0, 2**63)
    Grid.of_spacing(args.spacing)  # refuses a spacing out of range
    if args.layout is not None:
        return _write_layout(args)
    for name, value, low, high in (
        ("number of training cases", args.train, 1, 9999),
        ("number of test cases", args.test, 0, 9999),
        ("number of lesion-free cases", args.lesion_free, 0, args.train - 1),
    ):
        _check_range(name, value, low, high)
    data_set = _DATA_SETS[args.kind]
    number = data_set.number if args.dataset_id is None else args.dataset_id
    _check_range("number of the data set", number, 1, 999)
    parent = args.out_folder or os.environ.get("nnUNet_raw")
    if not parent:
        raise ValueError(
            "No folder for the data set: name one after the kind, or set the "
            "environment variable nnUNet_raw."
        )
    load_template()
    folder = Path(parent) / f"Dataset{number:03d}_{data_set.name}"
    extra = {
        "description": (
            f"Synthetic {data_set.channel} images with {data_set.lesions}, made "
            "from the MNI152 template by nnunet-cel. No patient data."
        ),
        "phantom": {
            "kind": args.kind,
            "seed": args.seed,
            "spacing_mm": args.spacing,
            "training_cases": args.train,
            "lesion_free_training_cases": args.lesion_free,
            "test_cases": args.test,
            "numpy": np.__version__,
        },
    }
    with new_folder(
        folder, what="data set", mark=MARK, overwrite=args.overwrite
    ) as unfinished:
        _write_cases(unfinished, args)
        write_header(
            unfinished, data_set.channel, {"background": 0, "lesion": 1}, extra
        )
    print(f"Wrote {args.train} training and {args.test} test cases to {folder}")
    return 0


def _write_cases(folder: Path, args: argparse.Namespace) -> None:
    """Make the cases of a data set, and write them one by one.

    The last of the training cases are those without lesions, the last numbers are the
    test cases. A subject depends on kind, seed, its number and spacing only.
    """
    data_set = _DATA_SETS[args.kind]
    numbers = range(1, args.train + args.test + 1)
    for number in tqdm(numbers, desc=data_set.name, disable=args.no_progress):
        subject = make_subject(
            args.kind,
            args.seed,
            number,
            spacing=args.spacing,
            lesions=not args.train - args.lesion_free < number <= args.train,
        )
        write_case(
            folder,
            f"{data_set.name}_{number:03d}",
            Volume(subject.image, subject.affine),
            Volume(subject.label, subject.affine),
            "train" if number <= args.train else "test",
        )


def _write_layout(args: argparse.Namespace) -> int:
    """Write a tree of source files and return the exit status."""
    layout = LAYOUTS[args.layout]
    if args.kind != layout.kind:
        raise ValueError(
            f"The kind of the layout {args.layout} must be {layout.kind}. Got "
            f"{args.kind} instead: choose another layout or kind."
        )
    if args.out_folder is None:
        raise ValueError("No folder for the tree of files: name one after the kind.")
    if args.test or args.lesion_free or args.dataset_id is not None:
        raise ValueError(
            "The options --test, --lesion-free and --dataset-id must not be given with "
            "--layout, which fixes what the tree holds: leave them out."
        )
    _check_range(
        f"number of scans in the layout {args.layout}", args.train, 1, layout.size
    )
    load_template()
    folder = write_source_tree(
        args.out_folder,
        layout,
        args.train,
        partial(make_source_subject, layout.kind, args.seed, spacing=args.spacing),
        overwrite=args.overwrite,
        processes=args.processes,
        description=None if args.no_progress else args.layout,
    )
    print(f"Wrote {args.train} scans in the layout {args.layout} to {folder}")
    return 0


def _check_range(name: str, value: int, low: int, high: int) -> None:
    """Refuse a number out of its range."""
    if not low <= value <= high:
        raise ValueError(
            f"The {name} must be from {low} to {high}. Got {value} instead."
        )
