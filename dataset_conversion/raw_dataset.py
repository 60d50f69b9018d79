"""Writes raw data sets of nnU-Net v2, whole or not at all.

Words:

- *case*: the images of one subject on one voxel grid, with or without a label map.
- *channel*: one of the images of a case, for example FLAIR.
- *training case*: goes to ``imagesTr`` and ``labelsTr``.
- *test case*: goes to ``imagesTs`` and ``labelsTs``. nnU-Net itself never reads
  ``labelsTs``; it is there for the evaluation.

Reference: nnU-Net v2, documentation/dataset_format.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nnunet_cel.files import new_folder, to_json, write_whole
from nnunet_cel.parallel import map_cases
from nnunet_cel.volumes import Volume, check_same_grid, write_volume

__all__ = ["RawCase", "dataset_folder", "write_raw_dataset"]

Array = npt.NDArray[Any]

_FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
_OWN_ENTRIES = ("channel_names", "labels", "numTraining", "file_ending")


@dataclass(frozen=True)
class RawCase:
    """One case on its way into a data set.

    Args:
        identifier: Name of the case, for example ``"WMH_001"``.
        images: One volume per channel, all on one grid.
        label: Integers on the same grid; None only in test cases.
        split: ``"train"`` or ``"test"``.
        notes: Where the case comes from and what was done to it, for
            ``conversion.json``.
    """

    identifier: str
    images: Sequence[Volume]
    label: Volume | None = None
    split: Literal["train", "test"] = "train"
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Header:
    """What all cases of a data set have in common."""

    channel_names: Sequence[str]
    label_values: Sequence[int]
    file_ending: str


Case = RawCase | Callable[[], RawCase]
"""A case, or a function that reads it."""


def dataset_folder(parent: Path | str | None, dataset_id: int, name: str) -> Path:
    """Return the folder of a data set, such as ``nnUNet_raw/Dataset501_WMH``.

    Args:
        parent: Folder of raw data sets; None for the environment variable
            ``nnUNet_raw``.
        dataset_id: Number of the data set, from 1 to 999.
        name: Name of the data set.

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
    others = sorted(set(folder.parent.glob(f"Dataset{dataset_id:03d}_*")) - {folder})
    if others:
        raise ValueError(
            f"The number {dataset_id} must belong to one data set only. "
            f"{others[0]} has it: choose another number."
        )
    return folder


def write_raw_dataset(
    folder: Path | str,
    cases: Iterable[Case],
    *,
    channel_names: Sequence[str],
    labels: Mapping[str, int | Sequence[int]],
    file_ending: str = ".nii.gz",
    splits: Sequence[Mapping[str, Sequence[str]]] | None = None,
    extra: Mapping[str, Any] | None = None,
    conversion: Mapping[str, Any] | None = None,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    processes: int = 1,
    description: str | None = None,
) -> Path:
    """Write a raw data set that nnU-Net v2 can plan and preprocess.

    The data set grows in a hidden folder beside its place and is renamed when it is
    complete. Whatever goes wrong, nothing half-written is left and an existing data set
    stays as it was. The same cases give the same bytes.

    Args:
        folder: Where the data set is to be, for example
            ``nnUNet_raw/Dataset501_WMH``.
        cases: The cases, or functions that read them, picklable if ``processes`` > 1.
            With one process they are taken one by one, so that a generator keeps one
            in memory.
        channel_names: Name of each channel; nnU-Net picks the normalization by it.
        labels: Value of each label, or values of each region, background first.
        file_ending: ``".nii.gz"`` or ``".nii"``.
        splits: Training and validation cases of each fold, for
            ``splits_final.json``; None leaves the split to nnU-Net.
        extra: More entries for ``dataset.json``, such as description or license.
        conversion: What ``conversion.json`` holds beside the notes of each case; None
            for no such file.
        inputs: Files and folders that are read, and must not be in the folder.
        overwrite: Whether an existing data set is replaced.
        processes: Number of processes that read and write cases.
        description: Title of a progress bar, None for no bar.

    Returns:
        The folder of the data set.

    Raises:
        FileExistsError: If the data set exists and ``overwrite`` is False.
        ValueError: If a case, the labels or the splits break a rule of nnU-Net.
    """
    folder = Path(folder)
    _check_folder_name(folder.name)
    _check_header(channel_names, labels, file_ending, extra)
    values = sorted({v for value in labels.values() for v in _values(value)})
    common = _Header(tuple(channel_names), values, file_ending)
    with new_folder(
        folder,
        what="data set",
        mark="dataset.json",
        inputs=inputs,
        overwrite=overwrite,
    ) as unfinished:
        for name in {name for names in _FOLDERS.values() for name in names}:
            (unfinished / name).mkdir()
        written = map_cases(
            partial(_write_case, unfinished, common),
            cases,
            processes=processes,
            description=description,
        )
        _check_distinct(name for name, _, _ in written)
        for name in _FOLDERS["test"]:
            if not any((unfinished / name).iterdir()):
                (unfinished / name).rmdir()
        training = sorted(name for name, split, _ in written if split == "train")
        if not training:
            raise ValueError(
                f"A data set must have at least one training case. {folder.name} got "
                "none: check that the source folder is the right one."
            )
        header = {
            "channel_names": {str(i): name for i, name in enumerate(channel_names)},
            "labels": {name: _plain(value) for name, value in labels.items()},
            "numTraining": len(training),
            "file_ending": file_ending,
            **(extra or {}),
        }
        write_whole(unfinished / "dataset.json", to_json(header))
        if splits is not None:
            folds = [_checked_fold(fold, training, i) for i, fold in enumerate(splits)]
            write_whole(unfinished / "splits_final.json", to_json(folds))
        if conversion is not None:
            notes = {name: {**notes, "split": split} for name, split, notes in written}
            record = {**conversion, "cases": dict(sorted(notes.items()))}
            write_whole(unfinished / "conversion.json", to_json(record))
    return folder


