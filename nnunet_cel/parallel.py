"""Works on several cases at once, with a progress bar."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["add_arguments", "map_cases", "mapper", "raise_together", "try_cases"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that works on several cases."""
    parser.add_argument(
        "-np",
        "--processes",
        type=int,
        default=min(4, os.cpu_count() or 1),  # a case can take a gigabyte
        metavar="N",
        help="number of cases worked on at once (default: %(default)s)",
    )
    parser.add_argument(
        "--no-progress", action="store_true", help="show no progress bar"
    )


def mapper(args: argparse.Namespace, title: str) -> Callable[..., list[Any]]:
    """Return :func:`try_cases` as the options say, with a title of its bar."""
    description = None if args.no_progress else title
    return partial(try_cases, processes=args.processes, description=description)


def map_cases(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    processes: int = 1,
    description: str | None = None,
) -> list[Result]:
    """Apply a function to every item and return the results in the items' order.

    The first error ends the others' work and is raised. Ctrl-C does the same.

    Args:
        function: What to do; defined at the top of a module if ``processes`` > 1.
        items: One for each call, picklable if ``processes`` > 1.
        processes: Number of processes; with 1, this one does all.
        description: Title of the progress bar, None for no bar.

    Raises:
        ValueError: If ``processes`` is below 1.
        ChildProcessError: If a process died, for example for lack of memory.
    """
    if processes < 1:
        raise ValueError(
            f"The number of processes must be an integer >= 1. Got {processes} instead."
        )
    title = {"desc": description, "disable": description is None, "unit": "case"}
    if processes == 1:
        return [function(item) for item in tqdm(items, **title)]
    # Threads of SimpleITK and numba do not survive a fork.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, context, initializer=_start_worker)
    try:
        futures = [executor.submit(function, item) for item in items]
        for future in tqdm(as_completed(futures), total=len(futures), **title):
            future.result()  # raises what a failed one raised
    except BaseException as error:
        for child in multiprocessing.active_children():
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                "A process ended before its work was done, probably for lack of "
                "memory. Use fewer processes: -np 1."
            ) from error
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def try_cases(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    processes: int = 1,
    description: str | None = None,
) -> list[Result]:
    """Apply a function to every item as :func:`map_cases`, whatever fails.

    Raises:
        ValueError: If the function raised ValueError or OSError; the message lists
            what was wrong with each of the items.
    """
    attempt = partial(_attempt, function)
    results = map_cases(attempt, items, processes=processes, description=description)
    raise_together([problem for _, problem in results if problem])
    return [result for done, _ in results for result in done]


def raise_together(problems: Sequence[str]) -> None:
    """Raise one ValueError that lists all problems, if there are any."""
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"{len(problems)} cases have problems:\n{listed}")


def _attempt(
    function: Callable[[Item], Result], item: Item
) -> tuple[list[Result], str]:
    """Return the result of an item, or none and what is wrong with it."""
    try:
        return [function(item)], ""
    except (ValueError, OSError) as error:
        return [], str(error) or type(error).__name__


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and end when it is gone, however it ended."""

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]  # it has one
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
