"""Checks the installation and says how to repair what is wrong.

Each line starts with `ok`, `note` (works, but worth knowing) or `WRONG`.
The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nnunet_cel import discovery

__all__ = [
    "Check",
    "add_arguments",
    "check_discovery_elsewhere",
    "check_discovery_here",
    "check_folder",
    "check_optional",
    "check_processor",
    "check_shared_memory",
    "check_version",
    "run",
]

_GIB = 2**30

_FOLDERS = {
    "nnUNet_raw": "the raw data sets",
    "nnUNet_preprocessed": "the preprocessed data sets",
    "nnUNet_results": "the trained models",
}

# Runs in a fresh interpreter: what nnU-Net's own functions answer, as JSON.
_LOOKUP = """
import json, os, nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
trainer = recursive_find_trainer_class_by_name("FCADenseTrainer")
planner = recursive_find_python_class(
    os.path.join(nnunetv2.__path__[0], "experiment_planning"),
    "FCADensePlanner",
    current_module="nnunetv2.experiment_planning",
)
print(json.dumps([getattr(c, "__module__", None) for c in (trainer, planner)]))
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
    status = 0
    for check in _checks():
        print(check, flush=True)
        if check.status == "WRONG":
            status = 1
    return status


def check_version(name: str, found: str | None, supported: str = "") -> Check:
    """Check the version of one package.

    Args:
        name: Name of the package.
        found: Its version, None if it is not installed.
        supported: The versions that will do, as in `>=2.8.1,<2.9`; empty for any.
    """
    wanted = SpecifierSet(supported)
    cure = f'pip install "{name}{supported}"'
    if found is None:
        return Check(name, "WRONG", "not installed", cure)
    rule = f" (supported: {supported})" if supported else ""
    if wanted.contains(found, prereleases=True):
        return Check(name, "ok", f"{found}{rule}")
    return Check(name, "WRONG", f"{found}{rule}", cure)


def check_discovery_here() -> Check:
    """Check that nnU-Net finds our classes in this process."""
    name = "discovery in this process"
    if discovery.is_active():
        return Check(name, "ok", "active")
    return Check(name, "WRONG", "not active", _activate())


def check_discovery_elsewhere(python: str = sys.executable) -> Check:
    """Check that nnU-Net finds trainer and planner in a fresh interpreter.

    Args:
        python: The interpreter, as nnU-Net's commands and their workers start it.
    """
    name = "discovery in a fresh interpreter"
    expected = [discovery.CLASSES[c] for c in ("FCADenseTrainer", "FCADensePlanner")]
    # In an empty folder, where no checkout can be imported by accident.
    with tempfile.TemporaryDirectory() as empty:
        process = subprocess.run(
            [python, "-c", _LOOKUP],
            cwd=empty,
            capture_output=True,
            text=True,
            check=False,
        )
    answer = process.stdout.strip().rpartition("\n")[2]
    if process.returncode == 0 and answer == json.dumps(expected):
        return Check(name, "ok", "nnU-Net finds FCADenseTrainer and FCADensePlanner")
    error = process.stderr.strip().rpartition("\n")[2]
    reason = error if process.returncode else f"nnU-Net found {answer or 'nothing'}"
    return Check(name, "WRONG", reason.partition(" (")[0], _activate())


def check_processor() -> Iterator[Check]:
    """Yield what there is to compute on."""
    import torch

    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        memory = f"{card.total_memory / _GIB:.0f} GiB"
        yield Check(f"cuda:{index}", "ok", f"{card.name}, {memory}")
    if torch.backends.mps.is_available():
        yield Check("mps", "ok", "available (nnUNetv2_train ... -device mps)")
    elif not torch.cuda.is_available():
        yield Check(
            "cuda",
            "note",
            "no card that torch can use",
            "train with -device cpu, which takes many times as long",
        )
    native = "native" if _has_native_bfloat16() else "no native"
    yield Check("cpu", "ok", f"{_count_cores()} cores, {native} bfloat16")


def check_optional(module: str) -> Check:
    """Check that `module` can be imported, which TransUNet alone needs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # a torchvision built for another torch raises anything
        return Check(
            module,
            "note",
            f"cannot be imported ({error})",
            "only the TransUNet configuration needs it; "
            "install torch and torchvision from the same source",
        )
    return Check(module, "ok", "can be imported")


def check_folder(variable: str, value: str | None) -> Check:
    """Check one of nnU-Net's folders, by writing to it.

    Args:
        variable: Name of the environment variable.
        value: Its value, None if it is not set.
    """
    holds = _FOLDERS.get(variable, "its files")
    if not value:
        cure = f"export {variable}=FOLDER, where FOLDER is to hold {holds}"
        return Check(variable, "WRONG", "not set", cure)
    folder = Path(value)
    if not os.path.exists(value):  # noqa: PTH110 - a path that cannot be has none
        found = f"{value} (does not exist)"
        return Check(variable, "WRONG", found, f"mkdir -p {shlex.quote(value)}")
    if not folder.is_dir():
        cure = f"export {variable}=FOLDER, where FOLDER is a folder"
        return Check(variable, "WRONG", f"{value} (not a folder)", cure)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        cure = "choose a folder in which you may write"
        return Check(variable, "WRONG", f"{value} ({error.strerror})", cure)
    free = shutil.disk_usage(folder).free / _GIB
    return Check(variable, "ok", f"{value} (writable, {free:.0f} GiB free)")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Check the shared memory through which workers hand over batches."""
    name = "shared memory"
    if not folder.is_dir():
        return Check(name, "ok", f"no limit known ({folder} is not there)")
    total = shutil.disk_usage(folder).total / _GIB
    if total < 1:
        return Check(
            name,
            "note",
            f"{total:.2f} GiB",
            "if workers die in training, give the container more (--shm-size=8g)",
        )
    return Check(name, "ok", f"{total:.0f} GiB")


def _checks() -> Iterator[Check]:
    yield Check("Python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield check_version("nnunet-cel", _version("nnunet-cel"))
    for package in ("nnunetv2", "torch"):
        yield check_version(package, _version(package), _supported(package))
    yield check_discovery_here()
    yield check_discovery_elsewhere()
    try:
        yield from check_processor()
    except ImportError as error:
        cure = "pip install --force-reinstall torch"
        yield Check("torch", "WRONG", f"cannot be imported ({error})", cure)
    for module in ("timm", "torchvision"):
        yield check_optional(module)
    for variable in _FOLDERS:
        yield check_folder(variable, os.environ.get(variable))
    yield check_shared_memory()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _supported(package: str) -> str:
    """Return the versions that our own metadata demands of `package`."""
    try:
        lines = importlib.metadata.requires("nnunet-cel") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    requirements = [Requirement(line) for line in lines]
    return next((str(r.specifier) for r in requirements if r.name == package), "")


def _activate() -> str:
    """Return what to do where nnU-Net does not find our classes."""
    if os.environ.get(discovery.DISABLE_VARIABLE, "") not in ("", "0"):
        return f"unset {discovery.DISABLE_VARIABLE}, which switches the discovery off"
    return "pip install --force-reinstall --no-deps nnunet-cel, in this environment"


def _count_cores() -> int:
    """Return how many cores this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_native_bfloat16() -> bool:
    """Return whether torch sees instructions for bfloat16; False if it cannot tell."""
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        is_supported = getattr(torch.cpu, name, None)
        try:
            if is_supported is not None and is_supported():
                return True
        except RuntimeError:
            continue
    return False
