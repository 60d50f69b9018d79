"""How the C library hands out memory: the larger half of some CPU trainings.

glibc returns large freed blocks to the system at once. A network on the CPU frees and
allocates tensors of megabytes in every layer, and the system zeroes each page anew.
With freed memory kept, a training step of 16 stacks of 64 x 64 voxels takes half of the
time (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import ctypes
import functools
import os

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_KEPT_BYTES = 2**30
_OLD_LARGEST_THRESHOLD = 2**25  # before glibc 2.35


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of freed memory in this process for the next tensors.

    Does nothing on systems with another C library, and where the environment sets up
    glibc's allocator (``MALLOC_...`` or ``GLIBC_TUNABLES``). Memory that is returned to
    the system is not lost to the process: nothing but speed depends on it.

    Returns:
        Whether the allocator was set up.
    """
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    accepted = any(
        mallopt(_M_MMAP_THRESHOLD, threshold)
        for threshold in (_KEPT_BYTES, _OLD_LARGEST_THRESHOLD)
    )
    return bool(accepted and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
