"""Kills a command at every change of the file system, and runs it again.

    python kill_command.py FOLDER EVERY OUTPUT ARGUMENT...

For each of every EVERYth change the command runs in FOLDER, in a process of its own,
which kills itself (SIGKILL) right before the change; then it runs again, whole. Prints
the number of kills and what was wrong as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

from nnunet_cel import cli

_MODULES = (
    "dataset_conversion.command",
    "evaluation.compare_command",
    "evaluation.dataset",
    "evaluation.evaluate_command",
    "preparation.command",
    "preparation.restore",
    "report.build",
    "report.command",
)
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime")


def run(arguments: list[str], kill_at: int = 0) -> int | None:
    """Run a command in a fork; return its exit status, None if it was killed."""
    child = os.fork()
    if not child:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        if kill_at:
            os.dup2(silent, 2)
            kill_before_change(kill_at)
        os._exit(cli.main(arguments))
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def kill_before_change(number: int) -> None:
    """Kill this process right before a change of the file system."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        if writes or event in _CHANGES:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, and its empty folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def campaign(folder: Path, every: int, arguments: list[str]) -> tuple[int, list[str]]:
    """Return how often the command was killed, and what was wrong afterwards."""
    inputs = contents(folder)
    spare = folder.with_name(f"{folder.name} spare")
    shutil.copytree(folder, spare, symlinks=True)
    if run(arguments) != 0:
        return 0, ["the command fails without being killed"]
    whole = contents(folder)

    def start_again() -> None:
        shutil.rmtree(folder)
        shutil.copytree(spare, folder, symlinks=True)
        os.chdir(folder)

    wrong = []
    number = 0
    while True:
        number += 1
        at = 1 + (number - 1) * every
        start_again()
        if run(arguments, kill_at=at) is not None:
            return number - 1, wrong
        left = contents(folder)
        lost = [name for name in inputs if name not in left]
        status = run(arguments)
        after = contents(folder)
        # Done but for the end of its process, it need not be done again.
        finished = status == 1 and all(left.get(name) == whole[name] for name in whole)
        if (status != 0 and not finished) or after != whole:
            surplus = sorted(set(after) ^ set(whole))
            wrong.append(f"killed at {at}: {status}, lost {lost}, differs {surplus}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for module in _MODULES:  # once, and not in every fork
        importlib.import_module(f"nnunet_cel.{module}")
    where = Path(sys.argv[1])
    os.chdir(where)
    print(json.dumps(campaign(where, int(sys.argv[2]), sys.argv[3:])))
