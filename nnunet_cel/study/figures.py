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
from nnunet_cel.files import new_folder
from nnunet_cel.pictures import save_overlays
from nnunet_cel.report.charts import ACCENT, INK, SECOND, chart_style, new_axes, render
from nnunet_cel.report.training_log import draw_training, read_training
from nnunet_cel.scans import find_label_maps
from nnunet_cel.study.models import (
    FOLD,
    cel_datasets,
    figure_methods,
    model_folder,
    wmh_dataset,
)
from nnunet_cel.study.study import Study
from nnunet_cel.study.tables import chosen_names, read_cases, summarize

__all__ = ["write_figures"]

_SWEPT = {"DSC": (ACCENT, "o-"), "PPV": (SECOND, "s--"), "TPR": (INK, "^:")}


def write_figures(
    study: Study,
    home: Path,
    *,
    only: Collection[str] | None = None,
    partial: bool = False,
) -> list[Path]:
    """Draw figures into the folder of a study and return their folders.

    The arguments and errors are those of :func:`nnunet_cel.study.tables.write_tables`;
    a figure that fails leaves no folder behind.
    """
    draw = {7: _draw_overlays, 8: _draw_trainings, 9: _draw_sweep}
    written = []
    known = [f"figure{number}" for number in study.figures]
    for name in chosen_names(only, known, "figure"):
        place = home / "figures" / name
        with new_folder(place, what="figure", overwrite=True) as folder:
            draw[int(name[-1])](study, home, folder, partial)
        written.append(place)
    return written


def _draw_overlays(study: Study, home: Path, folder: Path, partial: bool) -> None:
    """Draw every scan of the test half with the predictions of all networks."""
    datasets = cel_datasets(study)
    for dataset in datasets:
        found = {}
        for method in figure_methods(study, 7):
            place = home / "predictions" / method.stage / dataset / method.configuration
            if place.is_dir() or not partial:
                found[method.title] = find_label_maps(place)
        raw = home / "raw" / dataset
        images = find_label_maps(raw / "imagesTs")
        place = folder / dataset if len(datasets) > 1 else folder
        place.mkdir(exist_ok=True)
        for case, reference in find_label_maps(raw / "labelsTs").items():
            save_overlays(
                place / f"{case}.png",
                image=images[f"{case}_0000"],
                reference=reference,
                predictions={title: maps[case] for title, maps in found.items()},
            )


def _draw_trainings(study: Study, home: Path, folder: Path, partial: bool) -> None:
    """Draw the curves of the pretraining and of the fine-tuning of FCA-DenseNet."""
    (method,) = figure_methods(study, 8)
    for stage, dataset, fold in (
        ("pretrained", wmh_dataset(study), None),
        ("finetuned", cel_datasets(study)[0], FOLD),
    ):
        model = model_folder(study, stage, dataset, method.configuration, fold)
        try:
            epochs = read_training(home / model)
        except (FileNotFoundError, ValueError):
            if not partial:
                raise
            continue
        write_table(folder / f"{stage}.csv", epochs)
        draw_training(epochs).save(folder, f"{stage}_")


def _draw_sweep(study: Study, home: Path, folder: Path, partial: bool) -> None:
    """Draw means of metrics over the lesion weight of the focal loss."""
    cases = read_cases(study, home, figure_methods(study, 9), partial=partial)
    table = pd.DataFrame(
        {
            "lesion_weight": float(weight),
            "configuration": own["configuration"].iloc[0],
            "metric": metric,
            **summarize(own, metric),
            "evaluations": "; ".join(own["evaluation"].unique()),
        }
        for weight, own in cases.groupby("method", sort=False)
        for metric in _SWEPT
    )
    if not len(table):
        return
    write_table(folder / "sweep.csv", table)
    with chart_style():
        axes = new_axes()
        for number, (metric, (color, line)) in enumerate(_SWEPT.items()):
            rows = table[table["metric"] == metric]
            # side by side, so that no interval hides another one
            x = rows["lesion_weight"] + 0.008 * (number - 1)
            axes.plot(x, rows["mean"], line, color=color, ms=5, label=metric)
            axes.vlines(x, rows["ci_low"], rows["ci_high"], color=color, lw=1)
        weights = table["lesion_weight"].unique()
        axes.set_xticks(weights, [f"{weight:g}" for weight in weights])
        axes.set(
            xlabel="lesion weight of the focal loss", ylabel="mean", ylim=(-0.02, 1.02)
        )
        axes.legend(loc="best")
        render(axes, "sweep").save(folder)
