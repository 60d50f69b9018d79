"""What may stand in plans and in ``dataset.json``: one table for each.

nnU-Net imports the network that plans name, looks up classes and functions by names in
them, and joins other names to paths. So these must be known names, and numbers must be
in a range that no honest plans leave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nnunet_cel.settings import BLOCK

__all__ = [
    "CONFIGURATION",
    "DATASET",
    "LARGEST_PATCH",
    "LAYERS",
    "NETWORKS",
    "PLANS",
    "RESAMPLINGS",
    "Rule",
    "has_dot",
    "is_fold",
    "is_integer",
    "is_name",
    "is_setting",
    "is_sha256",
]

Check = Callable[[Any], bool]

_LIBRARY = "dynamic_network_architectures.architectures.unet"
NETWORKS = frozenset(
    f"{_LIBRARY}.{name}"
    for name in ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
) | frozenset(
    f"nnunet_cel.networks.{name}"
    for name in (
        *("AttentionUNet", "FCADenseNet", "FCDenseNet"),
        *("ResUNet", "TransUNet", "UNet"),
    )
)
LAYERS = re.compile(
    r"torch\.nn(\.modules\.(conv|instancenorm|batchnorm|normalization|dropout"
    r"|activation))?\.(Conv[23]d|InstanceNorm[23]d|BatchNorm[23]d|Dropout[23]?d?"
    r"|LeakyReLU|ReLU|ELU|GELU|SiLU|PReLU)"
)
_NORMALIZATIONS = (
    *("CTNormalization", "NoNormalization", "RGBTo01Normalization"),
    *("RescaleTo01Normalization", "ZScoreNormalization"),
    *("KDEHighestPeakNormalization", "KDELastPeakNormalization"),
)
_READERS = (
    *("NaturalImage2DIO", "NibabelIO", "NibabelIOWithReorient"),
    *("SimpleITKIO", "SimpleITKIOWithReorient", "Tiff3DIO"),
    *("WholeNibabelIO", "WholeNibabelIOWithReorient"),
    *("WholeSimpleITKIO", "WholeSimpleITKIOWithReorient"),
)
RESAMPLINGS = {
    "resample_data_or_seg_to_shape": (
        *("is_seg", "order", "order_z", "force_separate_z"),
        "separate_z_anisotropy_threshold",
    ),
    "resample_torch_fornnunet": (
        *("is_seg", "num_threads", "memefficient_seg_resampling", "force_separate_z"),
        *("mode", "aniso_axis_mode", "separate_z_anisotropy_threshold"),
    ),
    "resample_torch_simple": (
        *("is_seg", "num_threads", "memefficient_seg_resampling", "mode"),
    ),
    "no_resampling_hack": (),
}
_INTENSITIES = {
    *("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"),
}
_LARGEST_SIZE = 4096  # of any number of layers, features or voxels along an edge
LARGEST_PATCH = 2**28  # voxels; nnU-Net allocates arrays of this shape


Rule = tuple[bool, Check, str]
"""Of an entry: whether it must be there, its check, and what it must be in words."""


def is_name(value: object) -> bool:
    """Return whether a value is a name that is safe in paths and look-ups."""
    return isinstance(value, str) and bool(re.fullmatch(r"\w[\w.+-]{0,99}", value))


def is_fold(value: object) -> bool:
    """Return whether a value is the name of a fold, a number or ``all``."""
    return isinstance(value, str) and bool(re.fullmatch("0|[1-9][0-9]{0,2}|all", value))


def is_sha256(value: object) -> bool:
    """Return whether a value is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def is_integer(value: object, low: int = 0, high: int = _LARGEST_SIZE) -> bool:
    """Return whether a value is an integer in a range; true and false are none."""
    return type(value) is int and low <= value <= high


def _is_number(value: object, low: float = -1e9, high: float = 1e9) -> bool:
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]  # a number by now


def is_setting(value: object, depth: int = 4) -> bool:
    """Return whether a value is made of lists, objects, short texts, small numbers."""
    if isinstance(value, dict):
        return (
            depth > 0
            and len(value) <= 64
            and all(isinstance(key, str) and key.isidentifier() for key in value)
            and all(is_setting(entry, depth - 1) for entry in value.values())
        )
    if isinstance(value, list):
        return (
            depth > 0
            and len(value) <= 64
            and all(is_setting(entry, depth - 1) for entry in value)
        )
    if isinstance(value, str):
        return is_name(value)
    return (
        value is None
        or type(value) is bool
        or _is_number(value, -_LARGEST_SIZE, _LARGEST_SIZE)
    )


def has_dot(value: object) -> bool:
    """Return whether a text in a setting could be an import path or a file."""
    if isinstance(value, dict):
        return any(map(has_dot, value.values()))
    if isinstance(value, list):
        return any(map(has_dot, value))
    return isinstance(value, str) and "." in value


