"""Writes a synthetic data set that nnU-Net can plan, preprocess and train on.

`wmh` gives FLAIR images with white matter hyperintensities (for pretraining), `cel`
gives contrast-enhanced T1w images with enhancing lesions (for fine-tuning). They are
for trying out the commands, not for measuring how well a method works on patients.

    nnunet-cel phantom wmh -n 20 --test 5
    nnunet-cel phantom cel FOLDER -n 12 --test 5 --spacing 2
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from nnunet_cel.dataset_conversion.raw_dataset import RawCase, write_raw_dataset
from nnunet_cel.phantom.anatomy import Grid, load_template
from nnunet_cel.phantom.subject import Modality, make_subject

__all__ = ["add_arguments", "run", "write_phantom_dataset"]

Kind = Literal["wmh", "cel"]


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
        help="folder for the data set, right after the kind (default: $nnUNet_raw)",
    )
    parser.add_argument(
        "-n",
        "--train",
        type=int,
        required=True,
        metavar="N",
        help="number of training cases",
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
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the data set if it exists"
    )
    parser.add_argument(
        "--no-progress", action="store_true", help="show no progress bar"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
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
        ("seed", seed, 0, 2**63),
        ("number of the data set", dataset_id, 1, 999),
    ):
        if not low <= value <= high:
            raise ValueError(
                f"The {name} must be from {low} to {high}. Got {value} instead."
            )
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
                images=[(subject.image, subject.affine)],
                label=subject.label,
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
