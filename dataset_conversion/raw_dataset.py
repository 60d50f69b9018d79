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

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt

__all__ = ["RawCase", "write_raw_dataset"]

Array = npt.NDArray[Any]

# A nibabel image, or voxels of shape (X, Y, Z) and the affine of shape (4, 4).
Volume = Any

_FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
_OWN_ENTRIES = ("channel_names", "labels", "numTraining", "file_ending")
_GEOMETRY_TOLERANCE = 1e-3  # mm; NIfTI stores the affine in float32


@dataclass(frozen=True)
class RawCase:
    """One case on its way into a data set.

    Args:
        identifier: Name of the case, for example ``"WMH_001"``.
        images: One volume per channel: nibabel images, or pairs of voxels (X, Y, Z)
            and affine (4, 4).
        label: Volume of integers on the same grid, or a bare array of them; None only
            in test cases.
        split: ``"train"`` or ``"test"``.
    """

    identifier: str
    images: Sequence[Volume]
    label: Volume | None = None
    split: Literal["train", "test"] = "train"


def write_raw_dataset(
    folder: Path | str,
    cases: Iterable[RawCase],
    *,
    channel_names: Sequence[str],
    labels: Mapping[str, int | Sequence[int]],
    file_ending: str = ".nii.gz",
    splits: Sequence[Mapping[str, Sequence[str]]] | None = None,
    extra: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a raw data set that nnU-Net v2 can plan and preprocess.

    The data set grows in a hidden folder beside its place and is renamed when it is
    complete. Whatever goes wrong, nothing half-written is left and an existing data set
    stays as it was. The same cases give the same bytes.

    Args:
        folder: Where the data set is to be, for example
            ``nnUNet_raw/Dataset501_WMH``.
        cases: The cases, taken one by one, so a generator keeps one in memory.
        channel_names: Name of each channel; nnU-Net picks the normalization by it.
        labels: Value of each label, or values of each region, background first.
        file_ending: ``".nii.gz"`` or ``".nii"``.
        splits: Training and validation cases of each fold, for
            ``splits_final.json``; None leaves the split to nnU-Net.
        extra: More entries for ``dataset.json``, such as description or license.
        overwrite: Whether an existing data set is replaced.

    Returns:
        The folder of the data set.

    Raises:
        FileExistsError: If the data set exists and ``overwrite`` is False.
        ValueError: If a case, the labels or the splits break a rule of nnU-Net.
    """
    folder = Path(folder)
    _check_folder_name(folder.name)
    _check_header(channel_names, labels, file_ending, extra)
    with _whole_or_nothing(folder, overwrite=overwrite) as partial:
        written = _write_cases(partial, cases, channel_names, labels, file_ending)
        training = sorted(name for name, split in written.items() if split == "train")
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
        _write_json(partial / "dataset.json", header)
        if splits is not None:
            folds = [_checked_fold(fold, training, i) for i, fold in enumerate(splits)]
            _write_json(partial / "splits_final.json", folds)
    return folder


@contextmanager
def _whole_or_nothing(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write to, which takes the place of ``folder`` at the end."""
    if folder.exists() and not overwrite:
        raise FileExistsError(
            f"The data set {folder} exists and is not replaced without being told so. "
            "Choose another folder or data set number, or set overwrite."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _write_cases(
    folder: Path,
    cases: Iterable[RawCase],
    channel_names: Sequence[str],
    labels: Mapping[str, int | Sequence[int]],
    file_ending: str,
) -> dict[str, str]:
    """Write images and label maps, and return the split of each case."""
    allowed = np.array(sorted({v for value in labels.values() for v in _values(value)}))
    written: dict[str, str] = {}
    for name in _FOLDERS["train"]:
        (folder / name).mkdir()
    for case in cases:
        name = case.identifier
        _check_identifier(name, written)
        if case.split not in _FOLDERS:
            raise ValueError(
                f'The split of case {name} must be "train" or "test". Got '
                f"{case.split!r} instead."
            )
        image_folder, label_folder = (folder / part for part in _FOLDERS[case.split])
        volumes = _checked_images(case, channel_names)
        image_folder.mkdir(exist_ok=True)
        for channel, (voxels, affine) in enumerate(volumes):
            path = image_folder / f"{name}_{channel:04d}{file_ending}"
            _write_nifti(path, voxels, affine)
        shape, affine = volumes[0][0].shape, volumes[0][1]
        label = _checked_label(case, shape, affine, allowed)
        if label is not None:
            label_folder.mkdir(exist_ok=True)
            _write_nifti(label_folder / f"{name}{file_ending}", label, affine)
        written[name] = case.split
    return written


def _checked_images(
    case: RawCase, channel_names: Sequence[str]
) -> list[tuple[Array, Array]]:
    """Return voxels and affine of every channel of a case."""
    if len(case.images) != len(channel_names):
        raise ValueError(
            f"Case {case.identifier} must have one image for each channel "
            f"({', '.join(channel_names)}). Got {len(case.images)} images instead."
        )
    volumes: list[tuple[Array, Array]] = []
    for channel, image in zip(channel_names, case.images, strict=True):
        where = f"The {channel} image of case {case.identifier}"
        voxels, affine = _open(image)
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
            voxels = voxels.astype(np.float32)
        if volumes:
            _check_grid(where, voxels.shape, affine, volumes[0][0].shape, volumes[0][1])
        volumes.append((voxels, affine))
    return volumes


def _checked_label(
    case: RawCase, shape: tuple[int, ...], affine: Array, allowed: Array
) -> Array | None:
    """Return the label map of a case as uint8 of shape (X, Y, Z)."""
    if case.label is None:
        if case.split == "train":
            raise ValueError(
                f"Training case {case.identifier} must have a label map. Got none: add "
                'it, or make it a test case with split="test".'
            )
        return None
    where = f"The label map of case {case.identifier}"
    if isinstance(case.label, np.ndarray):
        voxels = case.label
        _check_grid(where, voxels.shape, affine, shape, affine)
    else:
        voxels, own_affine = _open(case.label)
        _check_grid(where, voxels.shape, own_affine, shape, affine)
    found = np.unique(voxels)
    if not np.isin(found, allowed).all():
        strange = ", ".join(f"{v:g}" for v in found[~np.isin(found, allowed)][:5])
        raise ValueError(
            f"{where} must have no values but {', '.join(map(str, allowed))}. Got "
            f"{strange} too: binarize it, or name these labels."
        )
    return voxels.astype(np.uint8)


def _check_grid(
    where: str,
    shape: tuple[int, ...],
    affine: Array,
    expected_shape: tuple[int, ...],
    expected_affine: Array,
) -> None:
    """Refuse a volume that is not on the voxel grid of the first image."""
    if shape != expected_shape:
        raise ValueError(
            f"{where} must have the shape of the first image, {expected_shape}. Got "
            f"{shape} instead: resample it to that image."
        )
    if not np.allclose(affine, expected_affine, atol=_GEOMETRY_TOLERANCE, rtol=0):
        raise ValueError(
            f"{where} must have the affine of the first image,\n{expected_affine}\n"
            f"Got\n{affine}\ninstead: resample it to that image."
        )


def _open(volume: Volume) -> tuple[Array, Array]:
    """Return voxels and affine of a nibabel image or of a pair of them."""
    if isinstance(volume, tuple):
        voxels, affine = volume
        return np.asarray(voxels), np.asarray(affine, dtype=float)
    return np.asanyarray(volume.dataobj), np.asarray(volume.affine, dtype=float)


def _write_nifti(path: Path, voxels: Array, affine: Array) -> None:
    """Write a NIfTI file whose bytes depend on nothing but the arguments."""
    if voxels.dtype.kind == "b":
        voxels = voxels.astype(np.uint8)
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    # Both transforms, because readers differ in which one they prefer.
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=4, mtime=0)
    path.write_bytes(content)


def _write_json(path: Path, content: Any) -> None:
    """Write indented JSON with a line break at its end."""
    text = json.dumps(content, indent=4, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _check_folder_name(name: str) -> None:
    """Refuse a folder that nnU-Net would not find by its number."""
    if not re.fullmatch(r"Dataset\d{3}_.+", name):
        raise ValueError(
            "The folder of a data set must be named Dataset, a number of three digits, "
            f"an underscore and a name, such as Dataset501_WMH. Got {name!r} instead."
        )


def _check_identifier(name: str, written: Mapping[str, str]) -> None:
    """Refuse the name of a case that cannot be a file name or is taken."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise ValueError(
            "The identifier of a case must be of letters, digits and the signs . _ + - "
            f"and begin with a letter or digit, for example WMH_001. Got {name!r} "
            "instead."
        )
    # Some file systems do not tell a from A.
    taken = {other.lower(): other for other in written}
    if name.lower() in taken:
        raise ValueError(
            "The identifiers of all cases must differ, training and test cases "
            f"together. Got {name!r} and {taken[name.lower()]!r}: rename one."
        )


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
