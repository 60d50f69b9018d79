"""Draws Figures 7 to 9 of the paper for a study.

Figure 7 shows the predictions of fine-tuned models over the scans, in the paper's
colors. Figure 8 shows the trainings of FCA-DenseNet with focal loss. Figure 9 shows
what the lesion weight of that loss does in fine-tuning. Each figure is a folder, and
holds the numbers it was drawn from.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import new_folder, write_whole
from nnunet_cel.report.style import (
    COLORS,
    Chart,
    chart_style,
    new_figure,
    render,
)
from nnunet_cel.report.training_log import draw_training, read_training
from nnunet_cel.scans import find_label_maps
from nnunet_cel.study.measured import read_measured, summarize
from nnunet_cel.study.models import (
    FOLD,
    cel_datasets,
    figure_methods,
    fold_folder,
    model_folder,
    sweep,
    wmh_dataset,
)
from nnunet_cel.study.study import Study
from nnunet_cel.study.tables import chosen_names

__all__ = ["draw_sweep", "write_figures"]

_SWEPT = {"DSC": ("accent", "o-"), "PPV": ("second", "s--"), "TPR": ("ink", "^:")}


def write_figures(
    study: Study,
    home: Path,
    *,
    only: Collection[str] | None = None,
    partial: bool = False,
) -> list[Path]:
    """Draw figures into the folder of a study and return their folders.

    Args:
        study: The study.
        home: Its folder.
        only: Names of figures, such as ``figure7``; None for all of the study.
        partial: Whether models that are missing are left out.

    Raises:
        FileNotFoundError: If a model is missing and `partial` is False.
        ValueError: If a name is unknown, or what is read is damaged.
    """
    draw = {
        "figure7": _draw_overlays,
        "figure8": _draw_trainings,
        "figure9": _draw_sweep_of_study,
    }
    written = []
    known = [f"figure{number}" for number in study.figures]
    for name in chosen_names(only, known, "figure"):
        place = home / "figures" / name
        with new_folder(place, what="figure", overwrite=True) as folder:
            draw[name](study, home, folder, partial)
        written.append(place)
    return written


def _draw_overlays(study: Study, home: Path, folder: Path, partial: bool) -> None:
    """Draw every scan of the test half with the predictions of all networks."""
    from nnunet_cel.pictures import load_volume, save_overlays

    datasets = cel_datasets(study)
    for dataset in datasets:
        raw = home / "raw" / dataset
        images = find_label_maps(raw / "imagesTs")
        found = {
            method.title: find_label_maps(
                home / "predictions" / method.stage / dataset / method.configuration
            )
            for method in figure_methods(study, 7)
            if not partial
            or (
                home / "predictions" / method.stage / dataset / method.configuration
            ).is_dir()
        }
        place = folder / dataset if len(datasets) > 1 else folder
        place.mkdir(exist_ok=True)
        for case, reference in find_label_maps(raw / "labelsTs").items():
            voxels = {title: load_volume(maps[case]) for title, maps in found.items()}
            save_overlays(
                place / f"{case}.png",
                image=load_volume(images[f"{case}_0000"]),
                reference=load_volume(reference),
                predictions=voxels,
            )


def _draw_trainings(study: Study, home: Path, folder: Path, partial: bool) -> None:
    """Draw the curves of the pretraining and of the fine-tuning of FCA-DenseNet."""
    (method,) = figure_methods(study, 8)
    name, dataset = method.configuration, cel_datasets(study)[0]
    logs = {
        "pretrained": home
        / model_folder(study, "pretrained", wmh_dataset(study), name),
        "finetuned": home / fold_folder(study, "finetuned", dataset, name, FOLD),
    }
    for stage, model in logs.items():
        try:
            epochs = read_training(model)
        except (FileNotFoundError, ValueError):
            if not partial:
                raise
            continue
        write_table(folder / f"{stage}.csv", epochs)
        for chart in draw_training(epochs):
            _save(chart, folder, stage)


def _draw_sweep_of_study(study: Study, home: Path, folder: Path, partial: bool) -> None:
    """Draw the metrics of the models that differ in the lesion weight."""
    rows = []
    for weight, method in sweep():
        measured = read_measured(study, home, method, partial=partial)
        if measured.groups:
            rows += [
                {
                    "lesion_weight": weight,
                    "configuration": method.configuration,
                    "metric": metric,
                    **summarize(measured, metric),
                    "evaluations": "; ".join(measured.folders.values()),
                }
                for metric in _SWEPT
            ]
    table = pd.DataFrame(rows)
    if len(table):
        write_table(folder / "sweep.csv", table)
        _save(draw_sweep(table), folder)


def draw_sweep(table: pd.DataFrame) -> Chart:
    """Draw means of metrics over the lesion weight of the focal loss.

    Args:
        table: One row for each weight and metric, with columns ``lesion_weight``,
            ``metric``, ``mean``, ``ci_low`` and ``ci_high``.
    """
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        for number, (metric, (color, line)) in enumerate(_SWEPT.items()):
            rows = table[table["metric"] == metric].sort_values("lesion_weight")
            # side by side, so that no interval hides another one
            x = rows["lesion_weight"] + 0.008 * (number - 1)
            axes.plot(x, rows["mean"], line, color=COLORS[color][0], ms=5, label=metric)
            axes.vlines(
                x, rows["ci_low"], rows["ci_high"], color=COLORS[color][0], lw=1
            )
        weights = sorted(table["lesion_weight"].unique())
        axes.set_xticks(weights, [f"{weight:g}" for weight in weights])
        axes.set(
            xlabel="lesion weight of the focal loss", ylabel="mean", ylim=(-0.02, 1.02)
        )
        axes.legend(loc="best")
        dice = table[table["metric"] == "DSC"]
        return Chart(
            name="sweep",
            title="Lesion weight of the focal loss in fine-tuning",
            alt="Mean DSC at each lesion weight: "
            + "; ".join(
                f"{weight:g}: {mean:.3f}"
                for weight, mean in zip(
                    dice["lesion_weight"], dice["mean"], strict=True
                )
            ),
            caption="Means over the CEL test half with 95 % bootstrap intervals. A "
            "larger weight lets lesions count more; the alpha of the paper's Figure 9 "
            "is 1 minus the weight.",
            **render(figure),
        )


def _save(chart: Chart, folder: Path, *prefix: str) -> None:
    """Write a chart as SVG and PNG file."""
    name = "_".join([*prefix, chart.name])
    write_whole(folder / f"{name}.svg", chart.svg)
    write_whole(folder / f"{name}.png", chart.png)
