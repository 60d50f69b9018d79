"""Devices, and fresh processes: for peak memory, and settings of their own."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

__all__ = ["default_device", "in_fresh_process", "peak_memory", "resident_memory"]


def default_device() -> str:
    """Return the name of the GPU if there is one, else of the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def in_fresh_process(function: Callable[..., Any], *args: object) -> Any:
    """Return what the function returns in a new process; hide what it prints."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_quietly, function, args).result()


def _quietly(function: Callable[..., Any], args: tuple[object, ...]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net's predictor prints
        return function(*args)


def peak_memory() -> float:
    """Return the largest resident memory of this process so far in MB; Linux only.

    Not ``getrusage(RUSAGE_SELF).ru_maxrss``: that starts at the size of the process
    that started this one.
    """
    return _status("VmHWM")


def resident_memory() -> float:
    """Return the resident memory of this process in MB; Linux only."""
    return _status("VmRSS")


def _status(key: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    for line in status.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"{status} must have a line {key!r}. It has none.")
