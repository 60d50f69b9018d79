"""Keeps the C library from returning freed memory while a network runs on the CPU.

glibc returns large freed blocks to the system at once. A network on the CPU frees and
allocates tensors of megabytes in every layer, and the system zeroes each page anew.
With freed memory kept, a training step takes 0.6 to 0.8 of the time
(benchmarks/RESULTS.md).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["freed_memory_kept", "keep_freed_memory"]

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_THRESHOLD = 2**30  # bytes
_OLD_LARGEST_THRESHOLD = 2**25  # before glibc 2.35


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory in this process for the next tensors.

    Does nothing on systems with another C library, and where the environment sets up
    glibc's allocator (``MALLOC_...``,
    ``GLIBC_TUNABLES``). Nothing but speed depends on it.

    Returns:
        Whether freed memory is kept.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    accepted = any(
        mallopt(_M_MMAP_THRESHOLD, threshold)
        for threshold in (_THRESHOLD, _OLD_LARGEST_THRESHOLD)
    )
    return bool(accepted and mallopt(_M_TRIM_THRESHOLD, _THRESHOLD))


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Keep freed memory while a network runs on the CPU, and return it afterwards.

    Args:
        device: Where the network runs; elsewhere than on the CPU nothing is done.
    """
    kept = device.type == "cpu" and keep_freed_memory()
    try:
        yield
    finally:
        if kept:
            ctypes.CDLL(None).malloc_trim(0)
