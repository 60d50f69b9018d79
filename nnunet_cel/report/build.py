"""Writes a report: the page, and a folder with its figures and tables beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel.evaluation.comparison import Comparison, compare_evaluations
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import new_folder, write_whole
from nnunet_cel.report.charts import draw_charts
from nnunet_cel.report.lesion_pictures import (
    choose_channel,
    draw_pictures,
    pictures_per_case,
)
from nnunet_cel.report.page import render_page
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.results import Results, find_maps, read_results
from nnunet_cel.report.training_log import draw_training, read_training

__all__ = ["Sources", "write_report"]

_MARK = "tables/cases.csv"  # by which an earlier report is known
_NOT_WANTED = "No pictures of lesions were wanted."
_MOVED = (
    "There are no pictures of lesions: predictions or references are no longer where "
    "they were evaluated. --predictions and --references say where they are."
)


@dataclass(frozen=True)
class Sources:
    """What a report is made from.

    Args:
        evaluation: Folder that `nnunet-cel evaluate` wrote.
        images: Folder of the images, None for pictures on black.
        channel: Which channel of the images is shown.
        model: Folder of the nnU-Net model, None for no training curves.
        compare: Folders of evaluations of other models.
        names: Names of all models, None for those of the folders.
        predictions: Folder of the predictions, None for the one that was evaluated.
        references: Folder of the references, likewise.
    """

    evaluation: Path
    images: Path | None = None
    channel: int = 0
    model: Path | None = None
    compare: Sequence[Path] = ()
    names: Sequence[str] | None = None
    predictions: Path | None = None
    references: Path | None = None

    @property
    def folders(self) -> list[Path]:
        """All folders that are read."""
        others = (self.images, self.model, self.predictions, self.references)
        named = [path for path in others if path is not None]
        return [self.evaluation, *named, *self.compare]


def write_report(
    sources: Sources,
    page: Path,
    *,
    title: str | None = None,
    lesions_per_case: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    description: str | None = None,
) -> Path:
    """Write a report and return the folder of its figures and tables.

    The folder has the name of the page, with ``_files`` for its ending.

    Args:
        sources: What it is made from.
        page: HTML file to write.
        title: Title of the page, None for a general one.
        lesions_per_case: Most lesions that are shown of a case; None is 6, and fewer
            where there are more than 100 cases.
        processes: Number of processes that draw pictures.
        overwrite: Whether an earlier report is replaced.
        description: Title of a progress bar, None for no bar.

    Raises:
        FileExistsError: If the report exists and ``overwrite`` is False.
        FileNotFoundError: If a folder or a file of the evaluation is missing.
        ValueError: If what is read is damaged or does not belong together; the
            message lists all files that are wrong.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"The report must be a file that ends in .html. Got {page} instead."
        )
    if page.exists() and not overwrite:
        raise FileExistsError(
            f"The report {page} exists and is not replaced without being told so. "
            "Choose another name, or replace it with --overwrite."
        )
    if lesions_per_case is not None and lesions_per_case < 0:
        raise ValueError(
            "The number of lesions per case must be at least 0. Got "
            f"{lesions_per_case} instead."
        )
    if sources.names and not sources.compare:
        raise ValueError(
            f"Names are for the models of a comparison. Got {len(sources.names)} and "
            "no other model: name their evaluations with --compare."
        )
    folder = page.with_name(f"{page.stem}_files")
    with new_folder(
        folder, what="report", mark=_MARK, inputs=sources.folders, overwrite=overwrite
    ) as files:
        results = read_results(sources.evaluation)
        limit = lesions_per_case
        if limit is None:
            limit = pictures_per_case(len(results.cases))
        parts = _write_figures_and_tables(sources, results, files)
        maps = find_maps(results, sources.predictions, sources.references)
        if maps is not None and limit:
            parts["pictures"] = draw_pictures(
                results,
                maps,
                choose_channel(sources.images, list(maps), sources.channel),
                files / "figures" / "lesions",
                per_case=limit,
                processes=processes,
                description=description,
            )
        html = render_page(
            results,
            title=title or "Predictions against references",
            files=folder.name,
            no_pictures=_MOVED if limit else _NOT_WANTED,
            has_images=sources.images is not None,
            **parts,
        )
        write_whole(page, html)
    return folder


def _write_figures_and_tables(
    sources: Sources, results: Results, files: Path
) -> dict[str, Any]:
    """Write all figures but the pictures, and all tables; return what the page shows.

    Args:
        sources: What the report is made from.
        results: The results of the evaluation.
        files: Empty folder to write to.

    Returns:
        ``charts``, ``training`` and ``comparison`` of
        :func:`~nnunet_cel.report.page.render_page`.
    """
    comparison = training = None
    if sources.compare:
        models = [sources.evaluation, *sources.compare]
        comparison = compare_evaluations(models, names=sources.names)
    if sources.model:
        training = read_training(sources.model)
    for name in ("tables", "figures", "figures/lesions"):
        (files / name).mkdir()
    for name, table in make_tables(results, comparison, training).items():
        write_table(files / "tables" / f"{name}.csv", table)
    charts, curves = draw_charts(results), draw_training(training)
    for chart in (*charts.values(), *curves):
        if chart is not None:
            write_whole(files / "figures" / f"{chart.name}.svg", chart.svg)
            write_whole(files / "figures" / f"{chart.name}.png", chart.png)
    return {"charts": charts, "training": curves, "comparison": comparison}


def make_tables(
    results: Results, comparison: Comparison | None, training: pd.DataFrame | None
) -> dict[str, pd.DataFrame]:
    """Return every table of the page, by the name of its file.

    Args:
        results: The results of the evaluation.
        comparison: Comparison with other models.
        training: What :func:`~nnunet_cel.report.training_log.read_training` returned.
    """
    summary = results.summary
    rows = {
        "paper": [
            {
                "metric": short,
                **{key: summary["metrics"][short][key] for key in ("mean", "sd", "n")},
                "table_6_mean": TABLE_6[short][0],
                "table_6_sd": TABLE_6[short][1],
            }
            for short in PAPER_METRICS
        ],
        "scans": [
            {"quantity": name, **summary["scans"][name]}
            for name in ("sensitivity", "specificity")
        ],
        "sizes": [
            {
                "size_bin": name,
                **row["sensitivity"],
                "predicted_hit": row["predicted_hit"],
                "predicted_false": row["predicted_false"],
            }
            for name, row in summary["sizes_mm3"].items()
        ],
        "protocol": [
            {"metric": name, **values}
            for name, values in summary["protocol"]["edge_cases"].items()
        ],
        "versions": [
            {"program": name, "version": version}
            for name, version in summary["versions"].items()
        ],
    }
    if summary["thresholds"]:
        rows["thresholds"] = [
            {"wanted": row["wanted"], **(row["found"] or {})}
            for row in summary["thresholds"]["for_lfdr"]
        ]
    tables = {
        "cases": results.cases.sort_values(["DSC", "case"], na_position="last"),
        "lesions": results.lesions,
        "summary": results.metrics,
        "froc": results.froc,
        "calibration": results.calibration,
        "models": None if comparison is None else comparison.models,
        "tests": None if comparison is None else comparison.tests,
        "training": training,
    } | {name: pd.DataFrame(entries) for name, entries in rows.items()}
    return {name: table for name, table in tables.items() if table is not None}
