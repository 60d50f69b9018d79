"""The C library's allocator keeps freed memory, unless somebody else set it up."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Prints whether the allocator was set up, and the pages that the system had to hand out
# while 16 MB were taken, filled and given back ten times.
PROGRAM = """
import resource, torch
from nnunet_cel.networks.allocator import keep_freed_memory
print(keep_freed_memory())
def fill():
    blocks = [torch.ones(2**20) for _ in range(4)]
fill()
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library"
)


def run(**environment: str) -> tuple[bool, int]:
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
    kept, pages = result.stdout.split()
    return kept == "True", int(pages)


@needs_glibc
def test_freed_memory_is_used_again() -> None:
    """Filling the same memory again and again needs no new pages."""
    kept, pages = run()

    assert kept
    assert pages < 4096  # one filling touches 4096 pages of 4 KB


@needs_glibc
@pytest.mark.parametrize(
    "setting",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_the_user_set_up_stays(setting: dict[str, str]) -> None:
    """Every filling needs new pages where the user wants memory to be returned."""
    kept, pages = run(**setting)

    assert not kept
    assert pages > 10 * 4096 * 0.9
