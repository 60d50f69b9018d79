"""Puts evaluations of several models side by side, with paired tests.

OUT_A, OUT_B ... are folders that 'nnunet-cel evaluate' wrote for the same cases by the
same protocol. OUT gets models.csv (means), tests.csv (differences, Wilcoxon tests) and
comparison.json.

    nnunet-cel compare OUT_A OUT_B -o OUT --names FCA-DenseNet U-Net
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_cel.evaluation.comparison import Comparison

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "evaluations",
        type=Path,
        nargs="+",
        metavar="OUT_A",
        help="folders of two or more evaluations",
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="folder to write"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="names of the models (default: those of the folders)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the bootstrap (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it exists"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from nnunet_cel.evaluation.comparison import compare_evaluations
    from nnunet_cel.evaluation.tables import write_table
    from nnunet_cel.files import new_folder, to_json, write_whole

    with new_folder(
        args.out,
        what="comparison",
        mark="comparison.json",
        inputs=args.evaluations,
        overwrite=args.overwrite,
    ) as folder:
        comparison = compare_evaluations(
            args.evaluations, names=args.names, seed=args.seed
        )
        write_table(folder / "models.csv", comparison.models)
        write_table(folder / "tests.csv", comparison.tests)
        write_whole(folder / "comparison.json", to_json(comparison.summary))
    print(_describe(comparison))
    print(f"Wrote {args.out}")
    return 0


def _describe(comparison: Comparison) -> str:
    """Return the comparison as text, in the manner of the paper's tables."""
    from nnunet_cel.evaluation.tables import format_table, number

    names = list(comparison.summary["models"])
    pair = len(names) == 2
    rows = []
    for metric, models in comparison.models.groupby("metric", sort=False):
        row = [str(metric)]
        for model in models.itertuples():
            star = "*" if model.best else " "
            row.append(f"{number(model.mean)} ({number(model.sd)}){star}")
        if pair:
            test = comparison.tests[comparison.tests["metric"] == metric].iloc[0]
            low, high, mean = (
                number(test[name], sign=True)
                for name in ("ci_low", "ci_high", "mean_difference")
            )
            row += [f"{mean} ({low} to {high})", number(test["p"])]
        rows.append(row)
    header = ["", *names, *(["difference (95 % CI)", "p"] if pair else [])]
    return (
        f"{comparison.summary['n']} cases, mean (SD), * best mean\n"
        f"{format_table(header, rows)}"
    )
