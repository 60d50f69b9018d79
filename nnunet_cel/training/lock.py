"""Keeps a second training away from the folder of one that is running.

A lock belongs to its process and ends with it, however it ends, so that a killed
training can be continued at once. It is a POSIX record lock: unlike those of ``flock``
it is not handed on to the processes that load data, which outlive a killed training by
some seconds.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows there are no such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_FILE", "lock_folder"]

LOCK_FILE = "training.lock"


@contextmanager
def lock_folder(folder: Path | str | None) -> Iterator[None]:
    """Lock the folder of a fold for this process while the block runs.

    Where the file system knows no locks the block runs without one.

    Args:
        folder: Output folder of the fold. None locks nothing.

    Raises:
        RuntimeError: If another process has the lock.
    """
    if folder is None or fcntl is None:
        yield
        return
    with Path(folder, LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise RuntimeError(
                    "Only one training of a fold can run at a time. Got a second one "
                    f"for {folder}, where {owner} is training or validating. Wait "
                    "until it is done, or end it and continue with --c."
                ) from error
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
