r"""Makes a report of an evaluation: one HTML page, and its figures and tables.

OUT is a folder that 'nnunet-cel evaluate' wrote. The page needs no other file: it can
be sent by mail, printed, and read offline. A folder beside it, report_files for
report.html, holds every figure as PNG and SVG and every table as CSV.

    nnunet-cel report OUT --images nnUNet_raw/Dataset502_CEL/imagesTs -o report.html
    nnunet-cel report OUT --model MODEL --compare OUT_B OUT_C -o report.html
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel import parallel
from nnunet_cel.evaluation.comparison import compare_evaluations
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import new_folder, write_whole
from nnunet_cel.report.charts import draw_charts
from nnunet_cel.report.lesion_pictures import choose_channel, draw_case
from nnunet_cel.report.page import render_page
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.results import add_evaluation, read_results
from nnunet_cel.report.training_log import draw_training, read_training

__all__ = ["add_arguments", "run"]

_PER_CASE, _LEAST = 6, 2
_IN_ALL = 600  # pictures, so that the page can be sent by mail
_COPIED = ("lesions.csv", "summary.csv", "froc.csv", "calibration.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add_evaluation(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="HTML",
        help="page to write, such as report.html",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier report"
    )
    for name, text in (
        ("--images", "images of the cases, to see lesions on them (CASE_0000.nii.gz)"),
        ("--model", "folder of the nnU-Net model, for training curves"),
    ):
        parser.add_argument(name, type=Path, metavar="DIR", help=text)
    parser.add_argument(
        "--channel", type=int, default=0, metavar="N", help="channel of the images"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="OUT_B",
        help="evaluations of other models on the same cases",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="names of the models, that of OUT first (default: those of the folders)",
    )
    parser.add_argument(
        "--title", default="Predictions against references", help="title of the page"
    )
    parser.add_argument(
        "--lesions",
        type=int,
        metavar="N",
        help="lesions to show of each case, 0 for none (default: 6, fewer for more "
        "than 100 cases)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    start, page = time.monotonic(), args.out
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"The report must be a file that ends in .html. Got {page} instead."
        )
    if page.exists() and not args.overwrite:
        raise FileExistsError(
            f"The report {page} exists and is not replaced without being told so. "
            "Choose another name, or replace it with --overwrite."
        )
    folder = page.with_name(f"{page.stem}_files")
    inputs = [args.images, args.model, args.predictions, args.references]
    with new_folder(
        folder,
        what="report",
        mark="tables/cases.csv",
        inputs=[args.evaluation, *args.compare, *filter(None, inputs)],
        overwrite=args.overwrite,
    ) as files:
        write_whole(page, _write_files(args, files, folder.name))
    size = page.stat().st_size / 1e6
    print(f"Wrote {page} ({size:.1f} MB) in {time.monotonic() - start:.0f} s")
    print(f"Figures and tables are in {folder}")
    return 0


def _write_files(args: argparse.Namespace, files: Path, name: str) -> str:
    """Write figures and tables to a folder and return the HTML of the page.

    Args:
        args: Arguments of the command.
        files: Folder to write to.
        name: What the folder is called in the end.
    """
    results, maps = read_results(args.evaluation, args.predictions, args.references)
    summary, lesions = results["summary.json"], results["lesions.csv"]
    cases = results["cases.csv"].sort_values(["DSC", "case"], na_position="last")
    tables, comparison = {"cases": cases, **_tables(summary)}, None
    # What may be refused comes before anything is drawn.
    if args.compare or args.names:
        folders = [args.evaluation, *args.compare]
        comparison = compare_evaluations(folders, names=args.names)
        tables |= {name: comparison[f"{name}.csv"] for name in ("models", "tests")}
    if args.model is not None:
        tables["training"] = read_training(args.model)
    images = choose_channel(args.images, cases["case"].tolist(), args.channel)
    for place in ("tables", "figures", "figures/lesions"):
        (files / place).mkdir()
    for table in _COPIED:
        if (args.evaluation / table).is_file():
            shutil.copyfile(args.evaluation / table, files / "tables" / table)
    for table, rows in tables.items():
        write_table(files / "tables" / f"{table}.csv", rows)
    limit, pictures = args.lesions, None
    if limit is None:
        limit = min(_PER_CASE, max(_LEAST, _IN_ALL // len(cases)))
    if maps is not None and limit > 0:
        tasks = [
            (maps[case], images.get(case), lesions[lesions["case"] == case])
            for case in maps
        ]
        draw = partial(draw_case, files / "figures" / "lesions", limit)
        drawn = parallel.mapper(args, "Drawing")(draw, tasks)
        pictures = dict(zip(maps, drawn, strict=True))
    charts = draw_charts(results)
    if args.model is not None:
        charts.append(draw_training(tables["training"]))
    for chart in charts:
        chart.save(files / "figures")
    return render_page(
        summary,
        cases,
        title=args.title,
        charts={chart.name: chart for chart in charts},
        comparison=comparison,
        pictures=pictures,
        wanted=limit > 0,
        has_images=args.images is not None,
        files=name,
    )


def _tables(summary: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables of the page that are of ``summary.json``, by their name."""

    def table(column: str, rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
        return pd.DataFrame([{column: key, **row} for key, row in rows.items()])

    paper = {
        short: {
            **{key: summary["metrics"][short][key] for key in ("mean", "sd", "n")},
            "table_6_mean": TABLE_6[short][0],
            "table_6_sd": TABLE_6[short][1],
        }
        for short in PAPER_METRICS
    }
    sizes = {
        name: {**row["sensitivity"], **row}
        for name, row in summary["sizes_mm3"].items()
    }
    scans = {name: summary["scans"][name] for name in ("sensitivity", "specificity")}
    versions = {name: {"version": text} for name, text in summary["versions"].items()}
    tables = {
        "paper": table("metric", paper),
        "scans": table("quantity", scans),
        "sizes": table("size_bin", sizes).drop(columns="sensitivity"),
        "protocol": table("metric", summary["protocol"]["edge_cases"]),
        "versions": table("program", versions),
    }
    if summary["thresholds"]:
        rows = summary["thresholds"]["for_lfdr"]
        tables["thresholds"] = pd.DataFrame(
            [{"wanted": row["wanted"], **(row["found"] or {})} for row in rows]
        )
    return tables
