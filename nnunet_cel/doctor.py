"""Checks the installation and says how to repair what is wrong.

Each line starts with `ok`, `note` (works, but worth knowing) or `WRONG`.
The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nnunet_cel import discovery

__all__ = ["Check", "add_arguments", "run"]

_GIB = 2**30

# Runs in a fresh interpreter: what nnU-Net's own functions answer.
_LOOKUP = """
import os, nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
wanted = {"training": "FCADenseTrainer", "experiment_planning": "FCADensePlanner"}
for folder, name in wanted.items():
    path = os.path.join(nnunetv2.__path__[0], folder)
    found = recursive_find_python_class(path, name, "nnunetv2." + folder)
    print(getattr(found, "__module__", "nothing"), end=" ")
"""


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Args:
        name: What was looked at.
        status: `ok`, `note` for what works but is worth knowing, or `WRONG`.
        found: What was found.
        cure: What to do about it, empty if nothing.
    """

    name: str
    status: Literal["ok", "note", "WRONG"]
    found: str
    cure: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<5}  {self.name}: {self.found}"
        return f"{line} -> {self.cure}" if self.cure else line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the check takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print one line for each check and return 1 if anything is wrong."""
    wrong = False
    for check in _checks():
        print(check, flush=True)
        wrong |= check.status == "WRONG"
    return int(wrong)


def _checks() -> Iterator[Check]:
    yield Check("Python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield check_version("nnunet-cel")
    # the versions that our own metadata demands
    for demand in map(Requirement, metadata.requires("nnunet-cel") or []):
        if demand.name in ("nnunetv2", "torch"):
            yield check_version(demand.name, str(demand.specifier))
    yield check_discovery()
    try:
        yield from check_processor()
    except ImportError as error:
        cure = "pip install --force-reinstall torch"
        yield Check("torch", "WRONG", f"cannot be imported ({error})", cure)
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        yield check_folder(variable, os.environ.get(variable))


def check_version(package: str, supported: str = "") -> Check:
    """Check that a package is installed in one of the `supported` versions."""
    cure = f'pip install "{package}{supported}"'
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Check(package, "WRONG", "not installed", cure)
    right = SpecifierSet(supported).contains(found, prereleases=True)
    text = f"{found} (supported: {supported or 'any'})"
    return Check(package, "ok", text) if right else Check(package, "WRONG", text, cure)


def check_discovery(python: str = sys.executable) -> Check:
    """Check that nnU-Net finds trainer and planner in a fresh interpreter.

    Args:
        python: The interpreter, as nnU-Net's commands and their workers start it.
    """
    expected = [discovery.CLASSES[c] for c in ("FCADenseTrainer", "FCADensePlanner")]
    # In an empty folder, where no checkout can be imported by accident.
    with tempfile.TemporaryDirectory() as empty:
        process = subprocess.run(
            [python, "-c", _LOOKUP], cwd=empty, capture_output=True, text=True
        )
    if process.returncode == 0 and process.stdout.split() == expected:
        return Check("discovery", "ok", "nnU-Net finds trainer and planner")
    found = f"nnU-Net found {process.stdout.strip() or 'nothing'}"
    if process.returncode:
        found = process.stderr.strip().rpartition("\n")[2]
    cure = "pip install --force-reinstall --no-deps nnunet-cel, in this environment"
    if os.environ.get(discovery.DISABLE_VARIABLE, "") not in ("", "0"):
        cure = f"unset {discovery.DISABLE_VARIABLE}, which switches the discovery off"
    return Check("discovery", "WRONG", found, cure)


def check_processor() -> Iterator[Check]:
    """Yield what there is to compute on."""
    import torch

    from nnunet_cel.networks.triplanar import has_native_bfloat16

    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        memory = f"{card.total_memory / _GIB:.0f} GiB"
        yield Check(f"cuda:{index}", "ok", f"{card.name}, {memory}")
    if torch.backends.mps.is_available():
        yield Check("mps", "ok", "available (nnUNetv2_train ... -device mps)")
    elif not torch.cuda.is_available():
        cure = "train with -device cpu, which takes many times as long"
        yield Check("cuda", "note", "no card that torch can use", cure)
    linux = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count()
    kind = "native" if has_native_bfloat16() else "no native"
    yield Check("cpu", "ok", f"{cores} cores, {kind} bfloat16")


def check_folder(variable: str, value: str | None) -> Check:
    """Check one of nnU-Net's folders, by writing to it.

    Args:
        variable: Name of the environment variable.
        value: Its value, None if it is not set.
    """
    if not value:
        return Check(variable, "note", "not set", f"export {variable}=FOLDER")
    try:
        with tempfile.TemporaryFile(dir=value):
            pass
    except (OSError, ValueError) as error:  # ValueError: no path at all
        cure = f"mkdir -p {shlex.quote(value)}, or a folder in which you may write"
        if value.startswith("~"):  # quotes kept the shell from its work
            cure = f'export {variable}="$HOME{value[1:]}"'
        return Check(variable, "WRONG", f"{value} ({error})", cure)
    free = shutil.disk_usage(value).free / _GIB
    return Check(variable, "ok", f"{value} (writable, {free:.0f} GiB free)")
