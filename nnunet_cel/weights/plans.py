"""Reduces plans to what prediction needs, and checks plans from others."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from nnunet_cel.settings import BLOCK, Settings
from nnunet_cel.weights.rules import (
    CONFIGURATION,
    DATASET,
    LARGEST_PATCH,
    LAYERS,
    NETWORKS,
    PLANS,
    RESAMPLINGS,
    Rule,
    has_dot,
    is_name,
    is_setting,
)

__all__ = [
    "check_dataset",
    "check_entries",
    "check_plans",
    "reduce_dataset",
    "reduce_plans",
    "refuse",
]


def refuse(thing: str, rule: str, got: object) -> ValueError:
    """Return the error that something from a file is not what it must be."""
    return ValueError(
        f"The {thing} must be {rule}. Got {reprlib.repr(got)} instead: this model "
        "cannot be exported or imported."
    )


def reduce_plans(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return the parts of plans that prediction with one configuration needs.

    What the configuration inherits is written out; other configurations, unknown
    entries and paths of pretrained networks are left out.

    Raises:
        ValueError: If the plans have no such configuration, or an inheritance without
            an end.
    """
    entries = plans.get("configurations")
    entries = entries if isinstance(entries, dict) else {}
    resolved: dict[str, Any] = {}
    name: Any = configuration
    for _ in range(len(entries) + 1):
        if not isinstance(name, str) or not isinstance(entries.get(name), dict):
            raise refuse("configuration", f"one of {', '.join(entries)}", name)
        resolved = entries[name] | resolved
        if "inherits_from" not in entries[name]:
            break
        name = entries[name]["inherits_from"]
    else:
        raise refuse("inheritance of configurations", "finite", configuration)
    resolved = {key: resolved[key] for key in CONFIGURATION if key in resolved}
    architecture = resolved.get("architecture")
    if isinstance(architecture, dict) and isinstance(
        arguments := architecture.get("arch_kwargs"), dict
    ):
        cleared = {"pretrained_file": None} if "pretrained_file" in arguments else {}
        resolved["architecture"] = architecture | {"arch_kwargs": arguments | cleared}
    reduced = {key: plans[key] for key in PLANS if key in plans}
    return reduced | {"configurations": {configuration: resolved}}


def reduce_dataset(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of ``dataset.json`` that prediction needs.

    Names, descriptions, references and all else that people write there stay behind.
    """
    return {key: dataset[key] for key in DATASET if key in dataset}


def check_plans(plans: object, configuration: str) -> None:
    """Refuse reduced plans that name or demand something unknown.

    Args:
        plans: Plans as `reduce_plans` returns them, possibly written by a stranger.
        configuration: Name of their only configuration.

    Raises:
        ValueError: If an entry is missing, unknown or not allowed, which is named.
    """
    checked = check_entries(plans, PLANS, "plans")
    entries = checked["configurations"]
    if not is_name(configuration) or list(entries) != [configuration]:
        raise refuse("configurations of the plans", f"{configuration!r} only", entries)
    where = f"configuration {configuration!r}"
    entry = check_entries(entries[configuration], CONFIGURATION, where)
    dimensions = len(entry["patch_size"])
    if math.prod(entry["patch_size"]) > LARGEST_PATCH or dimensions < len(
        entry["spacing"]
    ):
        raise refuse(
            f"'patch_size' of {where}", f"of {LARGEST_PATCH} voxels at most, with as "
            "many axes as 'spacing'", entry["patch_size"],
        )  # fmt: skip
    for kind in ("data", "seg", "probabilities"):
        known = RESAMPLINGS[entry[f"resampling_fn_{kind}"]]
        got = entry[f"resampling_fn_{kind}_kwargs"]
        if not set(got) <= set(known):
            raise refuse(f"'resampling_fn_{kind}_kwargs' of {where}", f"{known}", got)
    _check_architecture(entry["architecture"], where)
    if BLOCK in entry:
        Settings.from_configuration(entry, name=configuration)


def check_dataset(dataset: object) -> None:
    """Refuse a reduced ``dataset.json`` with entries that are missing or not allowed.

    Raises:
        ValueError: If an entry is missing, unknown or not allowed, which is named.
    """
    checked = check_entries(dataset, DATASET, "dataset.json")
    if len({"channel_names", "modality"} & set(checked)) != 1:
        raise refuse("channels in dataset.json", "in 'channel_names'", sorted(checked))
    if checked["labels"].get("background") != 0:
        raise refuse("label 'background'", "0", checked["labels"])


def _check_architecture(architecture: dict[str, Any], where: str) -> None:
    name = architecture.get("network_class_name")
    if set(architecture) != {
        *("network_class_name", "arch_kwargs", "_kw_requires_import"),
    }:
        raise refuse(f"'architecture' of {where}", "a network", sorted(architecture))
    if not isinstance(name, str) or name not in NETWORKS:
        raise refuse(
            f"'network_class_name' of {where}", f"one of {', '.join(sorted(NETWORKS))}"
            ", because nnU-Net imports what stands here", name,
        )  # fmt: skip
    arguments, imported = (
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
    )
    if not is_setting(arguments) or not isinstance(arguments, dict):
        raise refuse(f"'arch_kwargs' of {where}", "names and small numbers", arguments)
    if arguments.get("pretrained_file") is not None:
        raise refuse(f"'pretrained_file' of {where}", "null", arguments)
    if not isinstance(imported, list) or not all(
        isinstance(key, str) and key in arguments for key in imported
    ):
        raise refuse(
            f"'_kw_requires_import' of {where}", "names of arguments", imported
        )
    for key, value in arguments.items():
        is_layer = isinstance(value, str) and LAYERS.fullmatch(value)
        if value is None or (is_layer if key in imported else not has_dot(value)):
            continue
        raise refuse(
            f"argument {key!r} of the network of {where}", "a known layer", value
        )


def check_entries(
    value: object, checks: Mapping[str, Rule], where: str
) -> dict[str, Any]:
    """Return an object after a look at each entry.

    Raises:
        ValueError: If an entry is missing, unknown or not allowed, which is named.
    """
    if not isinstance(value, dict):
        raise refuse(where, "an object with named entries", value)
    for key in value:
        if key not in checks:
            raise refuse(
                f"entries of {where}", f"known ones ({', '.join(checks)})", key
            )
    for key, (required, check, rule) in checks.items():
        if key not in value:
            if required:
                raise refuse(f"{key!r} of {where}", rule, None)
        elif not check(value[key]):
            raise refuse(f"{key!r} of {where}", rule, value[key])
    return value
