"""The options that evaluate, compare and lesions have in common."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_options"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "protocol": {
        "default": "paper",
        "metavar": "NAME",
        "help": "paper, anima, or a YAML file (default: %(default)s)",
    },
    "label": {
        "type": int,
        "metavar": "N",
        "help": "value of lesion voxels; all others are background (default: 1, and "
        "values that dataset.json does not explain are refused)",
    },
    "seed": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "seed of the bootstrap (default: %(default)s)",
    },
    "overwrite": {"action": "store_true", "help": "replace what was written before"},
}


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add some of the common options to a parser."""
    for name in names:
        parser.add_argument(f"--{name}", **_OPTIONS[name])
