"""Makes the page from templates, which escape every text they are given."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nnunet_cel.evaluation.comparison import Comparison
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.report.agreement import KINDS
from nnunet_cel.report.case_pictures import CasePictures
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6, TABLE_6_NOTE
from nnunet_cel.report.protocol_words import describe_protocol
from nnunet_cel.report.rendering import environment
from nnunet_cel.report.results import Results
from nnunet_cel.report.style import (
    AGREEMENT_OPACITY,
    COLORS,
    Chart,
    inline_svg,
)

__all__ = ["render_page"]

_OPEN = 30  # pictures up to which all cases are shown unfolded
_OPEN_CASES = 3  # that are shown unfolded where there are more pictures


def render_page(
    results: Results,
    *,
    title: str,
    files: str,
    charts: Mapping[str, Chart | None],
    training: Sequence[Chart] = (),
    comparison: Comparison | None = None,
    pictures: Mapping[str, CasePictures] | None = None,
    no_pictures: str = "",
    has_images: bool = False,
) -> str:
    """Return the HTML of the page, which needs no other file.

    Args:
        results: The results of the evaluation.
        title: Title of the page.
        files: Name of the folder with figures and tables.
        charts: Charts by their name, None where there is nothing to draw.
        training: Charts of the training.
        comparison: Comparison with other models.
        pictures: Pictures of each case, None if there are none.
        no_pictures: Why there are none, said in that case only.
        has_images: Whether the pictures show images.
    """
    templates = environment()
    script = templates.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    summary = results.summary
    shown = sum(len(case.lesions) for case in (pictures or {}).values())
    sections = {
        "summary": "Summary",
        "models": "Models" if comparison else "",
        "cases": "Cases",
        "volumes": "Volumes and sizes",
        "thresholds": "Thresholds" if summary["thresholds"] else "",
        "training": "Training" if training else "",
        "lesions": "Lesions" if pictures else "",
        "method": "How this was counted",
    }
    return templates.get_template("report.html").render(
        title=title,
        lede=_lede(results),
        sections=[(id, name) for id, name in sections.items() if name],
        css=Markup(templates.get_template("report.css").render(colors=COLORS)),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        agreement_colors=AGREEMENT_COLORS,
        agreement_opacity=AGREEMENT_OPACITY,
        kinds=KINDS,
        cards=[_card(short, summary["metrics"][short]) for short in PAPER_METRICS],
        metrics=[
            {"short": short, "paper": TABLE_6.get(short), **summary["metrics"][short]}
            for short in METRICS
        ],
        paper_note=_paper_note(summary),
        scans=summary["scans"],
        models=_models(comparison),
        case_metrics=PAPER_METRICS,
        cases=_cases(results, pictures, shown),
        charts={name: _inline(chart) for name, chart in charts.items()},
        sizes=[{"name": name, **row} for name, row in summary["sizes_mm3"].items()],
        thresholds=summary["thresholds"],
        training=[_inline(chart) for chart in training],
        pictures=pictures is not None,
        no_pictures=no_pictures if pictures is None else "",
        has_images=has_images,
        protocol_words=describe_protocol(summary),
        edge_cases=summary["protocol"]["edge_cases"],
        versions=summary["versions"],
        made_by=importlib.metadata.version("nnunet-cel"),
        files=files,
    )


def _sort_cases(results: Results) -> list[dict[str, Any]]:
    """Return the rows of ``cases.csv``, lowest DSC first, those without one last."""
    ordered = results.cases.sort_values(["DSC", "case"], na_position="last")
    rows: list[dict[str, Any]] = ordered.to_dict("records")
    return rows


def _lede(results: Results) -> str:
    """Return the evaluation in two sentences."""
    cases = results.cases
    n, lesions = len(cases), int(cases["reference_lesions"].sum())
    found = int(cases["reference_hit"].sum())
    predicted = int(cases["predicted_lesions"].sum())
    false = int(cases["predicted_false"].sum())
    scans = _count(n, "scan")
    first = f"The references of {scans} hold no lesion that counts."
    if lesions:
        first = f"Found: {found} of {_count(lesions, 'lesion')} in {scans}."
    if not predicted:
        return f"{first} The predictions hold no lesion that counts."
    return (
        f"{first} False: {false} of {_count(predicted, 'predicted lesion')}, "
        f"{false / n:.2f} per scan."
    )


def _count(number: int, name: str) -> str:
    """Return a number with its noun."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _card(short: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card of a metric shows; its strip is in percent of 0 to 1."""
    low, high, mean = (
        100 * min(max(values[name] or 0.0, 0.0), 1.0)
        for name in ("ci_low", "ci_high", "mean")
    )
    strip = [f"{value:.2f}" for value in (low, high - low, min(mean, 98.8))]
    return {"short": short, "strip": strip, **values}


def _paper_note(summary: Mapping[str, Any]) -> str:
    """Return what to say of the comparison with the paper."""
    if summary["protocol"]["name"] == "paper":
        return TABLE_6_NOTE
    return f"{TABLE_6_NOTE} It was also counted by another protocol."


def _models(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return the comparison as rows."""
    if comparison is None:
        return None
    return {
        "n": comparison.summary["n"],
        "names": list(comparison.summary["models"]),
        "rows": [
            {"metric": _with_unit(metric), "cells": rows.to_dict("records")}
            for metric, rows in comparison.models.groupby("metric", sort=False)
        ],
        "tests": [
            {**row, "metric": _with_unit(row["metric"])}
            for row in comparison.tests.to_dict("records")
        ],
    }


def _with_unit(short: str) -> str:
    """Return the name of a metric with its unit, if it has one."""
    unit = METRICS[short].unit
    return f"{short} ({unit})" if unit else short


def _cases(
    results: Results, pictures: Mapping[str, CasePictures] | None, shown: int
) -> list[dict[str, Any]]:
    """Return what the table and the pictures of each case show."""
    entries = []
    for number, row in enumerate(_sort_cases(results), start=1):
        own = (pictures or {}).get(row["case"], CasePictures(()))
        entries.append(
            {
                "number": number,
                "name": row["case"],
                "metrics": {
                    name: None if math.isnan(row[name]) else row[name]
                    for name in PAPER_METRICS
                },
                "reference_ml": row["reference_ml"],
                "predicted_ml": row["predicted_ml"],
                "found": row["reference_hit"],
                "lesions": row["reference_lesions"],
                "false": row["predicted_false"],
                "open": shown <= _OPEN or number <= _OPEN_CASES,
                "pictures": own.lesions,
                "more": own.more,
            }
        )
    return entries


def _inline(chart: Chart | None) -> dict[str, Any] | None:
    """Return what the page shows of a chart."""
    if chart is None:
        return None
    return {
        "title": chart.title,
        "alt": chart.alt,
        "caption": chart.caption,
        "inline": Markup(inline_svg(chart.name, chart.svg)),
    }
