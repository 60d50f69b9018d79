"""Reads the networks and configurations that ``plans/`` declares.

``plans/networks.json`` maps the name of a network to nnU-Net's ``architecture`` entry.
Each network has two configurations, one of them with small training windows (paper
Table 5). ``plans/configurations.json`` declares the others, with their network and the
settings (`nnunet_cel.settings.Settings`) in which they differ from the defaults.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any, cast

__all__ = ["BASE", "architecture", "configurations"]

BASE = "2d"
BASE_NETWORK = "fcadensenet"
SMALL_WINDOW = 64  # voxels, paper Table 5


def _load(name: str) -> dict[str, Any]:
    file = importlib.resources.files("nnunet_cel.plans").joinpath(name)
    return cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))


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
    """Return ``network`` and ``settings`` of all configurations by name.

    The base configuration ``2d`` comes first, then ``2d_NETWORK`` and
    ``2d_64_NETWORK`` for the other networks, then those of ``configurations.json``.
    """
    small = {"training_window": SMALL_WINDOW}
    found: dict[str, dict[str, Any]] = {}
    for start, settings in ((BASE, {}), (f"{BASE}_{SMALL_WINDOW}", small)):
        for network in _load("networks.json"):
            name = start if network == BASE_NETWORK else f"{start}_{network}"
            found[name] = {"network": network, "settings": dict(settings)}
    return found | _load("configurations.json")
