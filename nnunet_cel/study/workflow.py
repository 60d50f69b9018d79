"""Starts Snakemake on the workflow of the study."""

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
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from nnunet_cel.study.folder import RECORD, begin, only_run
from nnunet_cel.study.keys import closest
from nnunet_cel.study.study import Study

__all__ = ["find_profile", "require_snakemake", "run_workflow", "workflow_file"]

# What makes a job run again: its inputs changed, or what it is to do with them.
_TRIGGERS = ("mtime", "input", "params")
_SLURM = "snakemake_executor_plugin_slurm"


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
        ImportError: If Snakemake is not installed.
        ValueError: If another run is at work in the folder, or the profile is unknown.
    """
    require_snakemake(profile)
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(workflow_file("Snakefile"))]
    command += ["--rerun-triggers", *_TRIGGERS, "--rerun-incomplete", "--keep-going"]
    if profile is not None:
        command += ["--profile", str(find_profile(profile))]
    else:
        command += ["--cores", str(cores or os.cpu_count() or 1)]
        command += ["--resources", f"gpu={gpus}"]
    run = {"scripts": sysconfig.get_path("scripts"), "gpus": gpus}
    with contextlib.ExitStack() as stack:
        if dry_run:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            begin(study, scratch, run=run)
            place = out if out.is_dir() else scratch
            command += ["--directory", str(place), "--nolock", "--dry-run"]
            command += ["--configfile", str(scratch / RECORD), *options]
            return _wait(command)
        out.mkdir(parents=True, exist_ok=True)
        held = stack.enter_context(only_run(out))
        begin(study, out, run=run)
        if held is not None:
            # a run that was killed leaves Snakemake's own lock behind
            command.append("--nolock")
        command += ["--directory", str(out), "--configfile", str(out / RECORD)]
        return _wait([*command, *options], held)


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
