"""Runs nnU-Net's commands on damaged files, each in a fork of one process.

    python stock_damaged.py FOLDER CASES.json

FOLDER holds nnU-Net's three folders. CASES.json is a list of cases, each with the name
of a file below FOLDER, its damage (a name of ``DAMAGES``), a command and its arguments.
Prints, as JSON, status and output of each; a status of None stands for a command that
did not end.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

LIMIT = 60  # seconds
COMMANDS = {
    "plan": (
        "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
        "plan_and_preprocess_entry",
    ),
    "train": ("nnunetv2.run.run_training", "run_training_entry"),
    "predict": ("nnunetv2.inference.predict_from_raw_data", "predict_entry_point"),
}
DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: b"\x93noise" * (len(content) // 6),
    "list": lambda content: b"[1, 2]",
    "settings": lambda content: content.replace(b'"gamma"', b'"gama"'),
    "planes": lambda content: content.replace(
        b'"normalization_schemes"', b'"normalisation_schemes"'
    ),
}


def run(root: Path, command: str, arguments: list[str]) -> tuple[int | None, str]:
    """Run a command in a fork; return its exit status and what it said."""
    output = root / "output.txt"
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = [command, *arguments]
        module, function = COMMANDS[command]
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
            status = 1
        else:
            status = 0
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    signal.alarm(LIMIT)
    try:
        _, status = os.waitpid(child, 0)
        signal.alarm(0)
        code: int | None = os.waitstatus_to_exitcode(status)
    except TimeoutError:
        code = None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its workers, if it left any
    return code, output.read_text(errors="replace")


def main() -> None:
    """Run all cases."""
    root, cases = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    for module, _ in COMMANDS.values():
        importlib.import_module(module)

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    results = []
    for file, damage, command, arguments in cases:
        work = root / "work"
        shutil.copytree(root / "whole", work)
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(work / name)
        path = min(work.glob(file))
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        parts = [part.replace("{}", str(work)) for part in arguments]
        code, said = run(work, command, parts)
        results.append([code, said[-20000:], path.name])
        shutil.rmtree(work)
    print(json.dumps(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
