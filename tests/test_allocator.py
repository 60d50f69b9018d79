"""The C library's allocator keeps freed memory, unless somebody else set it up."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Prints whether freed memory is kept, and how many MB of 320 the process still has when
# they are freed below a tensor that lives on, and when they are returned.
PROGRAM = """
import gc, os, torch
from pathlib import Path
from nnunet_cel.networks.allocator import keep_freed_memory, return_freed_memory

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

kept = keep_freed_memory()
before = resident()
tensors = [torch.ones(2**24) for _ in range(5)]
above = torch.ones(2**18)
del tensors
gc.collect()
freed = resident() - before
return_freed_memory()
print(kept, freed, resident() - before)
"""

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library"
)


def run(**environment: str) -> tuple[bool, float, float]:
    """Return what the program says in a fresh process with these variables."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name != "GLIBC_TUNABLES" and not name.startswith("MALLOC_")
    }
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, freed, returned = result.stdout.split()
    return kept == "True", float(freed), float(returned)


def test_freed_memory_is_kept_and_returned() -> None:
    """It stays in the process until it is to be returned."""
    kept, freed, returned = run()

    assert (kept, freed > 300, returned < 30) == (True, True, True)


def test_what_the_user_set_up_stays() -> None:
    """Large tensors are blocks of their own, which glibc returns at once."""
    kept, freed, _ = run(MALLOC_TRIM_THRESHOLD_="131072")

    assert (kept, freed < 30) == (False, True)
