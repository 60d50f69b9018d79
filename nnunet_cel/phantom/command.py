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
from functools import partial
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from nnunet_cel import parallel
from nnunet_cel.dataset_conversion.raw_dataset import (
    MARK,
    dataset_folder,
    write_case,
    write_header,
)
from nnunet_cel.files import new_folder
from nnunet_cel.phantom.anatomy import load_template
from nnunet_cel.phantom.layouts import LAYOUTS, write_source_tree
from nnunet_cel.phantom.subject import SPACINGS, Kind, make_subject

__all__ = ["add_arguments", "run"]

# Number, name and channel of the data sets.
_DATA_SETS = {"wmh": (501, "WMH", "FLAIR"), "cel": (502, "CEL", "CE-T1w")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("kind", choices=get_args(Kind), help="which lesions")
    add(
        "out_folder",
        type=Path,
        nargs="?",
        help="folder for the data set, right after the kind (default: $nnUNet_raw); "
        "with --layout the root of the tree",
    )
    what = "number of training cases, or of scans in a layout"
    add("-n", "--train", type=int, required=True, metavar="N", help=what)
    what = "write a tree of source files in one of the layouts below"
    add("--layout", choices=LAYOUTS, metavar="NAME", help=what)
    for option, what in (
        ("--test", "number of test cases, with labels in labelsTs"),
        ("--lesion-free", "how many of the training cases have no lesion"),
    ):
        what += " (default: %(default)s)"
        add(option, type=int, default=0, metavar="N", help=what)
    add("--seed", type=int, default=0, help="another one gives other subjects")
    what = "voxel edge in mm, from 1 to 8 (default: %(default)s)"
    add("--spacing", type=float, default=1.0, metavar="MM", help=what)
    what = "number of the data set (default: 501 for wmh, 502 for cel)"
    add("--dataset-id", type=int, metavar="ID", help=what)
    parallel.add_arguments(parser)
    what = "replace what the command wrote before"
    add("--overwrite", action="store_true", help=what)
    width = max(map(len, LAYOUTS))
    parser.epilog = "layouts:\n" + "\n".join(
        f"  {name:<{width}}  {layout.kind}: {layout.summary} "
        f"(-n up to {len(layout.slots)})"
        for name, layout in LAYOUTS.items()
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    layout = LAYOUTS.get(args.layout)
    most = len(layout.slots) if layout else 9999
    for name, value, low, high in (
        ("seed", args.seed, 0, 2**63),
        ("spacing", args.spacing, *SPACINGS),
        (f"number of {'scans' if layout else 'training cases'}", args.train, 1, most),
        ("number of test cases", args.test, 0, 9999),
        ("number of lesion-free cases", args.lesion_free, 0, args.train - 1),
    ):
        if not low <= value <= high:
            raise ValueError(
                f"The {name} must be from {low} to {high}. Got {value} instead."
            )
    if layout is None:
        return _write_data_set(args)
    if args.kind != layout.kind:
        raise ValueError(
            f"The kind of the layout {args.layout} must be {layout.kind}. Got "
            f"{args.kind} instead: choose another layout or kind."
        )
    if args.test or args.lesion_free or args.dataset_id is not None:
        raise ValueError(
            "The options --test, --lesion-free and --dataset-id must not be given with "
            "--layout, which fixes what the tree holds: leave them out."
        )
    if not args.out_folder:
        raise ValueError("There is no folder for the tree: name one after the kind.")
    load_template()  # fails here without nilearn, before anything is written
    write_source_tree(
        args.out_folder,
        layout,
        args.train,
        partial(make_subject, layout.kind, args.seed, spacing=args.spacing),
        overwrite=args.overwrite,
        processes=args.processes,
        description=None if args.no_progress else args.layout,
    )
    print(f"Wrote {args.train} scans in the layout {args.layout} to {args.out_folder}")
    return 0


def _write_data_set(args: argparse.Namespace) -> int:
    """Write a raw data set and return the exit status."""
    number, name, channel = _DATA_SETS[args.kind]
    number = number if args.dataset_id is None else args.dataset_id
    folder = dataset_folder(args.out_folder, number, name)
    load_template()  # fails here without nilearn, before anything is written
    extra = {
        "description": (
            f"Synthetic {channel} images with lesions, made from the MNI152 "
            "template by nnunet-cel. No patient data."
        ),
        "phantom": {
            "kind": args.kind,
            "seed": args.seed,
            "spacing_mm": args.spacing,
            "training_cases": args.train,
            "lesion_free_training_cases": args.lesion_free,
            "test_cases": args.test,
        },
    }
    with new_folder(
        folder, what="data set", mark=MARK, overwrite=args.overwrite
    ) as unfinished:
        _write_cases(unfinished, args, name)
        write_header(unfinished, channel, {"background": 0, "lesion": 1}, extra)
    print(f"Wrote {args.train} training and {args.test} test cases to {folder}")
    return 0


def _write_cases(folder: Path, args: argparse.Namespace, name: str) -> None:
    """Make the cases of a data set, and write them one by one.

    The last of the training cases are those without lesions, the last numbers are the
    test cases. A subject depends on kind, seed, its number and spacing only.
    """
    numbers = range(1, args.train + args.test + 1)
    for number in tqdm(numbers, desc=name, disable=args.no_progress):
        subject = make_subject(
            args.kind,
            args.seed,
            number,
            spacing=args.spacing,
            lesions=not args.train - args.lesion_free < number <= args.train,
            head=False,
        )
        write_case(
            folder,
            f"{name}_{number:03d}",
            subject.brain_image,
            subject.lesions,
            "train" if number <= args.train else "test",
        )
