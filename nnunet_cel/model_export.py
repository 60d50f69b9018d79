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
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import (
    determine_num_input_channels,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from pydantic import Field, model_validator
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nnunet_cel.files import new_folder, read_json, sha256, to_json, write_whole
from nnunet_cel.schema import Model, parse
from nnunet_cel.settings import Settings

__all__ = ["add_arguments", "read_checkpoint", "read_manifest", "run"]

MANIFEST = "model.json"
FINAL = "checkpoint_final.pth"

# Strangers' files name what nnU-Net imports, looks up in its modules or joins to paths.
_NETWORKS = r"(dynamic_network_architectures\.architectures\.\w+|nnunet_cel\.networks)"
_LAYERS = (
    r"torch\.nn(\.modules\.(conv|\w+norm|normalization|dropout|activation))?\.[A-Z]\w+"
)
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Trainer = Annotated[str, Field(pattern=r"^(FCADense|nnUNet)Trainer\w*$")]
Numbers = list[int | float]


class _Known(Model, extra="ignore"):
    """A part of a file of nnU-Net: what is not named there is left behind."""


class _Architecture(_Known):
    network_class_name: Annotated[str, Field(pattern=rf"^{_NETWORKS}\.[A-Z]\w+$")]
    arch_kwargs: dict[str, Any]
    imported: list[str] = Field(alias="_kw_requires_import")

    @model_validator(mode="after")
    def _check_layers(self) -> _Architecture:
        for layer in map(self.arch_kwargs.get, self.imported):
            if layer is not None and not re.fullmatch(_LAYERS, str(layer)):
                raise ValueError(
                    "What a network imports must be a layer of torch. Got "
                    f"{layer!r:.100} instead."
                )
        return self


class _Configuration(_Known):
    data_identifier: Name
    preprocessor_name: Name
    batch_size: int | None = None
    patch_size: list[int]
    median_image_size_in_voxels: Numbers | None = None
    spacing: Numbers
    normalization_schemes: list[Name]
    use_mask_for_norm: list[bool]
    resampling_fn_data: Name
    resampling_fn_seg: Name
    resampling_fn_probabilities: Name
    resampling_fn_data_kwargs: dict[str, Any]
    resampling_fn_seg_kwargs: dict[str, Any]
    resampling_fn_probabilities_kwargs: dict[str, Any]
    batch_dice: bool | None = None
    architecture: _Architecture
    nnunet_cel: Settings = Settings()


class _Plans(_Known):
    """Plans with one configuration, reduced to what prediction needs."""

    dataset_name: Name
    plans_name: Name
    original_median_spacing_after_transp: Numbers | None = None
    original_median_shape_after_transp: Numbers | None = None
    image_reader_writer: Name
    transpose_forward: list[int]
    transpose_backward: list[int]
    experiment_planner_used: Name | None = None
    label_manager: Name | None = None
    foreground_intensity_properties_per_channel: dict[str, dict[str, int | float]]
    configurations: dict[Name, _Configuration] = Field(max_length=1)


class _Dataset(_Known):
    """``dataset.json`` without descriptions, references and lists of cases."""

    channel_names: dict[str, str] | None = None
    modality: dict[str, str] | None = None  # the older name of channel_names
    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None = None
    file_ending: Annotated[str, Field(pattern=r"^(\.[A-Za-z0-9]{1,8}){1,2}$")]


class _File(_Known):
    sha256: str


class Manifest(_Known):
    """What `model.json` says: all that folds have in common, and their files.

    A tensor that the network holds under several names stands in the files once.
    """

    format: Literal["nnunet_cel weights"]
    version: Literal[1]
    trainer: Trainer
    configuration: Name
    mirroring_axes: list[Annotated[int, Field(ge=0, le=2)]] | None
    plans: _Plans
    dataset: _Dataset
    files: dict[Annotated[str, Field(pattern="^([0-9]{1,3}|all)$")], _File]


class _Initial(_Known):
    configuration: Name
    dataset_json: Any = None


class Checkpoint(_Known, arbitrary_types_allowed=True):
    """What a checkpoint says about a model, in the words of nnU-Net."""

    network_weights: dict[str, Tensor] = Field(min_length=1)
    trainer_name: Trainer
    init_args: _Initial
    inference_allowed_mirroring_axes: tuple[int, ...] | list[int] | None = None
    current_epoch: int | None = None


class _Skipped:
    """Stands in for numpy's numbers, of which only the log of the training is made."""

    def __init__(self, *content: object) -> None:
        """Take any content."""

    def __setstate__(self, state: object) -> None:
        """Take any state."""


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint without running it; its tensors stay in the file until used.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it asks for a function or class that nnU-Net's checkpoints do not
            need, which is named, or is no such checkpoint.
    """
    names = ("dtype", "core.multiarray.scalar", "_core.multiarray.scalar")
    skipped: list[Any] = [(_Skipped, f"numpy.{name}") for name in names]
    try:
        with torch.serialization.safe_globals(skipped):
            unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if unknown:
                raise ValueError(f"it asks for {', '.join(map(repr, sorted(unknown)))}")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return parse(Checkpoint, content, "the file")
    except OSError:
        raise
    except Exception as error:  # damaged bytes make torch raise almost anything
        raise ValueError(
            f"The checkpoint {path} must hold what nnU-Net's checkpoints hold, and "
            f"nothing else. It was not loaded: {str(error).rstrip('.')}. Load it in no "
            "other way unless you trust its author; ask for an export instead "
            "('nnunet-cel weights export')."
        ) from error


def read_manifest(path: Path) -> Manifest:
    """Read a `model.json` that may come from a stranger."""
    return parse(Manifest, read_json(path), str(path))


def _dump(record: Model) -> dict[str, Any]:
    return record.model_dump(by_alias=True, exclude_unset=True)


def _build(
    manifest: Manifest, weights: dict[str, Tensor], source: Path
) -> tuple[nn.Module, dict[str, str]]:
    """Return nnU-Net's network with the weights, and of each tensor the first name."""
    dataset, plans = _dump(manifest.dataset), PlansManager(_dump(manifest.plans))
    configuration = plans.get_configuration(manifest.configuration)
    try:
        trainer = recursive_find_trainer_class_by_name(manifest.trainer)
        network: nn.Module = trainer.build_network_architecture(
            plans,
            configuration,
            determine_num_input_channels(plans, configuration, dataset),
            plans.get_label_manager(dataset).num_segmentation_heads,
            enable_deep_supervision=False,
        )
        tensors: dict[int, str] = {}
        first = {
            name: tensors.setdefault(id(tensor), name)
            for name, tensor in network.state_dict(keep_vars=True).items()
        }
        tied = {n: weights[first[n]] for n in first if first[n] in weights}
        network.load_state_dict(tied | weights)
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {source} must be those of the network that trainer and "
            f"plans describe. They are not: {error}"
        ) from error
    _check_finite(network.state_dict(), source)
    return network, first


