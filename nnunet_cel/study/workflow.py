"""The folder of a study, Snakemake at work in it, and a GPU for each of its jobs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.resources
import os
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_cel.files import locked, read_json, to_json, write_whole
from nnunet_cel.study.study import Study, parse_study

__all__ = ["begin", "continued_study", "run_on_gpu", "run_workflow", "workflow_file"]

_RECORD = "study.json"  # says what the folder is a study of
# What trained models depend on; the rest may change while a study goes on.
_FROZEN = {"data", "planning", "training", "seed"}
_VISIBLE = "CUDA_VISIBLE_DEVICES"


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
    try:
        snakemake = importlib.import_module("snakemake.cli")
    except ImportError as error:
        raise ImportError(
            "The workflow needs Snakemake, which is not installed: "
            "pip install 'nnunet-cel[protocol]' (Python 3.11 or newer)"
        ) from error
    _refuse_other_study(study, out)
    # Snakemake's own lock stays where a run was killed; ours does not.
    line = ["--snakefile", str(workflow_file("Snakefile")), "--nolock", "--keep-going"]
    # A job runs again if its inputs changed, or what it is to do with them.
    line += ["--rerun-triggers", "mtime", "input", "params", "--rerun-incomplete"]
    if profile is None:
        line += ["--cores", str(cores or os.cpu_count() or 1)]
        line += ["--resources", f"gpu={gpus}"]
    else:
        ours = workflow_file("profiles", profile)
        line += ["--profile", str(ours if ours.is_dir() else Path(profile).absolute())]
    run = {"scripts": sysconfig.get_path("scripts"), "gpus": gpus}
    with contextlib.ExitStack() as stack:
        # Snakemake would leave behind its own treatment of the signal.
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        if dry_run:
            line += ["--dry-run"]
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            out.mkdir(parents=True, exist_ok=True)
            message = f"Another run of the study in {out} is at work. Wait for its end."
            stack.enter_context(locked(out / ".lock", message))
            home = out
        line += ["--configfile", str(begin(study, home, run=run))]
        line += ["--directory", str(out if out.is_dir() else home)]
        try:
            snakemake.main([*line, *options])
        except SystemExit as end:  # also of a run that ends well
            return int(end.code or 0)
    return 0


def run_on_gpu(command: Sequence[str], *, locks: Path, count: int) -> int:
    """Run a command that sees one GPU only, once one is free, and return its status.

    Args:
        command: The command.
        locks: Folder with one file for each GPU, made if it does not exist.
        count: Number of GPUs.
    """
    locks.mkdir(parents=True, exist_ok=True)
    names = os.environ.get(_VISIBLE) or ",".join(map(str, range(count)))
    while True:
        for number, name in enumerate(names.split(",")[:count]):
            taken = locked(locks / f"{number}.lock", "taken")
            with contextlib.suppress(ValueError), taken:
                environment = os.environ | {_VISIBLE: name}
                return subprocess.run(command, env=environment, check=False).returncode
        time.sleep(0.2)
