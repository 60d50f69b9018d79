"""Starts Snakemake on the workflow of a study, and gives its jobs a GPU each."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from nnunet_cel.files import locked
from nnunet_cel.schema import closest
from nnunet_cel.study.folder import RECORD, begin
from nnunet_cel.study.study import Study

__all__ = [
    "find_profile",
    "only_run",
    "require_snakemake",
    "run_on_gpu",
    "run_workflow",
    "visible_gpu",
    "workflow_file",
]

# What makes a job run again: its inputs changed, or what it is to do with them.
_TRIGGERS = ("mtime", "input", "params")
_SLURM = "snakemake_executor_plugin_slurm"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PAUSE = 0.2  # s between two looks for a free GPU


def workflow_file(*parts: str) -> Path:
    """Return the path of a file of the installed workflow."""
    return Path(str(importlib.resources.files("nnunet_cel.workflow"))).joinpath(*parts)


def require_snakemake(profile: str | None = None) -> None:
    """Check that Snakemake, and what a profile needs, is installed.

    Raises:
        ImportError: If it is not; the message says how to install it.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise ImportError(
            "The workflow needs Snakemake, which is not installed: "
            "pip install 'nnunet-cel[protocol]' (Python 3.11 or newer)"
        )
    if profile == "slurm" and importlib.util.find_spec(_SLURM) is None:
        raise ImportError(
            "The profile 'slurm' needs Snakemake's plugin for SLURM, which is not "
            "installed: pip install snakemake-executor-plugin-slurm"
        )


def find_profile(name: str) -> Path:
    """Return the folder of a profile.

    Args:
        name: Name of a profile that comes with the workflow, or a folder.

    Raises:
        ValueError: If there is no such profile.
    """
    ours = workflow_file("profiles")
    for folder in (ours / name, Path(name).absolute()):
        if (folder / "config.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in ours.glob("*/config.yaml"))
    raise ValueError(
        f"The profile must be {', '.join(known)}, or a folder with a config.yaml. Got "
        f"{name!r} instead.{closest(name, known)}"
    )


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
        ValueError: If another run is at work in the folder, or the profile is unknown.
    """
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(workflow_file("Snakefile"))]
    command += ["--rerun-triggers", *_TRIGGERS, "--rerun-incomplete", "--keep-going"]
    if profile is not None:
        command += ["--profile", str(find_profile(profile))]
    else:
        command += ["--cores", str(cores or os.cpu_count() or 1)]
        command += ["--resources", f"gpu={gpus}"]
    run = {"scripts": sysconfig.get_path("scripts"), "gpus": gpus}
    if dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            begin(study, Path(scratch), run=run)
            command += ["--directory", str(out if out.is_dir() else scratch)]
            command += ["--configfile", str(Path(scratch) / RECORD)]
            return _wait([*command, "--nolock", "--dry-run", *options])
    out.mkdir(parents=True, exist_ok=True)
    with only_run(out) as held:
        begin(study, out, run=run)
        if held is not None:
            # a run that was killed leaves Snakemake's own lock behind
            command.append("--nolock")
        command += ["--directory", str(out), "--configfile", str(out / RECORD)]
        return _wait([*command, *options], held)


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[int | None]:
    """Hold the folder of a study, so that no second run works in it.

    Not by `files.locked`: Snakemake, a child process, inherits this lock, so that the
    folder is held until Snakemake ends, also where this process is killed before.

    Args:
        out: The folder.

    Yields:
        Number of the open file that holds the folder; None if the file system cannot.

    Raises:
        ValueError: If another run holds it.
    """
    import fcntl  # not on Windows

    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another run of the study in {out} is at work. Wait for it to end, or "
                "stop it."
            ) from None
        except OSError:  # some network file systems have no locks
            yield None
            return
        yield file.fileno()


def _wait(command: Sequence[str], held: int | None = None) -> int:
    """Run a command to its end and return its exit status.

    Ctrl-C reaches the command by itself; a request to end is handed on.
    """
    keep = () if held is None else (held,)
    with subprocess.Popen(command, pass_fds=keep) as process:

        def hand_on(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGTERM:
                process.terminate()

        before = {n: signal.signal(n, hand_on) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_on_gpu(command: Sequence[str], *, locks: Path, count: int) -> int:
    """Run a command that sees one GPU only, once one is free, and return its status.

    Args:
        command: The command.
        locks: Folder with one file for each GPU, made if it does not exist.
        count: Number of GPUs.
    """
    locks.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        number = 0
        while True:
            with contextlib.suppress(ValueError):
                stack.enter_context(locked(locks / f"{number}.lock", "taken"))
                break
            number = (number + 1) % count
            time.sleep(_PAUSE / count)
        environment = os.environ | {_VISIBLE: visible_gpu(os.environ, number)}
        return subprocess.run(command, env=environment, check=False).returncode


def visible_gpu(environment: Mapping[str, str], number: int) -> str:
    """Return the name of one of the GPUs that the environment lets be seen."""
    visible = [name for name in environment.get(_VISIBLE, "").split(",") if name]
    return visible[number % len(visible)] if visible else str(number)
