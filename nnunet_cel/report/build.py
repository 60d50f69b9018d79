"""Writes a report: the page, and a folder with its figures and tables beside it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel.evaluation.comparison import Comparison, compare_evaluations
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import new_folder, write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.report.charts import draw_charts
from nnunet_cel.report.lesion_pictures import choose_channel, draw_pictures
from nnunet_cel.report.page import render_page
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.results import read_results
from nnunet_cel.report.training_log import draw_training, read_training

__all__ = ["write_report"]

_MARK = "tables/cases.csv"  # by which an earlier report is known
_PER_CASE, _LEAST = 6, 2
_IN_ALL = 600  # pictures, so that the page can be sent by mail
_COPIED = ("lesions", "summary", "froc", "calibration")


def write_report(
    evaluation: Path,
    page: Path,
    *,
    images: Path | None = None,
    channel: int = 0,
    model: Path | None = None,
    compare: Sequence[Path] = (),
    names: Sequence[str] | None = None,
    title: str | None = None,
    lesions_per_case: int | None = None,
    predictions: Path | None = None,
    references: Path | None = None,
    overwrite: bool = False,
    each: Any = try_cases,
) -> Path:
    """Write a report and return the folder of its figures and tables.

    The folder has the name of the page, with ``_files`` for its ending.

    Args:
        evaluation: Folder that `nnunet-cel evaluate` wrote.
        page: HTML file to write.
        images: Folder of the images, None for pictures on black.
        channel: Which channel of the images is shown.
        model: Folder of the nnU-Net model, None for no training curves.
        compare: Folders of evaluations of other models.
        names: Names of all models, None for those of the folders.
        title: Title of the page, None for a general one.
        lesions_per_case: Most lesions that are shown of a case; None is 6, and fewer
            where there are more than 100 cases.
        predictions: Folder of the predictions, None for the one that was evaluated.
        references: Folder of the references, likewise.
        overwrite: Whether an earlier report is replaced.
        each: What applies a function to all cases.

    Raises:
        FileExistsError: If the report exists and ``overwrite`` is False.
        FileNotFoundError: If a folder or a file of the evaluation is missing.
        ValueError: If what is read is damaged or does not belong together.
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
    if names and not compare:
        raise ValueError(
            f"Names are for the models of a comparison. Got {len(names)} and no other "
            "model: name their evaluations with --compare."
        )
    folder = page.with_name(f"{page.stem}_files")
    inputs = [evaluation, images, model, predictions, references, *compare]
    with new_folder(
        folder,
        what="report",
        mark=_MARK,
        inputs=[path for path in inputs if path is not None],
        overwrite=overwrite,
    ) as files:
        results = read_results(evaluation, predictions, references)
        comparison = None
        if compare:
            comparison = compare_evaluations([evaluation, *compare], names=names)
        training = None if model is None else read_training(model)
        charts = draw_charts(results)
        if training is not None:
            charts.append(draw_training(training))
        for name in ("tables", "figures", "figures/lesions"):
            (files / name).mkdir()
        for path in (evaluation / f"{name}.csv" for name in _COPIED):
            if path.is_file():
                shutil.copyfile(path, files / "tables" / path.name)
        cases = results.cases.sort_values(["DSC", "case"], na_position="last")
        tables = make_tables(results.summary, comparison, training)
        for name, table in {"cases": cases, **tables}.items():
            write_table(files / "tables" / f"{name}.csv", table)
        for chart in charts:
            chart.save(files / "figures")
        limit = lesions_per_case
        if limit is None:
            limit = min(_PER_CASE, max(_LEAST, _IN_ALL // len(cases)))
        pictures = None
        if results.maps is not None and limit > 0:
            pictures = draw_pictures(
                results.lesions,
                results.maps,
                choose_channel(images, list(results.maps), channel),
                files / "figures" / "lesions",
                per_case=limit,
                each=each,
            )
        html = render_page(
            title=title or "Predictions against references",
            cases=cases,
            summary=results.summary,
            charts=charts,
            comparison=comparison,
            pictures=pictures,
            wanted=limit > 0,
            has_images=images is not None,
            files=folder.name,
        )
        write_whole(page, html)
    return folder


def make_tables(
    summary: dict[str, Any],
    comparison: Comparison | None,
    training: pd.DataFrame | None,
) -> dict[str, pd.DataFrame]:
    """Return the tables of the page that are none of the evaluation, by their name.

    Args:
        summary: Content of ``summary.json``.
        comparison: Comparison with other models.
        training: What :func:`~nnunet_cel.report.training_log.read_training` returned.
    """
    metrics, scans = summary["metrics"], summary["scans"]
    rows = {
        "paper": [
            {
                "metric": short,
                **{key: metrics[short][key] for key in ("mean", "sd", "n")},
                "table_6_mean": TABLE_6[short][0],
                "table_6_sd": TABLE_6[short][1],
            }
            for short in PAPER_METRICS
        ],
        "scans": [
            {"quantity": name, **scans[name]} for name in ("sensitivity", "specificity")
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
    tables = {name: pd.DataFrame(entries) for name, entries in rows.items()}
    if comparison is not None:
        tables |= {"models": comparison.models, "tests": comparison.tests}
    return tables if training is None else tables | {"training": training}
