"""Puts evaluations of several models side by side, with paired tests.

OUT_A, OUT_B ... are folders that 'nnunet-cel evaluate' wrote for the same cases by the
same protocol. OUT gets models.csv (means), tests.csv (differences, Wilcoxon tests) and
comparison.json.

    nnunet-cel compare OUT_A OUT_B -o OUT --names FCA-DenseNet U-Net
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_cel.evaluation.comparison import Comparison, compare_evaluations
from nnunet_cel.evaluation.options import add_options
from nnunet_cel.evaluation.tables import number, write_table
from nnunet_cel.files import new_folder, to_json, write_whole

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
        "--names",
        nargs="+",
        metavar="NAME",
        help="names of the models (default: those of the folders)",
    )
    add_options(parser, "seed")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
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
    print(f"{_describe(comparison)}\nWrote {args.out}")
    return 0


def _describe(comparison: Comparison) -> str:
    """Return the comparison as text, in the manner of the paper's tables."""
    models, names = comparison.models, comparison.summary["models"]
    cells = [
        f"{number(row.mean)} ({number(row.sd)}){'*' if row.best else ' '}"
        for row in models.itertuples()
    ]
    table = models.assign(cell=cells).pivot(
        index="metric", columns="model", values="cell"
    )
    # in the order of the metrics and of the models
    table = table.loc[models["metric"].unique(), names]
    if len(names) == 2:
        tests = comparison.tests.set_index("metric")
        for title, column in (
            ("difference", "mean_difference"),
            ("95 % CI from", "ci_low"),
            ("to", "ci_high"),
            ("p", "p"),
        ):
            table[title] = tests[column].map(number)
    text = table.rename_axis(index=None, columns=None).to_string()
    return f"{comparison.summary['n']} cases, mean (SD), * best mean\n{text}"