def _write_case(
    folder: Path, header: _Header, case: Case
) -> tuple[str, str, Mapping[str, Any]]:
    """Write images and label map of a case; return its name, split and notes."""
    case = case() if callable(case) else case
    name = case.identifier
    _check_identifier(name)
    if case.split not in _FOLDERS:
        raise ValueError(
            f'The split of case {name} must be "train" or "test". Got '
            f"{case.split!r} instead."
        )
    image_folder, label_folder = (folder / part for part in _FOLDERS[case.split])
    images = _checked_images(case, header.channel_names)
    for channel, image in enumerate(images):
        path = image_folder / f"{name}_{channel:04d}{header.file_ending}"
        _write_new(path, image)
    label = _checked_label(case, images[0], header.label_values)
    if label is not None:
        _write_new(label_folder / f"{name}{header.file_ending}", label)
    return name, case.split, case.notes


def _checked_images(case: RawCase, channel_names: Sequence[str]) -> list[Volume]:
    """Return the images of a case as they are stored."""
    if len(case.images) != len(channel_names):
        raise ValueError(
            f"Case {case.identifier} must have one image for each channel "
            f"({', '.join(channel_names)}). Got {len(case.images)} images instead."
        )
    checked: list[Volume] = []
    for channel, image in zip(channel_names, case.images, strict=True):
        where = f"The {channel} image of case {case.identifier}"
        voxels = image.voxels
        if voxels.ndim != 3:
            raise ValueError(
                f"{where} must have three axes. Got the shape {voxels.shape} instead: "
                "cut out the volume that you need."
            )
        if not np.isfinite(voxels).all():
            wrong = int((~np.isfinite(voxels)).sum())
            raise ValueError(
                f"{where} must have finite voxels. Got {wrong} that are NaN or "
                "infinite: replace them, usually by zero."
            )
        if voxels.dtype.kind == "f" or voxels.dtype.itemsize > 4:
            with np.errstate(over="ignore"):  # checked below
                voxels = voxels.astype(np.float32)
        if not np.isfinite(voxels).all():
            raise ValueError(
                f"{where} must have values that float32 can hold. Got larger ones: "
                "scale the image."
            )
        if checked:
            check_same_grid(where, image, checked[0])
        checked.append(Volume(voxels, checked[0].affine if checked else image.affine))
    return checked


def _checked_label(
    case: RawCase, image: Volume, allowed: Sequence[int]
) -> Volume | None:
    """Return the label map of a case as uint8, on exactly the grid of the image."""
    if case.label is None:
        if case.split == "train":
            raise ValueError(
                f"Training case {case.identifier} must have a label map. Got none: add "
                'it, or make it a test case with split="test".'
            )
        return None
    where = f"The label map of case {case.identifier}"
    check_same_grid(where, case.label, image)
    found = np.unique(case.label.voxels)
    if not np.isin(found, allowed).all():
        strange = ", ".join(f"{v:g}" for v in found[~np.isin(found, allowed)][:5])
        raise ValueError(
            f"{where} must have no values but {', '.join(map(str, allowed))}. Got "
            f"{strange} too: binarize it, or name these labels."
        )
    return Volume(case.label.voxels.astype(np.uint8), image.affine)