def _check_finite(weights: dict[str, Tensor], source: Path) -> None:
    """Refuse weights with NaN or infinity, of which predictions could only be NaN."""
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(
                f"The weights must be finite numbers. {name!r} in {source} has NaN or "
                "infinity: the training diverged, or the file is damaged."
            )


def _fit(
    read: Checkpoint, plans: dict[str, Any], dataset: Any, source: Path
) -> tuple[Manifest, dict[str, Tensor]]:
    """Return the model that a checkpoint is of, and each of its weights once."""
    name, axes = read.init_args.configuration, read.inference_allowed_mirroring_axes
    try:
        entry = PlansManager(plans).get_configuration(name).configuration
    except RuntimeError as error:
        raise ValueError(f"The plans must be those of {source}. {error}") from error
    architecture = entry.get("architecture", {})
    architecture.get("arch_kwargs", {}).pop("pretrained_file", None)  # a path
    content = {
        "format": "nnunet_cel weights",
        "version": 1,
        "trainer": read.trainer_name,
        "configuration": name,
        "mirroring_axes": None if axes is None else list(axes),
        "plans": plans | {"configurations": {name: entry}},
        "dataset": dataset,
        "files": {},
    }
    manifest = parse(Manifest, content, "the model")
    network, first = _build(manifest, read.network_weights, source)
    return manifest, {n: w for n, w in network.state_dict().items() if first[n] == n}


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
    """Write the weights of a model folder as `model.json` and `fold_X.safetensors`.

    The same checkpoints give the same bytes. What prediction needs goes along. Training
    logs, splits, names of cases, paths and the optimizer's state stay behind.
    """
    folder, out, checkpoint = args.model, args.out, args.checkpoint
    plans = read_json(folder / "plans.json")
    dataset = read_json(folder / "dataset.json")
    trained = sorted(path.parent.name for path in folder.glob(f"fold_*/{checkpoint}"))
    folds = args.folds or [name.removeprefix("fold_") for name in trained]
    if not folds:
        raise FileNotFoundError(
            f"The model folder must have folders fold_X with {checkpoint}. {folder} "
            "has none: name the folder TRAINER__PLANS__CONFIGURATION."
        )
    models, files = [], {}
    with new_folder(
        out, what="export", mark=MANIFEST, inputs=[folder], overwrite=args.overwrite
    ) as unfinished:
        for fold in folds:
            source = folder / f"fold_{fold}" / checkpoint
            model, weights = _fit(read_checkpoint(source), plans, dataset, source)
            models.append(model)
            if model != models[0]:
                raise ValueError(
                    "The folds of a model must have the same trainer, configuration "
                    f"and mirroring. {source} differs from the folds before it: choose "
                    "folds with -f."
                )
            target = unfinished / f"fold_{fold}.safetensors"
            write_whole(target, save(weights))
            files[fold] = {"sha256": sha256(target)}
        content = _dump(models[0]) | {"files": files}
        write_whole(unfinished / MANIFEST, to_json(content))
        parse(Manifest, content, MANIFEST)
    print(
        f"Wrote the weights of fold {', '.join(folds)} ({models[0].trainer}, "
        f"{models[0].configuration}) to {out}\n"
        f"SHA-256 of {MANIFEST}, to publish elsewhere: {sha256(out / MANIFEST)}"
    )


