"""Writes a synthetic data set that nnU-Net can plan, preprocess and train on.

`wmh` gives FLAIR images with white matter hyperintensities (for pretraining), `cel`
gives contrast-enhanced T1w images with enhancing lesions (for fine-tuning). They are
for trying out the commands, not for measuring how well a method works on patients.

    nnunet-cel phantom wmh -n 20 --test 5
    nnunet-cel phantom cel FOLDER -n 12 --test 5 --spacing 2

With --layout it writes scans with skull in the original layout of a public data set or
in one of a clinic, to try out `nnunet-cel convert` and `nnunet-cel prepare`.

    nnunet-cel phantom wmh FOLDER -n 5 --layout msseg2016
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from nnunet_cel import parallel
from nnunet_cel.dataset_conversion.raw_dataset import RawCase, write_raw_dataset
from nnunet_cel.phantom.anatomy import Grid, load_template
from nnunet_cel.phantom.head import make_source_subject
from nnunet_cel.phantom.layouts import LAYOUTS
from nnunet_cel.phantom.source_subject import Kind, SourceSubject
from nnunet_cel.phantom.source_tree import write_source_tree
from nnunet_cel.phantom.subject import Modality, make_subject
from nnunet_cel.volumes import Volume

__all__ = ["add_arguments", "run", "write_phantom_dataset"]

_LARGEST_SEED = 2**63


@dataclass(frozen=True)
class _KindSettings:
    """What distinguishes the two data sets."""

    dataset_id: int
    name: str
    channel: str
    modality: Modality
    lesions: str


_KINDS: dict[Kind, _KindSettings] = {
    "wmh": _KindSettings(501, "WMH", "FLAIR", "flair", "white matter hyperintensities"),
    "cel": _KindSettings(502, "CEL", "CE-T1w", "cet1w", "contrast-enhancing lesions"),
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
    if args.layout is not None:
        return _run_layout(args)
    parent = args.out_folder
    if parent is None:
        if not os.environ.get("nnUNet_raw"):
            raise ValueError(
                "No folder for the data set: name one after the kind, or set the "
                "environment variable nnUNet_raw."
            )
        parent = Path(os.environ["nnUNet_raw"])
    folder = write_phantom_dataset(
        args.kind,
        parent,
        n_train=args.train,
        n_test=args.test,
        n_lesion_free=args.lesion_free,
        seed=args.seed,
        spacing=args.spacing,
        dataset_id=args.dataset_id,
        overwrite=args.overwrite,
        progress=not args.no_progress,
    )
    print(f"Wrote {args.train} training and {args.test} test cases to {folder}")
    return 0


def _run_layout(args: argparse.Namespace) -> int:
    """Write a tree of source files and return the exit status."""
    kind = LAYOUTS[args.layout].kind
    if args.kind != kind:
        raise ValueError(
            f"The kind of the layout {args.layout} must be {kind}. Got {args.kind} "
            "instead: choose another layout or kind."
        )
    if args.out_folder is None:
        raise ValueError("No folder for the tree of files: name one after the kind.")
    if args.test or args.lesion_free or args.dataset_id is not None:
        raise ValueError(
            "The options --test, --lesion-free and --dataset-id must not be given with "
            "--layout, which fixes what the tree holds: leave them out."
        )
    _check_range("seed", args.seed, 0, _LARGEST_SEED)
    Grid.of_spacing(args.spacing)  # refuses a spacing out of range
    load_template()
    folder = write_source_tree(
        args.out_folder,
        args.layout,
        args.train,
        partial(_make_source_subject, args.layout, args.seed, args.spacing),
        overwrite=args.overwrite,
        processes=args.processes,
        description=None if args.no_progress else args.layout,
    )
    print(f"Wrote {args.train} scans in the layout {args.layout} to {folder}")
    return 0


def _make_source_subject(
    name: str, seed: int, spacing: float, number: int
) -> SourceSubject:
    """Make the subject for a slot of a layout."""
    layout = LAYOUTS[name]
    return make_source_subject(
        layout.kind,
        seed,
        number,
        spacing=spacing,
        lesions=number not in layout.lesion_free,
    )


def _check_range(name: str, value: int, low: int, high: int) -> None:
    """Refuse a number out of its range."""
    if not low <= value <= high:
        raise ValueError(
            f"The {name} must be from {low} to {high}. Got {value} instead."
        )


def write_phantom_dataset(
    kind: Kind,
    parent: Path | str,
    *,
    n_train: int,
    n_test: int = 0,
    n_lesion_free: int = 0,
    seed: int = 0,
    spacing: float = 1.0,
    dataset_id: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write a raw data set of synthetic subjects.

    The last of the training cases are those without lesions, the last numbers are the
    test cases. A subject depends on kind, seed, its number and spacing only.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        parent: Folder that gets the data set, usually nnU-Net's raw folder.
        n_train: Number of training cases, those without lesions included.
        n_test: Number of test cases; their labels go to ``labelsTs``.
        n_lesion_free: Number of training cases without lesions.
        seed: Seed of the data set.
        spacing: Voxel edge in mm, from 1 to 8.
        dataset_id: Number of the data set; None for 501 (wmh) or 502 (cel).
        overwrite: Whether an existing data set is replaced.
        progress: Whether to show a progress bar.

    Returns:
        The folder of the data set, for example ``Dataset501_WMH``.

    Raises:
        FileExistsError: If the data set exists and ``overwrite`` is False.
        ImportError: If nilearn is not installed.
        ValueError: If a number is out of its range.
    """
    if kind not in _KINDS:
        raise ValueError(
            f"The kind of a phantom must be one of {', '.join(_KINDS)}. Got {kind!r}."
        )
    settings = _KINDS[kind]
    if dataset_id is None:
        dataset_id = settings.dataset_id
    for name, value, low, high in (
        ("number of training cases", n_train, 1, 9999),
        ("number of test cases", n_test, 0, 9999),
        ("number of lesion-free cases", n_lesion_free, 0, n_train - 1),
        ("seed", seed, 0, _LARGEST_SEED),
        ("number of the data set", dataset_id, 1, 999),
    ):
        _check_range(name, value, low, high)
    Grid.of_spacing(spacing)  # refuses a spacing out of range before anything is done
    load_template()

    def make_cases() -> Iterator[RawCase]:
        numbers = range(1, n_train + n_test + 1)
        for number in tqdm(numbers, desc=settings.name, disable=not progress):
            lesion_free = n_train - n_lesion_free < number <= n_train
            subject = make_subject(
                settings.modality,
                seed,
                number,
                spacing=spacing,
                lesions=not lesion_free,
            )
            yield RawCase(
                identifier=f"{settings.name}_{number:03d}",
                images=[Volume(subject.image, subject.affine)],
                label=Volume(subject.label, subject.affine),
                split="train" if number <= n_train else "test",
            )

    folder: Path = write_raw_dataset(
        Path(parent) / f"Dataset{dataset_id:03d}_{settings.name}",
        make_cases(),
        channel_names=[settings.channel],
        labels={"background": 0, "lesion": 1},
        extra={
            "description": (
                f"Synthetic {settings.channel} images with {settings.lesions}, made "
                "from the MNI152 template by nnunet-cel. No patient data."
            ),
            "phantom": {
                "kind": kind,
                "seed": seed,
                "spacing_mm": spacing,
                "training_cases": n_train,
                "lesion_free_training_cases": n_lesion_free,
                "test_cases": n_test,
                "numpy": np.__version__,
            },
        },
        overwrite=overwrite,
    )
    return folder