def _write_new(path: Path, volume: Volume) -> None:
    """Write a file of a case, but not a second one of the same name."""
    if path.exists():
        raise ValueError(
            "The identifiers of all cases must differ, training and test cases "
            f"together. Got a second case that would be {path.name}: rename one."
        )
    write_volume(path, volume)


def _check_folder_name(name: str) -> None:
    """Refuse a folder that nnU-Net would not find by its number."""
    if not re.fullmatch(r"Dataset\d{3}_.+", name):
        raise ValueError(
            "The folder of a data set must be named Dataset, a number of three digits, "
            f"an underscore and a name, such as Dataset501_WMH. Got {name!r} instead."
        )


def _check_identifier(name: str) -> None:
    """Refuse the name of a case that cannot be a file name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise ValueError(
            "The identifier of a case must be of letters, digits and the signs . _ + - "
            f"and begin with a letter or digit, for example WMH_001. Got {name!r} "
            "instead."
        )


def _check_distinct(names: Iterable[str]) -> None:
    """Refuse names that differ in nothing but the case of letters, or not at all."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.get(name.lower())  # some file systems do not tell a from A
        if other is not None:
            raise ValueError(
                "The identifiers of all cases must differ, training and test cases "
                f"together. Got {name!r} and {other!r}: rename one."
            )
        taken[name.lower()] = name


def _check_header(
    channel_names: Sequence[str],
    labels: Mapping[str, int | Sequence[int]],
    file_ending: str,
    extra: Mapping[str, Any] | None,
) -> None:
    """Refuse settings that nnU-Net would stumble over later."""
    if isinstance(channel_names, str) or not channel_names:
        raise ValueError(
            "The channel names must be a list of at least one name, such as "
            f"['FLAIR']. Got {channel_names!r} instead."
        )
    if file_ending not in (".nii.gz", ".nii"):
        raise ValueError(
            f"The file ending must be .nii.gz or .nii. Got {file_ending!r} instead."
        )
    if labels.get("background") != 0:
        raise ValueError(
            "The labels must have the entry 'background' with the value 0. Got "
            f"{dict(labels)} instead."
        )
    values = sorted({v for value in labels.values() for v in _values(value)})
    if values != list(range(len(values))) or len(values) > 256:
        raise ValueError(
            "The values of the labels must be 0, 1, 2 and so on without a gap, 255 at "
            f"most. Got {values} instead: renumber them."
        )
    clash = sorted(set(extra or {}) & set(_OWN_ENTRIES))
    if clash:
        raise ValueError(
            "The extra entries of dataset.json must not be those that are written "
            f"anyway ({', '.join(_OWN_ENTRIES)}). Got {', '.join(clash)}."
        )


def _checked_fold(
    fold: Mapping[str, Sequence[str]], training: Sequence[str], number: int
) -> dict[str, list[str]]:
    """Return a fold as nnU-Net stores it."""
    where = f"Fold {number} of the splits"
    if set(fold) != {"train", "val"}:
        raise ValueError(
            f"{where} must have the entries 'train' and 'val'. Got {sorted(fold)}."
        )
    parts = {part: list(fold[part]) for part in ("train", "val")}
    unknown = sorted({*parts["train"], *parts["val"]} - set(training))
    if unknown:
        raise ValueError(
            f"{where} must name training cases only. Got {', '.join(unknown[:5])}, "
            "which are not among them."
        )
    both = sorted(set(parts["train"]) & set(parts["val"]))
    if both:
        raise ValueError(
            f"{where} must not train and validate on the same case. Got "
            f"{', '.join(both[:5])} in both: leave them in one."
        )
    return parts


def _values(value: int | Sequence[int]) -> list[int]:
    """Return the values of a label or region."""
    return [value] if isinstance(value, int) else list(value)


def _plain(value: int | Sequence[int]) -> int | list[int]:
    """Return a label or region as JSON has it."""
    return value if isinstance(value, int) else list(value)
