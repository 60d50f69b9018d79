"""Builds a model folder for nnU-Net from an export that may come from a stranger.

Everything in the export is taken for hostile until it has been compared with the tables
of `nnunet_cel.weights.rules` and with the network that its plans describe. What is
written then holds numbers, checked names and nothing else of the export.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nnunet_cel.files import new_folder, sha256, to_json, write_whole
from nnunet_cel.weights.export import check_finite, dtype_name, weights_file
from nnunet_cel.weights.manifest import MANIFEST, FileOfFold, Manifest, read_manifest
from nnunet_cel.weights.network import build_network, check_fit, tied_tensors

__all__ = ["import_weights"]

CHECKPOINT = "checkpoint_final.pth"


def import_weights(
    source: Path | str, out: Path | str, *, sha256_of_manifest: str | None = None
) -> Manifest:
    """Build a model folder from an export.

    Args:
        source: Folder of the export, or its `model.json`.
        out: The model folder, which must not exist or be empty.
        sha256_of_manifest: SHA-256 that `model.json` must have, as its author told;
            None to take it as it is.

    Returns:
        What `model.json` says.

    Raises:
        FileExistsError: If ``out`` exists and is not empty.
        OSError: If a file is missing or cannot be read or written.
        ImportError: If the network needs a package that is not installed.
        ValueError: If anything in the export is not what an export must be.
    """
    folder = _folder_of(Path(source))
    _check_listing(folder, None)
    path = folder / MANIFEST
    if sha256_of_manifest is not None and sha256(path) != sha256_of_manifest.lower():
        raise ValueError(
            f"The SHA-256 of {path} must be {sha256_of_manifest}, as asked for. It is "
            f"{sha256(path)}: this is not the export that its author meant."
        )
    manifest = read_manifest(path)
    _check_listing(folder, manifest)
    network = build_network(
        manifest.plans,
        manifest.dataset,
        configuration=manifest.configuration,
        trainer=manifest.trainer,
    )
    tied = tied_tensors(network)
    _check_tensors(manifest, network, tied, path)
    if Path(out).is_dir() and any(Path(out).iterdir()):
        raise FileExistsError(
            f"The model folder {out} must not exist or be empty. It holds files, which "
            "are not replaced: choose another folder."
        )
    with new_folder(out, what="model folder", inputs=[folder]) as unfinished:
        for fold, entry in manifest.files.items():
            weights = _read_weights(
                folder / weights_file(fold), entry, manifest.tensors
            )
            state = network.state_dict()
            for name in state:
                state[name] = weights[tied.get(name, name)]
            place = unfinished / f"fold_{fold}"
            place.mkdir()
            torch.save(_checkpoint(state, manifest, entry), place / CHECKPOINT)
        write_whole(unfinished / "plans.json", to_json(manifest.plans))
        write_whole(unfinished / "dataset.json", to_json(manifest.dataset))
    return manifest


def _folder_of(source: Path) -> Path:
    if source.is_dir():
        return source
    if source.name != MANIFEST:
        raise ValueError(
            f"The export must be a folder, or the {MANIFEST} in it. Got {source} "
            "instead. 'nnunet-cel weights inspect' looks at checkpoints."
        )
    return source.parent


def _check_listing(folder: Path, manifest: Manifest | None) -> None:
    """Refuse links and, if the manifest is known, files that it does not name."""
    known = (
        {MANIFEST, *(weights_file(fold) for fold in manifest.files)} if manifest else ()
    )
    there = {entry.name: entry for entry in folder.iterdir()}
    for name, entry in sorted(there.items()):
        if not stat.S_ISREG(entry.lstat().st_mode):
            raise ValueError(
                f"An export must hold regular files only. {str(entry)!r} is a link or "
                "a folder: remove it if you know where it comes from."
            )
        if manifest and name not in known:
            raise ValueError(
                f"An export must hold what its {MANIFEST} names and nothing else. "
                f"{str(entry)!r} is not named: remove it if you know where it comes "
                "from."
            )
    for name in known or (MANIFEST,):
        if name not in there:
            raise FileNotFoundError(f"The export {folder} must have the file {name}.")


def _check_tensors(
    manifest: Manifest, network: nn.Module, tied: Mapping[str, str], path: Path
) -> None:
    """Refuse a manifest whose tensors are not those of the network."""
    announced = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for name, (shape, dtype) in manifest.tensors.items()
        if name not in tied
    }
    if len(announced) != len(manifest.tensors):
        raise ValueError(f"The tensors in {path} must be stored once, under one name.")
    check_fit(
        announced | {n: announced[s] for n, s in tied.items() if s in announced},
        network,
        source=path,
    )


def _read_weights(
    path: Path,
    entry: FileOfFold,
    tensors: Mapping[str, tuple[tuple[int, ...], str]],
) -> dict[str, Tensor]:
    """Read the weights of a fold after a look at the file and at its header."""
    if path.stat().st_size != entry.size or sha256(path) != entry.sha256:
        raise ValueError(
            f"The size and SHA-256 of {path} must be those that {MANIFEST} names. They "
            "are not: the file is damaged or was changed. Get the export again."
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            if file.metadata():
                raise ValueError(
                    f"The file {path} must hold tensors only, no metadata."
                )
            if set(file.keys()) != set(tensors):
                raise ValueError(
                    f"The file {path} must hold the tensors that {MANIFEST} names, and "
                    "no others. It does not."
                )
            weights = {}
            for name, (shape, dtype) in tensors.items():
                part = file.get_slice(name)
                if tuple(part.get_shape()) != shape:
                    raise ValueError(
                        f"The tensor {name!r} in {path} must have the shape {shape}. "
                        f"Got {tuple(part.get_shape())} instead."
                    )
                weights[name] = file.get_tensor(name)
                if dtype_name(weights[name]) != dtype:
                    raise ValueError(
                        f"The tensor {name!r} in {path} must be of {dtype}. Got "
                        f"{dtype_name(weights[name])} instead."
                    )
    except SafetensorError as error:
        raise ValueError(
            f"The file {path} must be of the format safetensors. It is not: {error}."
        ) from error
    check_finite(weights, source=path)
    return weights


def _checkpoint(
    state: Mapping[str, Tensor], manifest: Manifest, entry: FileOfFold
) -> dict[str, Any]:
    """Return what nnU-Net reads of a checkpoint to predict and to fine-tune."""
    return {
        "network_weights": state,
        "current_epoch": entry.epochs,
        "init_args": {"configuration": manifest.configuration},
        "trainer_name": manifest.trainer,
        "inference_allowed_mirroring_axes": manifest.mirroring_axes,
    }
