"""The folder of a study, Snakemake at work in it, and a GPU for each of its jobs."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import itertools
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_cel.files import locked, read_json, to_json, write_whole
from nnunet_cel.study.study import Study, parse_study

__all__ = [
    "begin",
    "continued_study",
    "only_run",
    "run_on_gpu",
    "run_workflow",
    "workflow_file",
]

_RECORD = "study.json"  # says what the folder is a study of
# What trained models depend on; the rest may change while a study goes on.
_FROZEN = {"data", "planning", "training", "seed"}
# What makes a job run again: its inputs changed, or what it is to do with them.
_TRIGGERS = ("mtime", "input", "params")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PAUSE = 0.2  # s between two looks for a free GPU


def workflow_file(*parts: str) -> Path:
    """Return the path of a file of the installed workflow."""
    return Path(str(importlib.resources.files("nnunet_cel.workflow"))).joinpath(*parts)


def _refuse_other_study(study: Study, out: Path) -> None:
    """Refuse a folder of other things, or of a study that was begun differently."""
    if not out.exists() or {path.name for path in out.iterdir()} <= {".lock"}:
        return
    if not (out / _RECORD).is_file():
        raise FileExistsError(
            f"The folder of a study must be empty or an earlier run's. {out} is "
            "neither: name another one with 'out' or --out."
        )
    before, now = (
        known.model_dump(include=_FROZEN) for known in (continued_study(out), study)
    )
    changed = [key for key in sorted(_FROZEN) if before[key] != now[key]]
    if changed and (out / "done").is_dir():
        raise ValueError(
            f"The study in {out} was begun with another {' and '.join(changed)}, which "
            f"its models depend on: see {_RECORD} there. Put it back, or name another "
            "folder with 'out' or --out."
        )


def begin(study: Study, out: Path, *, run: Mapping[str, Any]) -> Path:
    """Make the folder of a study with links to existing data sets; return its record.

    Args:
        study: The study.
        out: Its folder.
        run: What else the workflow has to know.
    """
    for name in ("raw", "linking_tables"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for data in (study.data.wmh, study.data.cel):
        if data.dataset:
            link = out / "raw" / Path(data.dataset).name
            link.unlink(missing_ok=True)
            link.symlink_to(data.dataset, target_is_directory=True)
    record = {"study": study.model_dump(mode="json", exclude_unset=True), **run}
    write_whole(out / _RECORD, to_json(record))
    return out / _RECORD


def continued_study(out: Path) -> Study:
    """Return the study of a folder.

    Raises:
        FileNotFoundError: If the folder is no study's.
    """
    path = out / _RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no study in {out}. 'nnunet-cel protocol run' begins one."
        )
    return parse_study(read_json(path)["study"], folder=out)


def run_workflow(
    study: Study,
    out: Path,
    *,
    cores: int | None = None,
    gpus: int = 1,
    profile: str | None = None,
    dry_run: bool = False,
    options: Sequence[str] = (),
) -> int:
    """Run the workflow of a study and return Snakemake's exit status.

    Args:
        study: The study.
        out: Its folder.
        cores: Number of cores of this machine to use; None for all.
        gpus: Number of GPUs of this machine to use.
        profile: Name or folder of a Snakemake profile; None for this machine.
        dry_run: Whether to say what would be done, and write nothing.
        options: More options for Snakemake.

    Raises:
        FileExistsError: If the folder holds other things than a study.
        ImportError: If Snakemake is not installed.
        ValueError: If the folder is of another study, or another run is at work in it.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise ImportError(
            "The workflow needs Snakemake, which is not installed: "
            "pip install 'nnunet-cel[protocol]' (Python 3.11 or newer)"
        )
    _refuse_other_study(study, out)
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(workflow_file("Snakefile"))]
    command += ["--rerun-triggers", *_TRIGGERS, "--rerun-incomplete", "--keep-going"]
    if profile is None:
        command += ["--cores", str(cores or os.cpu_count() or 1)]
        command += ["--resources", f"gpu={gpus}"]
    else:
        ours = workflow_file("profiles", profile)
        command += [
            "--profile",
            str(ours if ours.is_dir() else Path(profile).absolute()),
        ]
    run = {"scripts": sysconfig.get_path("scripts"), "gpus": gpus}
    if dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            record = begin(study, Path(scratch), run=run)
            command += ["--directory", str(out if out.is_dir() else scratch)]
            command += ["--configfile", str(record), "--nolock", "--dry-run"]
            return _wait([*command, *options])
    out.mkdir(parents=True, exist_ok=True)
    with only_run(out) as held:
        record = begin(study, out, run=run)
        # A run that was killed leaves Snakemake's own lock behind.
        command += ["--nolock"] if held else []
        command += ["--directory", str(out), "--configfile", str(record)]
        return _wait([*command, *options], held)


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[list[int]]:
    """Hold the folder of a study, so that no second run works in it.

    Not by `files.locked`: Snakemake, a child process, inherits this lock, so that the
    folder is held until Snakemake ends, also where this process is killed before.

    Args:
        out: The folder.

    Yields:
        Number of the open file that holds the folder; none if the file system cannot.

    Raises:
        ValueError: If another run holds it.
    """
    import fcntl  # not on Windows

    with (out / ".lock").open("w") as file:
        held = [file.fileno()]
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another run of the study in {out} is at work. Wait for it to end, or "
                "stop it."
            ) from None
        except OSError:  # some network file systems have no locks
            held = []
        yield held


def _wait(command: Sequence[str], held: Sequence[int] = ()) -> int:
    """Run a command to its end and return its exit status."""
    with subprocess.Popen(command, pass_fds=held) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # to `nnunet-cel`, a request to end is one as well
            process.terminate()
            return process.wait()


def run_on_gpu(command: Sequence[str], *, locks: Path, count: int) -> int:
    """Run a command that sees one GPU only, once one is free, and return its status.

    Args:
        command: The command.
        locks: Folder with one file for each GPU, made if it does not exist.
        count: Number of GPUs.
    """
    locks.mkdir(parents=True, exist_ok=True)
    names = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    names = (names or [str(number) for number in range(count)])[:count]
    with contextlib.ExitStack() as stack:
        for number in itertools.cycle(range(len(names))):
            with contextlib.suppress(ValueError):
                stack.enter_context(locked(locks / f"{number}.lock", "taken"))
                break
            time.sleep(_PAUSE / len(names))
        environment = os.environ | {_VISIBLE: names[number]}
        return subprocess.run(command, env=environment, check=False).returncode
