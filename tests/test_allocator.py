"""The C library's allocator keeps freed memory, unless somebody else set it up."""

from __future__ import annotations

import gc
import os
import platform
from pathlib import Path

import pytest
import torch

from nnunet_cel.networks.allocator import freed_memory_kept, keep_freed_memory

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library"
)


def resident() -> float:
    """Return the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_freed_memory_is_kept_and_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """320 MB stay in the process, below a tensor that lives on, until the end."""
    if not keep_freed_memory():
        pytest.skip("somebody set the allocator up")
    with freed_memory_kept(torch.device("cpu")):
        pass  # returns what tests before this one left
    before = resident()

    with freed_memory_kept(torch.device("cpu")):
        tensors = [torch.ones(2**24) for _ in range(5)]
        above = torch.ones(2**18)
        del tensors
        gc.collect()
        freed = resident() - before
    returned = resident() - before

    assert above.sum() == 2**18
    assert (freed > 300, returned < 30) == (True, True)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory.__wrapped__()
