"""The options that evaluate, compare and lesions have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_options"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "out": {"type": Path, "required": True, "metavar": "OUT", "help": "what to write"},
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
    """Add ``--out`` and some of the other common options to a parser."""
    for name in ("out", *names, "overwrite"):
        flags = ["-o"] if name == "out" else []
        parser.add_argument(*flags, f"--{name}", **_OPTIONS[name])