def _list_of(check: Check, low: int, high: int) -> Check:
    return lambda value: (
        isinstance(value, list) and low <= len(value) <= high and all(map(check, value))
    )


def _one_of(*names: str) -> Check:
    return lambda value: isinstance(value, str) and value in names


def _object(key: Check, entry: Check) -> Check:
    return lambda value: (
        isinstance(value, dict)
        and 0 < len(value) <= 256
        and all(map(key, value))
        and all(map(entry, value.values()))
    )


def _is_count(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9]{1,3}", value))


def _is_label(value: object) -> bool:
    return is_integer(value, 0, 65535)


def _is_label_or_region(value: object) -> bool:
    return _is_label(value) or _list_of(_is_label, 1, 256)(value)


def _is_permutation(value: object) -> bool:
    return isinstance(value, list) and value in (
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    )


def _is_small_object(value: object) -> bool:
    return isinstance(value, dict) and is_setting(value, depth=1)


def _is_intensities(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= _INTENSITIES
        and all(_is_number(entry, -1e12, 1e12) for entry in value.values())
    )


_name = (True, is_name, "a name of letters, digits and '_.+-'")
_flag = (True, lambda value: type(value) is bool, "true or false")
_resampling = (True, _one_of(*RESAMPLINGS), f"one of {', '.join(RESAMPLINGS)}")
_small_object = (True, _is_small_object, "an object with small numbers")
_sizes = (True, _list_of(_is_number, 2, 3), "two or three numbers")
_optional_sizes = (False, *_sizes[1:])
_optional_channels = (
    False,
    _object(_is_count, _is_text),
    "an object with the name of each channel",
)

PLANS: Mapping[str, Rule] = {
    "dataset_name": _name,
    "plans_name": _name,
    "original_median_spacing_after_transp": _optional_sizes,
    "original_median_shape_after_transp": _optional_sizes,
    "image_reader_writer": (True, _one_of(*_READERS), f"one of {', '.join(_READERS)}"),
    "transpose_forward": (True, _is_permutation, "an order of three axes"),
    "transpose_backward": (True, _is_permutation, "an order of three axes"),
    "experiment_planner_used": (False, *_name[1:]),
    "label_manager": (False, _one_of("LabelManager"), "LabelManager"),
    "foreground_intensity_properties_per_channel": (
        True,
        _object(_is_count, _is_intensities),
        "an object with finite numbers for each channel",
    ),
    "configurations": (True, lambda value: isinstance(value, dict), "an object"),
}
"""Entries of plans: whether they must be there, their check, and the rule in words."""

CONFIGURATION: Mapping[str, Rule] = {
    "data_identifier": _name,
    "preprocessor_name": (
        True,
        _one_of("DefaultPreprocessor", "FCADensePreprocessor"),
        "DefaultPreprocessor or FCADensePreprocessor",
    ),
    "batch_size": (False, lambda value: is_integer(value, 1), "a small number"),
    "patch_size": (
        True,
        _list_of(lambda value: is_integer(value, 1), 2, 3),
        f"two or three numbers of voxels from 1 to {_LARGEST_SIZE}",
    ),
    "median_image_size_in_voxels": _optional_sizes,
    "spacing": (
        True,
        _list_of(lambda value: _is_number(value, 0.01, 1000), 2, 3),
        "two or three numbers of mm from 0.01 to 1000",
    ),
    "normalization_schemes": (
        True,
        _list_of(_one_of(*_NORMALIZATIONS), 1, 256),
        f"a list of {', '.join(_NORMALIZATIONS)}",
    ),
    "use_mask_for_norm": (True, _list_of(_flag[1], 1, 256), "a list of true and false"),
    "resampling_fn_data": _resampling,
    "resampling_fn_seg": _resampling,
    "resampling_fn_probabilities": _resampling,
    "resampling_fn_data_kwargs": _small_object,
    "resampling_fn_seg_kwargs": _small_object,
    "resampling_fn_probabilities_kwargs": _small_object,
    "batch_dice": (False, *_flag[1:]),
    "architecture": (True, lambda value: isinstance(value, dict), "an object"),
    BLOCK: (False, lambda value: isinstance(value, dict), "an object"),
}

DATASET: Mapping[str, Rule] = {
    "channel_names": _optional_channels,
    "modality": _optional_channels,
    "labels": (
        True,
        _object(_is_text, _is_label_or_region),
        "an object with each label's number",
    ),
    "regions_class_order": (
        False,
        _list_of(_is_label, 1, 256),
        "a list of labels",
    ),
    "file_ending": (
        True,
        lambda value: (
            isinstance(value, str)
            and bool(re.fullmatch(r"(\.[A-Za-z0-9]{1,8}){1,2}", value))
        ),
        "the ending of a file's name, such as .nii.gz",
    ),
}
