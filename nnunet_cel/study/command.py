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
    choices = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_init(choices.add_parser("init", help="write a commented example of a study"))
    _add_run(choices.add_parser("run", help="run a study, or go on with it"))
    tables = choices.add_parser("tables", help="write the tables of a study again")
    _add_results(tables, "table")
    figures = choices.add_parser("figures", help="draw the figures of a study again")
    _add_results(figures, "figure")
    settings = choices.add_parser(
        "settings", help="write the settings of a study into plans (a step of run)"
    )
    settings.add_argument("study", type=Path, metavar="FOLDER", help="of the study")
    settings.add_argument("dataset", metavar="DATASET", help="name of the data set")
    gpu = choices.add_parser(
        "on-gpu", help="run a command on a GPU that is free (a step of run)"
    )
    gpu.add_argument("count", type=int, metavar="N", help="number of GPUs")
    gpu.add_argument("line", nargs=argparse.REMAINDER, metavar="COMMAND")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    actions = {
        "init": _init,
        "run": _run,
        "tables": _tables,
        "figures": _figures,
        "settings": _settings,
        "on-gpu": _on_gpu,
    }
    return actions[args.action](args)


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="file to write")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the study"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the study (default: 'out' in FILE, else NAME_study here)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and do nothing"
    )
    parser.add_argument(
        "--cores", type=int, metavar="N", help="cores to use (default: all)"
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs of this machine to use at once (default: %(default)s)",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="slurm, or the folder of a Snakemake profile (default: this machine)",
    )
    parser.add_argument(
        "options",
        nargs="*",
        metavar="-- OPTION",
        help="more options for Snakemake, behind --",
    )


def _add_results(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("study", type=Path, metavar="FOLDER", help="of the study")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"names, such as {what}6 or {what}7"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out what is not there yet, instead of ending with an error",
    )


def _init(args: argparse.Namespace) -> int:
    from nnunet_cel.files import write_whole
    from nnunet_cel.study.workflow import workflow_file

    if args.file.exists():
        raise FileExistsError(
            f"The file {args.file} exists and is not replaced. Name another one."
        )
    template = workflow_file("config", "template.yaml").read_text(encoding="utf-8")
    write_whole(args.file, template)
    print(
        f"Wrote {args.file}. Say there where your scans are, then: "
        f"nnunet-cel protocol run --config {args.file} --dry-run"
    )
    return 0


def _run(args: argparse.Namespace) -> int:
    from nnunet_cel.study.feasibility import check_feasible, required_bytes
    from nnunet_cel.study.folder import refuse_other_study
    from nnunet_cel.study.study import read_study
    from nnunet_cel.study.workflow import (
        find_profile,
        require_snakemake,
        run_workflow,
    )

    for name, count in (("cores", args.cores), ("gpus", args.gpus)):
        if count is not None and count < 1:
            raise ValueError(f"The --{name} must be at least 1. Got {count} instead.")
    require_snakemake(args.profile)
    if args.profile is not None:
        find_profile(args.profile)
    study, out = read_study(args.config)
    out = (args.out or out).absolute()
    refuse_other_study(study, out)
    check_feasible(study, out, local=args.profile is None)
    print(
        f"Study in {out}, at most {required_bytes(study, out) / 1e9:.1f} GB to write."
    )
    status = run_workflow(
        study,
        out,
        cores=args.cores,
        gpus=args.gpus,
        profile=args.profile,
        dry_run=args.dry_run,
        options=args.options,
    )
    if args.dry_run:
        return status
    if status == 0:
        print(f"Tables are in {out / 'tables'}, figures in {out / 'figures'}.")
    else:
        print(
            f"Something failed or was stopped: see {out / 'logs'}. Finished work is "
            "kept; the same command goes on from there. 'nnunet-cel protocol tables "
            "FOLDER --partial' makes tables of what there is."
        )
    return status


def _tables(args: argparse.Namespace) -> int:
    from nnunet_cel.study.folder import continued_study
    from nnunet_cel.study.tables import write_tables

    study = continued_study(args.study)
    for path in write_tables(study, args.study, only=args.only, partial=args.partial):
        print(f"Wrote {path}")
    return 0


def _figures(args: argparse.Namespace) -> int:
    from nnunet_cel.study.figures import write_figures
    from nnunet_cel.study.folder import continued_study

    study = continued_study(args.study)
    for path in write_figures(study, args.study, only=args.only, partial=args.partial):
        print(f"Wrote {path}")
    return 0


def _settings(args: argparse.Namespace) -> int:
    from nnunet_cel.study.folder import continued_study
    from nnunet_cel.study.plans import write_settings

    study = continued_study(args.study)
    path = write_settings(study, args.study / "preprocessed", args.dataset)
    print(f"Wrote the settings of the study to {path}")
    return 0


def _on_gpu(args: argparse.Namespace) -> int:
    from nnunet_cel.study.gpu import run_on_gpu

    line = args.line[1:] if args.line[:1] == ["--"] else args.line
    return run_on_gpu(line, locks=Path(".gpus"), count=args.count)
