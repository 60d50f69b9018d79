"""Gives every job of this machine a GPU of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["free_gpu", "run_on_gpu"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PAUSE = 0.2  # s between two looks


@contextlib.contextmanager
def free_gpu(locks: Path, count: int) -> Iterator[int]:
    """Hold one of several GPUs, waiting for it if need be.

    Args:
        locks: Folder with one file for each GPU, made if it does not exist.
        count: Number of GPUs.

    Yields:
        The number of the GPU, from 0 on.
    """
    import fcntl  # not on Windows

    locks.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(count):
            with (locks / f"{number}.lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield number
                return
        time.sleep(_PAUSE)


def run_on_gpu(command: Sequence[str], *, locks: Path, count: int) -> int:
    """Run a command that sees one GPU only and return its exit status."""
    with free_gpu(locks, count) as number:
        environment = os.environ | {_VISIBLE: visible_gpu(os.environ, number)}
        return subprocess.run(command, env=environment, check=False).returncode


def visible_gpu(environment: Mapping[str, str], number: int) -> str:
    """Return the name of one of the GPUs that the environment lets be seen."""
    visible = [name for name in environment.get(_VISIBLE, "").split(",") if name]
    return visible[number % len(visible)] if visible else str(number)
