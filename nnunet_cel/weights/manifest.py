"""Reads and writes `model.json`, which says what the weights of an export are.

Its entries:

format, version: what the file is; a program refuses a version that it does not know.
made_with: versions of nnU-Net and of this package.
trainer, configuration, mirroring_axes: what nnU-Net reads of a checkpoint.
plans, dataset: `plans.json` and `dataset.json`, reduced to what prediction needs.
tensors: shape and type of each tensor, tied ones under their first name.
files: for each fold its epochs, and size in bytes and SHA-256 of its weights.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from nnunet_cel.files import to_json
from nnunet_cel.weights.plans import (
    check_dataset,
    check_entries,
    check_plans,
    refuse,
)
from nnunet_cel.weights.rules import Rule, is_fold, is_integer, is_name, is_sha256

__all__ = [
    "MANIFEST",
    "FileOfFold",
    "Manifest",
    "is_axes",
    "manifest_text",
    "read_json",
    "read_manifest",
    "versions",
]

MANIFEST = "model.json"
FORMAT = "nnunet_cel weights"
VERSION = 1
PACKAGES = ("nnunetv2", "nnunet-cel")

_LARGEST_JSON = 64 << 20  # bytes; those of the paper's networks have some 100 kB
_DTYPES = (
    *("bfloat16", "bool", "float16", "float32", "float64"),
    *("int16", "int32", "int64", "int8", "uint8"),
)


@dataclass(frozen=True)
class FileOfFold:
    """The weights of one fold.

    Args:
        size: Size of the file in bytes.
        sha256: SHA-256 of the file in hexadecimal.
        epochs: Epochs that were trained, None if unknown.
    """

    size: int
    sha256: str
    epochs: int | None


@dataclass(frozen=True)
class Manifest:
    """What `model.json` says.

    Args:
        trainer: Name of the trainer's class.
        configuration: Name of the configuration in the plans.
        mirroring_axes: Axes along which predictions are mirrored, None for none.
        plans: Plans, reduced.
        dataset: ``dataset.json``, reduced.
        tensors: Shape and type of each stored tensor.
        files: The file of each fold, by the name of the fold.
        made_with: Version of each package that made the export.
    """

    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...] | None
    plans: dict[str, Any]
    dataset: dict[str, Any]
    tensors: Mapping[str, tuple[tuple[int, ...], str]]
    files: Mapping[str, FileOfFold]
    made_with: Mapping[str, str]


def versions() -> dict[str, str]:
    """Return the installed versions of nnU-Net and of this package."""
    return {package: metadata.version(package) for package in PACKAGES}


def manifest_text(manifest: Manifest) -> str:
    """Return the text of `model.json`, the same for the same model."""
    axes = manifest.mirroring_axes
    return to_json(
        {
            "format": FORMAT,
            "version": VERSION,
            "made_with": dict(manifest.made_with),
            "trainer": manifest.trainer,
            "configuration": manifest.configuration,
            "mirroring_axes": None if axes is None else list(axes),
            "plans": manifest.plans,
            "dataset": manifest.dataset,
            "files": {
                fold: {"epochs": f.epochs, "bytes": f.size, "sha256": f.sha256}
                for fold, f in manifest.files.items()
            },
            "tensors": {
                name: {"shape": list(shape), "dtype": dtype}
                for name, (shape, dtype) in manifest.tensors.items()
            },
        }
    )


def read_json(path: Path) -> Any:
    """Read a JSON file that may come from a stranger.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is very large, no JSON, or has NaN, infinity or two entries of
            one name.
    """
    size = path.stat().st_size
    if size > _LARGEST_JSON:
        raise refuse(f"file {path}", f"of {_LARGEST_JSON} bytes at most", size)
    try:
        return json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_distinct,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The file {path} must be JSON. It is not: {error}."
        ) from error


def read_manifest(path: Path) -> Manifest:
    """Read a `model.json` that may come from a stranger.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If an entry is missing, unknown or not allowed.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"The file {path} must be the {MANIFEST} that 'nnunet-cel weights export' "
            f'wrote. It does not say "format": {FORMAT!r}.'
        )
    if content.get("version") != VERSION:
        raise ValueError(
            f"The version of {path} must be {VERSION}. Got "
            f"{content.get('version')!r:.80} instead: install a newer nnunet-cel."
        )
    try:
        check_entries(content, _ENTRIES, MANIFEST)
        check_plans(content["plans"], content["configuration"])
        check_dataset(content["dataset"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    axes = content["mirroring_axes"]
    return Manifest(
        trainer=content["trainer"],
        configuration=content["configuration"],
        mirroring_axes=None if axes is None else tuple(axes),
        plans=content["plans"],
        dataset=content["dataset"],
        tensors={
            name: (tuple(entry["shape"]), entry["dtype"])
            for name, entry in content["tensors"].items()
        },
        files={
            fold: FileOfFold(entry["bytes"], entry["sha256"], entry["epochs"])
            for fold, entry in content["files"].items()
        },
        made_with=content["made_with"],
    )


def _refuse_constant(text: str) -> None:
    raise ValueError(f"it has the number {text}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("it has two entries of one name")
    return entries


def is_axes(value: object) -> bool:
    """Return whether a value can be the axes of mirroring."""
    return value is None or (
        isinstance(value, list)
        and len(set(map(str, value))) == len(value)
        and all(is_integer(axis, 0, 2) for axis in value)
    )


def _is_file(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"epochs", "bytes", "sha256"}
        and (value["epochs"] is None or is_integer(value["epochs"], 0, 10**9))
        and is_integer(value["bytes"], 1, 2**48)
        and is_sha256(value["sha256"])
    )


def _is_tensor(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"shape", "dtype"}
        and value["dtype"] in _DTYPES
        and isinstance(value["shape"], list)
        and len(value["shape"]) <= 8
        and all(is_integer(size, 0, 2**32) for size in value["shape"])
        and math.prod(value["shape"]) <= 2**40
    )


def _are_versions(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(PACKAGES)
        and all(map(is_name, value.values()))
    )


def _are_files(value: object) -> bool:
    return (
        isinstance(value, dict)
        and 0 < len(value) <= 100
        and all(map(is_fold, value))
        and all(map(_is_file, value.values()))
    )


def _are_tensors(value: object) -> bool:
    return (
        isinstance(value, dict)
        and 0 < len(value) <= 100_000
        and all(re.fullmatch(r"\w[\w.]{0,199}", name, re.ASCII) for name in value)
        and all(map(_is_tensor, value.values()))
    )


_ENTRIES: Mapping[str, Rule] = {
    "format": (True, lambda value: value == FORMAT, FORMAT),
    "version": (True, lambda value: value == VERSION, str(VERSION)),
    "made_with": (True, _are_versions, f"the versions of {' and '.join(PACKAGES)}"),
    "trainer": (True, is_name, "the name of a trainer"),
    "configuration": (True, is_name, "the name of a configuration"),
    "mirroring_axes": (True, is_axes, "null or a list of axes from 0 to 2"),
    "plans": (True, lambda value: isinstance(value, dict), "an object"),
    "dataset": (True, lambda value: isinstance(value, dict), "an object"),
    "files": (
        True,
        _are_files,
        "an object with epochs, bytes and sha256 for each fold, a number or 'all'",
    ),
    "tensors": (True, _are_tensors, "an object with shape and dtype for each tensor"),
}