def _import(args: argparse.Namespace) -> None:
    """Build a model folder for nnU-Net from an export that may come from a stranger.

    What is written holds numbers, checked names and nothing else of the export.
    """
    out, path = args.out, args.source
    path = path / MANIFEST if path.is_dir() else path
    if args.sha256 and sha256(path) != args.sha256.lower():
        raise ValueError(
            f"The SHA-256 of {path} must be {args.sha256}, as asked for. It is "
            f"{sha256(path)}: this is not the export that its author meant."
        )
    manifest = read_manifest(path)
    plans, given = manifest.plans, manifest.mirroring_axes
    axes = None if given is None else tuple(given)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"The model folder {out} holds files, which are not replaced: choose "
            "another one."
        )
    with new_folder(out, what="model folder", inputs=[path.parent]) as unfinished:
        for fold, entry in manifest.files.items():
            file = path.with_name(f"fold_{fold}.safetensors")
            if sha256(file) != entry.sha256:
                raise ValueError(
                    f"The SHA-256 of {file} must be the one in {MANIFEST}. It is not: "
                    "the file is damaged or was changed. Get the export again."
                )
            network, _ = _build(manifest, load_file(file), file)
            checkpoint = {  # what nnU-Net reads to predict and to fine-tune
                "network_weights": network.state_dict(),
                "init_args": {"configuration": manifest.configuration},
                "trainer_name": manifest.trainer,
                "inference_allowed_mirroring_axes": axes,
            }
            (unfinished / f"fold_{fold}").mkdir()
            torch.save(checkpoint, unfinished / f"fold_{fold}" / FINAL)
        write_whole(unfinished / "plans.json", to_json(_dump(plans)))
        write_whole(unfinished / "dataset.json", to_json(_dump(manifest.dataset)))
    model = f"{manifest.trainer}__{plans.plans_name}__{manifest.configuration}"
    print(
        f"Wrote fold {', '.join(manifest.files)} to {out}\n"
        f"To predict:   nnUNetv2_predict_from_modelfolder -m {shlex.quote(str(out))} "
        f"-f {' '.join(manifest.files)} -i INPUT -o OUTPUT\n"
        f"nnUNetv2_predict finds it as $nnUNet_results/{plans.dataset_name}/{model}"
    )


def _inspect(args: argparse.Namespace) -> None:
    read = read_checkpoint(args.file)
    weights, axes = read.network_weights, read.inference_allowed_mirroring_axes
    # a tied tensor counts once; batch normalization counts its own batches
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = {
        (tensor.data_ptr(), tensor.shape): tensor.numel()
        for name, tensor in weights.items()
        if not name.endswith(statistics)
    }
    types = {name: str(t.dtype).removeprefix("torch.") for name, t in weights.items()}
    rows = {
        "trainer": read.trainer_name,
        "configuration": read.init_args.configuration,
        "epochs": read.current_epoch,
        "mirroring axes": ", ".join(map(str, axes or [])) or "none",
        "tensors": len(weights),
        "parameters": f"{sum(parameters.values()):,}",
        "types": ", ".join(sorted(set(types.values()))),
    }
    if args.tensors:
        rows |= {n: f"{types[n]} {list(tensor.shape)}" for n, tensor in weights.items()}
    for name, text in rows.items():
        line = f"{name:<15} {text}"  # without what terminals would obey
        print("".join(letter if letter.isprintable() else "?" for letter in line))
    _check_finite(weights, args.file)
    if args.plans is not None:
        beside = args.plans.with_name("dataset.json")
        dataset = read_json(beside) if beside.is_file() else read.init_args.dataset_json
        _fit(read, read_json(args.plans), dataset, args.file)
        print("fits the plans  yes")
