"""Exports the weights of a model folder to files that hold no code.

What goes along is what prediction needs. Training logs, splits, fingerprints,
validations, names of cases, paths and the optimizer's state stay behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nnunet_cel.files import new_folder, sha256, write_whole
from nnunet_cel.weights.checkpoint import Checkpoint, read_checkpoint
from nnunet_cel.weights.manifest import (
    MANIFEST,
    FileOfFold,
    Manifest,
    is_axes,
    manifest_text,
    read_json,
    versions,
)
from nnunet_cel.weights.network import build_network, check_fit, tied_tensors
from nnunet_cel.weights.plans import (
    check_dataset,
    check_plans,
    reduce_dataset,
    reduce_plans,
    refuse,
)
from nnunet_cel.weights.rules import is_fold

__all__ = ["check_finite", "dtype_name", "export_weights", "find_folds", "weights_file"]


def weights_file(fold: str) -> str:
    """Return the name of the file with the weights of a fold."""
    return f"fold_{fold}.safetensors"


def export_weights(
    model: Path | str,
    out: Path | str,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    overwrite: bool = False,
) -> Manifest:
    """Write the weights of a model folder as `model.json` and `fold_X.safetensors`.

    The same checkpoints give the same bytes. They are read without running what they
    hold, and must fit the plans.

    Args:
        model: Folder with ``plans.json``, ``dataset.json`` and ``fold_X``.
        out: Folder of the export.
        folds: Names of folds; None for all that have the checkpoint.
        checkpoint: Name of the file in each fold.
        overwrite: Whether an earlier export is replaced.

    Returns:
        What `model.json` says.

    Raises:
        FileExistsError: If ``out`` exists and ``overwrite`` is False.
        OSError: If a file is missing or cannot be read or written.
        ValueError: If checkpoints and plans are not what they must be.
    """
    model = Path(model)
    chosen = list(folds) if folds else find_folds(model, checkpoint)
    for fold in chosen:
        if not is_fold(fold):
            raise refuse("fold", "a number or 'all'", fold)
    plans, dataset = read_json(model / "plans.json"), read_json(model / "dataset.json")
    if not isinstance(plans, dict) or not isinstance(dataset, dict):
        raise refuse(
            f"plans.json and dataset.json in {model}", "objects", [plans, dataset]
        )
    with new_folder(
        out, what="export", mark=MANIFEST, inputs=[model], overwrite=overwrite
    ) as unfinished:
        first: _Model | None = None
        files = {}
        for fold in chosen:
            source = model / f"fold_{fold}" / checkpoint
            read = read_checkpoint(source)
            this = _Model.of(read, plans, dataset, source=source)
            first = first or this
            if this != first:
                raise ValueError(
                    f"The folds of a model must have the same trainer, configuration, "
                    f"mirroring and tensors. {source} differs from fold {chosen[0]}: "
                    "choose folds with -f."
                )
            target = unfinished / weights_file(fold)
            _save(read.weights, this.tensors, target)
            files[fold] = FileOfFold(target.stat().st_size, sha256(target), read.epochs)
        assert first is not None
        manifest = Manifest(
            trainer=first.trainer,
            configuration=first.configuration,
            mirroring_axes=first.mirroring_axes,
            plans=first.plans,
            dataset=first.dataset,
            tensors=first.tensors,
            files=files,
            made_with=versions(),
        )
        write_whole(unfinished / MANIFEST, manifest_text(manifest))
    return manifest


def find_folds(model: Path, checkpoint: str) -> list[str]:
    """Return the names of the folds of a model that have a checkpoint, in order.

    Raises:
        FileNotFoundError: If none has.
    """
    names = [
        folder.name.removeprefix("fold_")
        for folder in model.glob("fold_*")
        if (folder / checkpoint).is_file()
    ]
    folds = [name for name in names if is_fold(name)]
    if not folds:
        raise FileNotFoundError(
            f"The model folder must have folders fold_X with {checkpoint}. Found none "
            f"in {model}: name the folder TRAINER__PLANS__CONFIGURATION."
        )
    return sorted(folds, key=lambda name: math.inf if name == "all" else int(name))


@dataclass(frozen=True)
class _Model:
    """What must be the same in all folds."""

    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...] | None
    plans: dict[str, Any]
    dataset: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], str]]

    @classmethod
    def of(
        cls,
        read: Checkpoint,
        plans: dict[str, Any],
        dataset: dict[str, Any],
        *,
        source: Path,
    ) -> _Model:
        reduced, described = (
            reduce_plans(plans, read.configuration),
            reduce_dataset(dataset),
        )
        check_plans(reduced, read.configuration)
        check_dataset(described)
        if not is_axes(None if (axes := read.mirroring_axes) is None else list(axes)):
            raise refuse(f"mirroring axes in {source}", "from 0 to 2", axes)
        network = build_network(
            reduced, described, configuration=read.configuration, trainer=read.trainer
        )
        check_fit(read.weights, network, source=source)
        check_finite(read.weights, source=source)
        return cls(
            trainer=read.trainer,
            configuration=read.configuration,
            mirroring_axes=read.mirroring_axes,
            plans=reduced,
            dataset=described,
            tensors=_stored(read.weights, network, source=source),
        )


def _stored(
    weights: Mapping[str, Tensor], network: nn.Module, *, source: Path
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of the tensors to store: tied ones once."""
    tied = tied_tensors(network)
    for name, stored in tied.items():
        if not torch.equal(weights[name], weights[stored]):
            raise ValueError(
                f"The tensors {name!r} and {stored!r} of {source} must be equal, "
                "because the network holds them as one. They are not."
            )
    return {
        name: (tuple(tensor.shape), dtype_name(tensor))
        for name, tensor in weights.items()
        if name not in tied
    }


def dtype_name(tensor: Tensor) -> str:
    """Return the name of a tensor's type, for example ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def check_finite(weights: Mapping[str, Tensor], *, source: Path | str) -> None:
    """Refuse weights with NaN or infinity, of which predictions could only be NaN.

    Raises:
        ValueError: If there is one; the message names the tensor.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(
                f"The weights must be finite numbers. {name!r} in {source} has NaN or "
                "infinity: the training diverged, or the file is damaged."
            )


def _save(
    weights: Mapping[str, Tensor], names: Mapping[str, Any], target: Path
) -> None:
    # copies: the tensors of the file are views of one mapped block
    write_whole(
        target, save({name: weights[name].clone().contiguous() for name in names})
    )
