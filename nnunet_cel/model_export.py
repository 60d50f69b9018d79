"""Moves trained weights in files that hold no code, and looks into checkpoints safely.

A checkpoint `.pth` of nnU-Net is a pickle: whoever loads it runs what its author put
there. `export` writes the weights of a model folder as numbers and text, `import`
builds a model folder from them that nnUNetv2_predict and -pretrained_weights take, and
`inspect` says what a checkpoint holds without running it, or refuses it.

    nnunet-cel weights export MODEL_FOLDER EXPORT
    nnunet-cel weights import EXPORT MODEL_FOLDER
    nnunet-cel weights inspect checkpoint_final.pth --plans plans.json
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import nnunetv2
import torch
from nnunetv2.utilities import find_class_by_name
from nnunetv2.utilities.label_handling.label_handling import (
    determine_num_input_channels,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from pydantic import Field
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nnunet_cel.checkpoint import (
    Axes,
    Checkpoint,
    Dataset,
    Name,
    Plans,
    Trainer,
    check_finite,
    describe,
    matching,
    read_checkpoint,
    type_of,
)
from nnunet_cel.files import new_folder, read_json, sha256, to_json, write_whole
from nnunet_cel.schema import Model, parse

__all__ = ["add_arguments", "export_weights", "import_weights", "read_manifest"]

MANIFEST = "model.json"
FINAL = "checkpoint_final.pth"

Fold = Annotated[str, matching("0|[1-9][0-9]{0,2}|all", "a number or 'all'")]


class _File(Model):
    epochs: int | None
    bytes: int
    sha256: str


class _Model(Model):
    """What all folds of a model have in common."""

    trainer: Trainer
    configuration: Name
    mirroring_axes: Axes
    plans: Plans
    dataset: Dataset


class Manifest(_Model):
    """What `model.json` says.

    A tensor that the network holds under several names stands under the first of them.
    """

    format: Literal["nnunet_cel weights"]
    version: Literal[1]
    made_with: dict[str, Name]
    files: dict[Fold, _File] = Field(min_length=1)
    tensors: dict[str, Any]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The file {path} must be a JSON object. It is not: {error}."
        ) from error


def read_manifest(path: Path) -> Manifest:
    """Read a `model.json` that may come from a stranger."""
    return parse(Manifest, _read(path), str(path))


def _dump(record: Model) -> dict[str, Any]:
    return record.model_dump(by_alias=True, exclude_unset=True)


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("nnunetv2", "nnunet-cel")}


def _build_network(model: _Model) -> nn.Module:
    """Build the network that nnU-Net's predictor would build."""
    root = nnunetv2.__path__[0]  # trainers in folders of the user do not count
    trainer = find_class_by_name.recursive_find_python_class(
        str(Path(root, "training", "nnUNetTrainer")),
        model.trainer,
        "nnunetv2.training.nnUNetTrainer",
        root,
    )
    if trainer is None:
        raise ValueError(f"The trainer must be known here. Got {model.trainer!r}.")
    dataset, manager = _dump(model.dataset), PlansManager(_dump(model.plans))
    configuration = manager.get_configuration(model.configuration)
    network: nn.Module = trainer.build_network_architecture(
        manager,
        configuration,
        determine_num_input_channels(manager, configuration, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    return network


def _find_stored(network: nn.Module) -> dict[str, str]:
    """Return the name that files store each tensor under: the first of its names."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(tensor), name)
        for name, tensor in network.state_dict(keep_vars=True).items()
    }


def _fill(network: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a network, which must fit and be finite numbers."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {source} must be those of the network that the plans "
            f"describe, of the same model and configuration. {error}"
        ) from error
    check_finite(weights, source)


def _fit(
    read: Checkpoint, plans: dict[str, Any], dataset: Any, source: Path
) -> tuple[_Model, nn.Module]:
    """Return the model that a checkpoint is of, and its network with the weights.

    Plans and data set are reduced to what prediction needs, inheritance written out.
    """
    name, axes = read.init_args.configuration, read.inference_allowed_mirroring_axes
    known = list(plans.get("configurations", {}))
    if name not in known:
        raise ValueError(
            f"The configuration of {source} must be one of the plans' "
            f"({', '.join(known)}). Got {name!r} instead: these are other plans."
        )
    entry = PlansManager(plans).get_configuration(name).configuration
    arguments = entry.get("architecture", {}).get("arch_kwargs", {})
    if "pretrained_file" in arguments:  # a path
        arguments["pretrained_file"] = None
    content = {
        "trainer": read.trainer_name,
        "configuration": name,
        "mirroring_axes": None if axes is None else list(axes),
        "plans": plans | {"configurations": {name: entry}},
        "dataset": dataset,
    }
    model = parse(_Model, content, "the model")
    network = _build_network(model)
    _fill(network, read.network_weights, source)
    return model, network


def export_weights(
    folder: Path | str,
    out: Path | str,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = FINAL,
    overwrite: bool = False,
) -> Manifest:
    """Write the weights of a model folder as `model.json` and `fold_X.safetensors`.

    The same checkpoints give the same bytes. What prediction needs goes along. Training
    logs, splits, names of cases, paths and the optimizer's state stay behind.

    Args:
        folder: Folder with ``plans.json``, ``dataset.json`` and ``fold_X``.
        out: Folder of the export.
        folds: Names of folds; None for all that have the checkpoint.
        checkpoint: Name of the file in each fold.
        overwrite: Whether an earlier export is replaced.

    Raises:
        FileExistsError: If ``out`` exists and ``overwrite`` is False.
        OSError: If a file is missing or cannot be read or written.
        ValueError: If checkpoints and plans are not what they must be.
    """
    folder = Path(folder)
    plans, dataset = _read(folder / "plans.json"), _read(folder / "dataset.json")
    trained = sorted(path.parent.name for path in folder.glob(f"fold_*/{checkpoint}"))
    folds = folds or [name.removeprefix("fold_") for name in trained]
    if not folds:
        raise FileNotFoundError(
            f"The model folder must have folders fold_X with {checkpoint}. Found none "
            f"in {folder}: name the folder TRAINER__PLANS__CONFIGURATION."
        )
    first, files = None, {}
    with new_folder(
        out, what="export", mark=MANIFEST, inputs=[folder], overwrite=overwrite
    ) as unfinished:
        for fold in folds:
            source = folder / f"fold_{fold}" / checkpoint
            read = read_checkpoint(source)
            model, network = _fit(read, plans, dataset, source)
            first = first or model
            if model != first:
                raise ValueError(
                    "The folds of a model must have the same trainer, configuration "
                    f"and mirroring. {source} differs from the folds before it: choose "
                    "folds with -f."
                )
            target = unfinished / f"fold_{fold}.safetensors"
            tensors = _save(network, target)
            files[fold] = {
                "epochs": read.current_epoch,
                "bytes": target.stat().st_size,
                "sha256": sha256(target),
            }
        content = {
            "format": "nnunet_cel weights",
            "version": 1,
            "made_with": _versions(),
            **_dump(model),
            "files": files,
            "tensors": tensors,
        }
        manifest = parse(Manifest, content, MANIFEST)
        write_whole(unfinished / MANIFEST, to_json(content))
    return manifest


def _save(network: nn.Module, target: Path) -> dict[str, dict[str, Any]]:
    """Write each tensor of a network once; return shapes and types by name."""
    state, stored = network.state_dict(), _find_stored(network)
    tensors = {name: state[name] for name in state if stored[name] == name}
    write_whole(target, save(tensors))
    return {
        name: {"shape": list(tensor.shape), "dtype": type_of(tensor)}
        for name, tensor in tensors.items()
    }


def import_weights(
    source: Path | str, out: Path | str, *, sha256_of_manifest: str | None = None
) -> Manifest:
    """Build a model folder for nnU-Net from an export that may come from a stranger.

    What is written holds numbers, checked names and nothing else of the export.

    Args:
        source: Folder of the export, or its `model.json`.
        out: The model folder, which must not exist or be empty.
        sha256_of_manifest: SHA-256 that `model.json` must have, as its author told;
            None to take it as it is.

    Raises:
        FileExistsError: If ``out`` exists and is not empty.
        OSError: If a file is missing or cannot be read or written.
        ValueError: If anything in the export is not what an export must be.
    """
    path = Path(source)
    path = path / MANIFEST if path.is_dir() else path
    if sha256_of_manifest is not None and sha256(path) != sha256_of_manifest.lower():
        raise ValueError(
            f"The SHA-256 of {path} must be {sha256_of_manifest}, as asked for. It is "
            f"{sha256(path)}: this is not the export that its author meant."
        )
    manifest = read_manifest(path)
    network = _build_network(manifest)
    stored = _find_stored(network)
    given = manifest.mirroring_axes
    axes = None if given is None else tuple(given)
    if Path(out).is_dir() and any(Path(out).iterdir()):
        raise FileExistsError(
            f"The model folder {out} must not exist or be empty. It holds files, which "
            "are not replaced: choose another folder."
        )
    with new_folder(out, what="model folder", inputs=[path.parent]) as unfinished:
        for fold, entry in manifest.files.items():
            file = path.with_name(f"fold_{fold}.safetensors")
            if file.stat().st_size != entry.bytes or sha256(file) != entry.sha256:
                raise ValueError(
                    f"The size and SHA-256 of {file} must be those that {MANIFEST} "
                    "names. They are not: the file is damaged or was changed. Get the "
                    "export again."
                )
            weights = load_file(file)
            weights |= {n: weights[s] for n, s in stored.items() if s in weights}
            _fill(network, weights, file)
            checkpoint = {  # what nnU-Net reads to predict and to fine-tune
                "network_weights": network.state_dict(),
                "current_epoch": entry.epochs,
                "init_args": {"configuration": manifest.configuration},
                "trainer_name": manifest.trainer,
                "inference_allowed_mirroring_axes": axes,
            }
            (unfinished / f"fold_{fold}").mkdir()
            torch.save(checkpoint, unfinished / f"fold_{fold}" / FINAL)
        write_whole(unfinished / "plans.json", to_json(_dump(manifest.plans)))
        write_whole(unfinished / "dataset.json", to_json(_dump(manifest.dataset)))
    return manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be done, and the arguments of each."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    export = actions.add_parser("export", help="write weights as safetensors and JSON")
    export.set_defaults(act=_export)
    add = export.add_argument
    add("model", metavar="MODEL_FOLDER", type=Path, help="in nnUNet_results")
    add("out", metavar="OUT", type=Path, help="folder to write")
    add("-f", dest="folds", nargs="+", metavar="FOLD", help="default: all trained ones")
    add("-chk", dest="checkpoint", default=FINAL, help="default: %(default)s")
    add("--overwrite", action="store_true", help="replace an earlier export")

    build = actions.add_parser("import", help="build a model folder from an export")
    build.set_defaults(act=_import)
    add = build.add_argument
    add("source", metavar="EXPORT", type=Path, help="folder of an export")
    add("out", metavar="OUT_MODEL_FOLDER", type=Path, help="model folder to write")
    add("--sha256", metavar="HEX", help="refuse a model.json with another SHA-256")

    inspect = actions.add_parser("inspect", help="look at a checkpoint, do not run it")
    inspect.set_defaults(act=_inspect)
    add = inspect.add_argument
    add("file", metavar="FILE.pth", type=Path)
    add("--plans", metavar="PLANS.json", type=Path, help="plans that it must fit")
    add("--tensors", action="store_true", help="list every tensor with its shape")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    args.act(args)
    return 0


def _export(args: argparse.Namespace) -> None:
    manifest = export_weights(
        args.model,
        args.out,
        folds=args.folds,
        checkpoint=args.checkpoint,
        overwrite=args.overwrite,
    )
    print(
        f"Wrote the weights of fold {', '.join(manifest.files)} "
        f"({manifest.trainer}, {manifest.configuration}) to {args.out}\n"
        f"SHA-256 of {MANIFEST}, to publish elsewhere: {sha256(args.out / MANIFEST)}"
    )


def _import(args: argparse.Namespace) -> None:
    manifest = import_weights(args.source, args.out, sha256_of_manifest=args.sha256)
    plans, out = manifest.plans, shlex.quote(str(args.out))
    model = f"{manifest.trainer}__{plans.plans_name}__{manifest.configuration}"
    print(
        f"Wrote fold {', '.join(manifest.files)} to {args.out}\n"
        f"To predict:   nnUNetv2_predict_from_modelfolder -m {out} -f "
        f"{' '.join(manifest.files)} -i INPUT -o OUTPUT\n"
        f"nnUNetv2_predict finds it as $nnUNet_results/{plans.dataset_name}/{model}"
    )
    for package, version in _versions().items():
        if (theirs := manifest.made_with.get(package)) != version:
            print(
                f"Note: made with {package} {theirs}, here is {version}. Compare a "
                "prediction with the author's."
            )


def _inspect(args: argparse.Namespace) -> None:
    read = read_checkpoint(args.file)
    rows = describe(read, args.file)
    if args.tensors:
        rows |= {
            name: f"{type_of(t)} {' x '.join(map(str, t.shape)) or '1 number'}"
            for name, t in read.network_weights.items()
        }
    for name, text in rows.items():
        line = f"{name:<15} {text}"  # without what terminals would obey
        print("".join(letter if letter.isprintable() else "?" for letter in line))
    check_finite(read.network_weights, args.file)
    if args.plans is not None:
        beside = args.plans.with_name("dataset.json")
        dataset = _read(beside) if beside.is_file() else read.init_args.dataset_json
        _fit(read, _read(args.plans), dataset, args.file)
        print("fits the plans  yes")
