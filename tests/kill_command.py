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
    "evaluation.comparison",
    "evaluation.dataset",
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
    """Return the bytes of all files below a folder, but for hidden ones."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            found[str(name)] = path.read_bytes()
    return found


def campaign(folder: Path, every: int, arguments: list[str]) -> tuple[int, list[str]]:
    """Return how often the command was killed, and what was wrong afterwards.

    What was there before must be there, or have been replaced whole, and the same
    command must then make what it makes without being killed.
    """
    before = contents(folder)
    spare = folder.with_name(f"{folder.name} spare")
    shutil.copytree(folder, spare, symlinks=True)
    if run(arguments) != 0:
        return 0, ["the command fails without being killed"]
    whole = contents(folder)
    wrong = []
    number = 0
    while True:
        shutil.rmtree(folder)
        shutil.copytree(spare, folder, symlinks=True)
        os.chdir(folder)
        at = 1 + number * every
        if run(arguments, kill_at=at) is not None:
            return number, wrong
        number += 1
        left = contents(folder)
        half = [
            n
            for n, content in left.items()
            if content not in (before.get(n), whole.get(n))
        ]
        # Done but for the end of its process, it need not be done again.
        again = [] if left == whole else [*arguments, *_again(arguments, left, before)]
        if half or (again and run(again) != 0) or contents(folder) != whole:
            wrong.append(f"killed at {at}: half written {half}")


def _again(
    arguments: list[str], left: dict[str, bytes], before: dict[str, bytes]
) -> list[str]:
    """Return the option without which a part of the results would not be replaced."""
    return [] if left == before or "--overwrite" in arguments else ["--overwrite"]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for module in _MODULES:  # once, and not in every fork
        importlib.import_module(f"nnunet_cel.{module}")
    where = Path(sys.argv[1])
    os.chdir(where)
    print(json.dumps(campaign(where, int(sys.argv[2]), sys.argv[3:])))
