"""Moves trained weights in files that hold no code, and looks into checkpoints safely.

A checkpoint `.pth` of nnU-Net is a pickle: whoever loads it runs what its author put
there. `export` writes the weights of a model folder as numbers and text, `import`
builds a model folder from them that nnUNetv2_predict and -pretrained_weights take, and
`inspect` says what a checkpoint holds without running it, or refuses it.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import (
    determine_num_input_channels,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from pydantic import AliasPath, Field, model_validator
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
Axes = Sequence[Annotated[int, Field(ge=0, le=2)]]


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
                raise ValueError(f"must import layers of torch. Got {layer!r:.100}.")
        return self


class _Configuration(_Known):
    data_identifier: Name
    preprocessor_name: Name
    batch_size: int | None = None
    patch_size: list[int]
    spacing: list[int | float]
    normalization_schemes: list[Name]
    use_mask_for_norm: list[bool]
    resampling_fn_data: Name
    resampling_fn_seg: Name
    resampling_fn_probabilities: Name
    resampling_fn_data_kwargs: dict[str, Any]
    resampling_fn_seg_kwargs: dict[str, Any]
    resampling_fn_probabilities_kwargs: dict[str, Any]
    architecture: _Architecture
    nnunet_cel: Settings = Settings()


class _Plans(_Known):
    """Plans with one configuration, reduced to what prediction needs."""

    dataset_name: Name
    plans_name: Name
    image_reader_writer: Name
    transpose_forward: list[int]
    transpose_backward: list[int]
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


class Manifest(_Known):
    """What `model.json` says: all that folds have in common, and their files.

    A tensor that the network holds under several names stands in the files once.
    """

    format: Literal["nnunet_cel weights"]
    version: Literal[1]
    trainer: Trainer
    configuration: Name
    mirroring_axes: Axes | None
    plans: _Plans
    dataset: _Dataset
    files: dict[Annotated[str, Field(pattern="^([0-9]{1,3}|all)$")], dict[str, Any]]


class Checkpoint(_Known, arbitrary_types_allowed=True):
    """What a checkpoint says about a model, in the words of nnU-Net."""

    network_weights: dict[str, Tensor] = Field(min_length=1)
    trainer_name: Trainer
    configuration: Name = Field(
        validation_alias=AliasPath("init_args", "configuration")
    )
    dataset: Any = Field(None, validation_alias=AliasPath("init_args", "dataset_json"))
    inference_allowed_mirroring_axes: Axes | None = None
    current_epoch: int | None = None


class _Skipped:
    """Stands in for numpy's numbers, of which only the log of the training is made."""

    def __init__(self, *content: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be done, and the arguments of each."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    add = actions.add_parser("export", help="write numbers and text").add_argument
    add("source", metavar="MODEL_FOLDER", type=Path, help="in nnUNet_results")
    add("out", metavar="OUT", type=Path, help="folder to write")
    add("-f", dest="folds", nargs="+", metavar="FOLD", help="default: all trained ones")
    add("-chk", dest="checkpoint", default=FINAL, help="default: %(default)s")
    add("--overwrite", action="store_true", help="replace an earlier export")

    add = actions.add_parser("import", help="build a model folder").add_argument
    add("source", metavar="EXPORT", type=Path, help="folder of an export")
    add("out", metavar="OUT_MODEL_FOLDER", type=Path, help="model folder to write")
    add("--sha256", metavar="HEX", help="refuse a model.json with another SHA-256")

    add = actions.add_parser("inspect", help="look at a checkpoint").add_argument
    add("source", metavar="FILE.pth", type=Path)
    add("--plans", metavar="PLANS.json", type=Path, help="plans that it must fit")
    add("--tensors", action="store_true", help="list every tensor with its shape")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    action = {"export": _export, "import": _import, "inspect": _inspect}[args.action]
    try:
        action(args)
    except RuntimeError as error:  # what torch and nnU-Net say of what does not fit
        raise ValueError(
            f"The weights in {args.source} must be finite, and those of the network "
            f"that trainer and plans describe. They are not: {error}"
        ) from error
    return 0


def _dump(record: Model) -> dict[str, Any]:
    return record.model_dump(by_alias=True, exclude_unset=True)


def _describe(read: Checkpoint, plans: dict[str, Any], dataset: Any) -> Manifest:
    """Return the model that a checkpoint is of, without its files."""
    name = read.configuration
    entry = PlansManager(plans).get_configuration(name).configuration
    architecture = entry.get("architecture", {})
    architecture.get("arch_kwargs", {}).pop("pretrained_file", None)  # a path
    content = {
        "format": "nnunet_cel weights",
        "version": 1,
        "trainer": read.trainer_name,
        "configuration": name,
        "mirroring_axes": read.inference_allowed_mirroring_axes,
        "plans": plans | {"configurations": {name: entry}},
        "dataset": dataset,
        "files": {},
    }
    return parse(Manifest, content, "the model")


def _build(
    manifest: Manifest, weights: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return nnU-Net's network with the weights, and each tensor by its first name.

    Raises:
        RuntimeError: If the weights are not those of the network, or not finite.
    """
    dataset, plans = _dump(manifest.dataset), PlansManager(_dump(manifest.plans))
    configuration = plans.get_configuration(manifest.configuration)
    trainer = recursive_find_trainer_class_by_name(manifest.trainer)
    network: nn.Module = trainer.build_network_architecture(
        plans,
        configuration,
        determine_num_input_channels(plans, configuration, dataset),
        plans.get_label_manager(dataset).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    own = network.state_dict(keep_vars=True)
    first = {tensor: name for name, tensor in reversed(own.items())}
    tied = {n: weights[first[t]] for n, t in own.items() if first[t] in weights}
    network.load_state_dict(tied | weights)
    for name, tensor in weights.items():  # predictions could only be NaN
        if not tensor.isfinite().all():
            raise RuntimeError(f"{name!r} has NaN or infinity")
    return network, {name: tensor.detach() for tensor, name in first.items()}


def _export(args: argparse.Namespace) -> None:
    """Write the weights of a model folder as `model.json` and `fold_X.safetensors`.

    The same checkpoints give the same bytes. What prediction needs goes along. Training
    logs, splits, names of cases, paths and the optimizer's state stay behind.
    """
    folder, out = args.source, args.out
    trained = sorted(folder.glob(f"fold_*/{args.checkpoint}"))
    folds = args.folds or [file.parent.name.removeprefix("fold_") for file in trained]
    if not folds:
        raise FileNotFoundError(
            f"The model folder must have fold_X/{args.checkpoint}. {folder} has none."
        )
    plans, dataset = (read_json(folder / f"{n}.json") for n in ("plans", "dataset"))
    manifest, files = None, {}
    with new_folder(
        out, what="export", mark=MANIFEST, inputs=[folder], overwrite=args.overwrite
    ) as unfinished:
        for fold in folds:
            read = read_checkpoint(folder / f"fold_{fold}" / args.checkpoint)
            # as nnU-Net takes them, trainer and mirroring of the first fold count
            manifest = manifest or _describe(read, plans, dataset)
            target = unfinished / f"fold_{fold}.safetensors"
            write_whole(target, save(_build(manifest, read.network_weights)[1]))
            files[fold] = {"sha256": sha256(target)}
        content = _dump(manifest) | {"files": files}
        write_whole(unfinished / MANIFEST, to_json(content))
    print(
        f"Wrote the weights of fold {', '.join(folds)} ({manifest.trainer}, "
        f"{manifest.configuration}) to {out}\n"
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
    checkpoint = {  # what nnU-Net reads to predict and to fine-tune
        "init_args": {"configuration": manifest.configuration},
        "trainer_name": manifest.trainer,
        "inference_allowed_mirroring_axes": manifest.mirroring_axes,
    }
    with new_folder(out, what="model folder", inputs=[path.parent]) as unfinished:
        for fold, entry in manifest.files.items():
            file = path.with_name(f"fold_{fold}.safetensors")
            if sha256(file) != entry.get("sha256"):
                raise ValueError(
                    f"The SHA-256 of {file} must be the one in {MANIFEST}. It is not: "
                    "the file is damaged or was changed. Get the export again."
                )
            weights = _build(manifest, load_file(file))[0].state_dict()
            (unfinished / f"fold_{fold}").mkdir()
            target = unfinished / f"fold_{fold}" / FINAL
            torch.save(checkpoint | {"network_weights": weights}, target)
        for name in ("plans", "dataset"):
            content = _dump(getattr(manifest, name))
            write_whole(unfinished / f"{name}.json", to_json(content))
    print(
        f"Wrote fold {', '.join(manifest.files)} to {out}\n"
        f"To predict:   nnUNetv2_predict_from_modelfolder -m {shlex.quote(str(out))} "
        f"-f {' '.join(manifest.files)} -i INPUT -o OUTPUT"
    )


def _inspect(args: argparse.Namespace) -> None:
    read = read_checkpoint(args.source)
    weights = read.network_weights
    # a tied tensor counts once; batch normalization counts its own batches
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = {
        tensor.data_ptr(): tensor.numel()
        for name, tensor in weights.items()
        if not name.endswith(statistics)
    }
    axes = ", ".join(map(str, read.inference_allowed_mirroring_axes or []))
    print(
        f"trainer         {read.trainer_name}\n"
        f"configuration   {read.configuration}\n"
        f"epochs          {read.current_epoch}\n"
        f"mirroring axes  {axes or 'none'}\n"
        f"tensors         {len(weights)}\n"
        f"parameters      {sum(parameters.values()):,}"
    )
    for name, tensor in weights.items() if args.tensors else ():
        # repr, because terminals obey what may stand in a name
        print(f"{name!r} {str(tensor.dtype)[6:]} {list(tensor.shape)}")
    if args.plans is not None:
        beside = args.plans.with_name("dataset.json")
        dataset = read_json(beside) if beside.is_file() else read.dataset
        _build(_describe(read, read_json(args.plans), dataset), weights)
        print("fits the plans  yes")
