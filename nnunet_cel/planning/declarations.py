"""Reads the networks and configurations that ``plans/`` declares.

``plans/networks.json`` maps the name of a network to nnU-Net's ``architecture`` entry.
``plans/configurations.json`` maps the name of a configuration to its network and to the
settings (`nnunet_cel.settings.Settings`) in which it differs from the defaults.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any, cast

__all__ = ["BASE", "architecture", "configurations"]

BASE = "2d"


def _load(name: str) -> dict[str, Any]:
    folder = importlib.resources.files("nnunet_cel.plans")
    text = folder.joinpath(name).read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def architecture(network: str, **arch_kwargs: object) -> dict[str, Any]:
    """Return nnU-Net's ``architecture`` entry of a network.

    Args:
        network: Name of the network in ``plans/networks.json``.
        arch_kwargs: Arguments of the network that replace declared ones; those that the
            network does not declare are left out.
    """
    entry: dict[str, Any] = _load("networks.json")[network]
    declared = entry["arch_kwargs"]
    declared.update({k: v for k, v in arch_kwargs.items() if k in declared})
    return entry


def configurations() -> dict[str, dict[str, Any]]:
    """Return all declared configurations, the base configuration ``2d`` first.

    Each has the keys ``paper`` (where the paper reports it), ``network`` and
    ``settings``.
    """
    return _load("configurations.json")
