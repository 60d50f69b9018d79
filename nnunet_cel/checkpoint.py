"""Checkpoints and plans from others: what may be in them, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from nnunet_cel.schema import Model, parse
from nnunet_cel.settings import Settings

__all__ = [
    "Axes",
    "Checkpoint",
    "Dataset",
    "Name",
    "Plans",
    "Trainer",
    "check_finite",
    "describe",
    "matching",
    "read_checkpoint",
    "type_of",
]

# Strangers' files name what nnU-Net imports, looks up in its modules or joins to paths.
_NETWORKS = r"(dynamic_network_architectures\.architectures\.unet|nnunet_cel\.networks)"
_LAYERS = (
    r"torch\.nn(\.modules\.(conv|\w+norm|normalization|dropout|activation))?\.[A-Z]\w+"
)


def matching(pattern: str, rule: str) -> AfterValidator:
    """Return a check that a text is made like a regular expression."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {rule}. Got {text!r:.100} instead.")
        return text

    return AfterValidator(check)


Name = Annotated[str, matching(r"\w[\w.+-]*", "of letters, digits and '_.+-'")]
Trainer = Annotated[str, matching("(FCADense|nnUNet)Trainer\\w*", "ours or nnU-Net's")]
Ending = Annotated[str, matching(r"(\.[A-Za-z0-9]{1,8}){1,2}", "such as .nii.gz")]
Axes = list[Annotated[int, Field(ge=0, le=2)]] | None


class _Known(Model, extra="ignore"):
    """A part of a file of nnU-Net: what is not named there is left behind."""


class _Architecture(_Known):
    network_class_name: Annotated[
        str, matching(rf"{_NETWORKS}\.[A-Z]\w+", "a network of nnunet_cel or nnU-Net")
    ]
    arch_kwargs: dict[str, Any]
    imported: list[str] = Field(alias="_kw_requires_import")

    @model_validator(mode="after")
    def _check_layers(self) -> _Architecture:
        for name in self.imported:
            layer = self.arch_kwargs.get(name)
            if layer is not None and not re.fullmatch(_LAYERS, str(layer)):
                raise ValueError(
                    f"The {name!r} of a network must be a layer of torch. Got "
                    f"{layer!r:.100} instead."
                )
        return self


class _Configuration(_Known):
    data_identifier: Name
    preprocessor_name: Name
    batch_size: int | None = None
    patch_size: list[int]
    median_image_size_in_voxels: list[int | float] | None = None
    spacing: list[int | float]
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


class Plans(_Known):
    """Plans with one configuration, reduced to what prediction needs."""

    dataset_name: Name
    plans_name: Name
    original_median_spacing_after_transp: list[int | float] | None = None
    original_median_shape_after_transp: list[int | float] | None = None
    image_reader_writer: Name
    transpose_forward: list[int]
    transpose_backward: list[int]
    experiment_planner_used: Name | None = None
    label_manager: Name | None = None
    foreground_intensity_properties_per_channel: dict[str, dict[str, int | float]]
    configurations: dict[Name, _Configuration] = Field(max_length=1)


class Dataset(_Known):
    """``dataset.json`` without descriptions, references and lists of cases."""

    channel_names: dict[str, str] | None = None
    modality: dict[str, str] | None = None  # the older name of channel_names
    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None = None
    file_ending: Ending


class _Initial(_Known):
    configuration: Name
    dataset_json: Any = None


class Checkpoint(_Known, arbitrary_types_allowed=True):
    """What a checkpoint says about a model, in the words of nnU-Net."""

    network_weights: dict[str, Tensor] = Field(min_length=1)
    trainer_name: Trainer
    init_args: _Initial
    inference_allowed_mirroring_axes: tuple[int, ...] | Axes = None
    current_epoch: int | None = None
    entries: list[str]


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
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()  # what other packages allow does not count
    torch.serialization.add_safe_globals(
        [
            (_Skipped, "numpy.dtype"),
            (_Skipped, "numpy.core.multiarray.scalar"),
            (_Skipped, "numpy._core.multiarray.scalar"),
        ]
    )
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if unknown:
            raise ValueError(f"it asks for {', '.join(map(repr, sorted(unknown)))}")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        known = dict(content) | {"entries": [str(entry) for entry in content]}
        return parse(Checkpoint, known, "the file")
    except OSError:
        raise
    except Exception as error:  # damaged bytes make torch raise almost anything
        raise ValueError(
            f"The checkpoint {path} must hold what nnU-Net's checkpoints hold, and "
            f"nothing else. It was not loaded: {str(error).rstrip('.')}. Load it in no "
            "other way unless you trust its author; ask for an export instead "
            "('nnunet-cel weights export')."
        ) from error
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def describe(read: Checkpoint, path: Path) -> dict[str, str]:
    """Return what a checkpoint holds, as texts to print."""
    weights = read.network_weights
    # a tied tensor counts once; batch normalization counts its own batches
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = {
        (tensor.data_ptr(), tensor.shape): tensor.numel()
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not name.endswith(statistics)
    }
    epochs, axes = read.current_epoch, read.inference_allowed_mirroring_axes
    return {
        "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)",
        "entries": ", ".join(read.entries),
        "trainer": read.trainer_name,
        "configuration": read.init_args.configuration,
        "epochs": "unknown" if epochs is None else str(epochs),
        "mirroring axes": ", ".join(map(str, axes)) if axes else "none",
        "tensors": str(len(weights)),
        "parameters": f"{sum(parameters.values()):,}",
        "types": ", ".join(sorted({type_of(tensor) for tensor in weights.values()})),
    }


def type_of(tensor: Tensor) -> str:
    """Return the name of a tensor's type, for example ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def check_finite(weights: Mapping[str, Tensor], source: Path) -> None:
    """Refuse weights with NaN or infinity, of which predictions could only be NaN."""
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(
                f"The weights must be finite numbers. {name!r} in {source} has NaN or "
                "infinity: the training diverged, or the file is damaged."
            )
