"""The C library's allocator keeps freed memory, unless somebody else set it up."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Prints whether freed memory is kept; whether a tensor of 64 MB lies on the heap, where
# freed memory stays, and not in a block that the system takes back; and how many MB of
# 320 the process still has when they are freed below a tensor that lives on, and when
# they are returned.
PROGRAM = """
import gc, os, torch
from pathlib import Path
from nnunet_cel.networks.allocator import keep_freed_memory, return_freed_memory

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

def is_on_heap(tensor):
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= tensor.data_ptr() < last:
            return line.endswith("[heap]")

kept = keep_freed_memory()
before = resident()
tensors = [torch.ones(2**24) for _ in range(5)]
on_heap = all(map(is_on_heap, tensors))
above = torch.ones(2**18)
del tensors
gc.collect()
freed = resident() - before
return_freed_memory()
print(kept, on_heap, freed, resident() - before)
"""

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library"
)


def run(**environment: str) -> tuple[bool, bool, float, float]:
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
    kept, on_heap, freed, returned = result.stdout.split()
    return kept == "True", on_heap == "True", float(freed), float(returned)


def test_freed_memory_is_kept_and_returned() -> None:
    """It stays in the process until it is to be returned."""
    kept, on_heap, freed, returned = run()

    assert (kept, on_heap) == (True, True)
    assert freed > 300
    assert returned < 30


@pytest.mark.parametrize(
    "setting",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_the_user_set_up_stays(setting: dict[str, str]) -> None:
    """Large tensors are blocks of their own, which glibc returns at once."""
    kept, on_heap, freed, _ = run(**setting)

    assert (kept, on_heap) == (False, False)
    assert freed < 30
