"""Runs the whole study of the paper: from scans to Tables 2-8 and Figures 7-9.

    nnunet-cel protocol init study.yaml         # a commented example, to be changed
    nnunet-cel protocol run --config study.yaml --dry-run
    nnunet-cel protocol run --config study.yaml --cores 16
    nnunet-cel protocol run --config study.yaml --profile slurm

A study that was interrupted goes on where it was: give the same command again.
Snakemake, which runs the workflow, comes with pip install 'nnunet-cel[protocol]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to the parser of the command."""
    choices = parser.add_subparsers(metavar="ACTION", required=True)

    init = choices.add_parser("init", help="write a commented example of a study")
    init.set_defaults(action=_init)
    init.add_argument("file", type=Path, metavar="FILE", help="file to write")

    _add_run(choices.add_parser("run", help="run a study, or go on with it"))

    for what, said in (("table", "write the tables"), ("figure", "draw the figures")):
        results = choices.add_parser(f"{what}s", help=f"{said} of a study again")
        results.set_defaults(action=_results, what=what)
        results.add_argument("study", type=Path, metavar="FOLDER", help="of the study")
        results.add_argument(
            "--only", nargs="+", metavar="NAME", help=f"names, such as {what}7"
        )
        results.add_argument(
            "--partial", action="store_true", help="leave out what is not there yet"
        )

    settings = choices.add_parser(
        "settings", help="write the settings of a study into plans (a step of run)"
    )
    settings.set_defaults(action=_settings)
    settings.add_argument("study", type=Path, metavar="FOLDER", help="of the study")
    settings.add_argument("dataset", metavar="DATASET", help="name of the data set")

    gpu = choices.add_parser(
        "on-gpu", help="run a command on a GPU that is free (a step of run)"
    )
    gpu.set_defaults(action=_on_gpu)
    gpu.add_argument("count", type=int, metavar="N", help="number of GPUs")
    gpu.add_argument("line", nargs=argparse.REMAINDER, metavar="COMMAND")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    status: int = args.action(args)
    return status


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(action=_run)
    parser.add_argument("--config", type=Path, required=True, help="file of the study")
    parser.add_argument(
        "-o", "--out", type=Path, help="folder (default: 'out' of CONFIG or NAME_study)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and do nothing"
    )
    parser.add_argument(
        "--cores", type=int, metavar="N", help="cores to use (default: all)"
    )
    parser.add_argument(
        "--gpus", type=int, default=1, metavar="N", help="GPUs to use at once"
    )
    parser.add_argument(
        "--profile", help="slurm, or a folder of Snakemake (default: this machine)"
    )
    parser.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="more options for Snakemake"
    )


def _init(args: argparse.Namespace) -> int:
    from nnunet_cel.study.workflow import workflow_file

    template = workflow_file("config", "template.yaml").read_text(encoding="utf-8")
    with args.file.open("x", encoding="utf-8") as file:  # replaces nothing
        file.write(template)
    print(
        f"Wrote {args.file}. Say there where your scans are, then: "
        f"nnunet-cel protocol run --config {args.file} --dry-run"
    )
    return 0


def _run(args: argparse.Namespace) -> int:
    from nnunet_cel.study import workflow
    from nnunet_cel.study.feasibility import check_feasible
    from nnunet_cel.study.study import read_study

    study = read_study(args.config)
    out = Path(args.out or study.out or f"{args.config.stem}_study").absolute()
    check_feasible(study, local=args.profile is None)
    status = workflow.run_workflow(
        study,
        out,
        cores=args.cores,
        gpus=args.gpus,
        profile=args.profile,
        dry_run=args.dry_run,
        options=args.options,
    )
    if status == 0 and not args.dry_run:
        print(f"Tables are in {out / 'tables'}, figures in {out / 'figures'}.")
    elif status:
        print(
            f"Something failed or was stopped: see {out / 'logs'}. Finished work is "
            "kept; the same command goes on from there."
        )
    return status


def _results(args: argparse.Namespace) -> int:
    from nnunet_cel.study.figures import write_figures
    from nnunet_cel.study.tables import write_tables
    from nnunet_cel.study.workflow import continued_study

    study = continued_study(args.study)
    write = write_tables if args.what == "table" else write_figures
    for path in write(study, args.study, only=args.only, partial=args.partial):
        print(f"Wrote {path}")
    return 0


def _settings(args: argparse.Namespace) -> int:
    from nnunet_cel.study.plans import write_settings
    from nnunet_cel.study.workflow import continued_study

    study = continued_study(args.study)
    path = write_settings(study, args.study / "preprocessed", args.dataset)
    print(f"Wrote the settings of the study to {path}")
    return 0


def _on_gpu(args: argparse.Namespace) -> int:
    from nnunet_cel.study.workflow import run_on_gpu

    line = args.line[1:] if args.line[:1] == ["--"] else args.line
    return run_on_gpu(line, locks=Path(".gpus"), count=args.count)
