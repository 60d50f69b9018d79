"""Writes a report: the page, and a folder with its figures and tables beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nnunet_cel.evaluation.comparison import compare_evaluations
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import (
    check_replaceable,
    file_beforehand,
    new_folder,
    settle_file,
    settle_folder,
    write_whole,
)
from nnunet_cel.report.case_pictures import (
    CasePictures,
    choose_channel,
    draw_all_pictures,
    pictures_per_case,
)
from nnunet_cel.report.charts import draw_metrics, draw_sizes
from nnunet_cel.report.curves import draw_calibration, draw_froc, draw_training
from nnunet_cel.report.page import render_page
from nnunet_cel.report.results import Results, find_maps, read_results
from nnunet_cel.report.style import Chart
from nnunet_cel.report.tables import make_tables
from nnunet_cel.report.training_log import read_training
from nnunet_cel.report.volume_charts import draw_bland_altman, draw_volumes

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
    folder = page.with_name(f"{page.stem}_files")
    settle_folder(folder)
    settle_file(page, of=folder)
    if page.exists() and not overwrite:
        raise FileExistsError(
            f"The report {page} exists and is not replaced without being told so. "
            "Choose another name, or replace it with --overwrite."
        )
    check_replaceable(
        folder, what="report", mark=_MARK, inputs=sources.folders, overwrite=overwrite
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
    results = read_results(sources.evaluation)
    comparison = None
    if sources.compare:
        comparison = compare_evaluations(
            [sources.evaluation, *sources.compare], names=sources.names
        )
    training = read_training(sources.model) if sources.model else None
    maps = find_maps(results, sources.predictions, sources.references)
    images = {}
    if sources.images is not None:
        names = results.cases["case"].tolist()
        images = choose_channel(sources.images, names, sources.channel)
    limit = lesions_per_case
    if limit is None:
        limit = pictures_per_case(len(results.cases))
    with (
        ExitStack() as beforehand,
        new_folder(
            folder,
            what="report",
            mark=_MARK,
            inputs=sources.folders,
            overwrite=overwrite,
        ) as files,
    ):
        for name in ("tables", "figures", "figures/lesions"):
            (files / name).mkdir()
        tables = make_tables(results, comparison=comparison, training=training)
        for name, table in tables.items():
            write_table(files / "tables" / f"{name}.csv", table)
        charts, curves = _draw_charts(results), draw_training(training)
        _write_charts(files / "figures", [*charts.values(), *curves])
        pictures: dict[str, CasePictures] | None = None
        if maps is not None and limit:
            pictures = draw_all_pictures(
                results,
                maps,
                images,
                files / "figures" / "lesions",
                per_case=limit,
                processes=processes,
                description=description,
            )
        html = render_page(
            results,
            title=title or "Predictions against references",
            files=folder.name,
            charts=charts,
            training=curves,
            comparison=comparison,
            pictures=pictures,
            no_pictures=_MOVED if limit else _NOT_WANTED,
            has_images=sources.images is not None,
        )
        beforehand.enter_context(file_beforehand(page, html))
    return folder


def _draw_charts(results: Results) -> dict[str, Chart | None]:
    """Return the charts of an evaluation by their name."""
    return {
        "metrics": draw_metrics(results.cases, results.summary["metrics"]),
        "volumes": draw_volumes(results.cases),
        "bland_altman": draw_bland_altman(results.cases),
        "sizes": draw_sizes(results.summary["sizes_mm3"]),
        "froc": draw_froc(results.froc),
        "calibration": draw_calibration(results.calibration),
    }


def _write_charts(folder: Path, charts: Iterable[Chart | None]) -> None:
    """Write the files of charts, where there are any."""
    for chart in charts:
        if chart is not None:
            write_whole(folder / f"{chart.name}.svg", chart.svg)
            write_whole(folder / f"{chart.name}.png", chart.png)
