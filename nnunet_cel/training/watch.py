"""Ends a validation that has lost one of the processes that write its predictions.

nnU-Net waits for the results of those processes without looking whether they live. If
one is killed, mostly because memory is short, its result never comes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

__all__ = ["error_if_process_dies"]

_SECONDS = 0.5

# SIGTERM is how a pool ends its processes when their work is done.
_NORMAL_ENDS = (None, 0, -signal.SIGTERM)


@contextmanager
def error_if_process_dies(advice: str) -> Iterator[None]:
    """Interrupt the block if a process dies that was started in it.

    Nothing is watched on Windows, and in threads other than the main one.

    Args:
        advice: What the error says.

    Raises:
        RuntimeError: If a process was killed or crashed.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "SIGUSR2") or not main_thread:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise RuntimeError(advice)

    over = threading.Event()
    earlier = set(multiprocessing.active_children())
    watcher = threading.Thread(target=_watch, args=(earlier, over), daemon=True)
    previous = signal.signal(signal.SIGUSR2, interrupt)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGUSR2, previous)


def _watch(earlier: set[BaseProcess], over: threading.Event) -> None:
    seen: set[BaseProcess] = set()
    while not over.wait(_SECONDS):
        seen.update(set(multiprocessing.active_children()) - earlier)
        if any(process.exitcode not in _NORMAL_ENDS for process in seen):
            # a signal is the one thing that ends the wait of the main thread
            os.kill(os.getpid(), signal.SIGUSR2)
            return
