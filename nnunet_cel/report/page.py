"""Makes the page from templates.

Templates escape whatever they are given: names of cases, files and models come from
outside and may hold anything.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from nnunet_cel.evaluation.comparison import Comparison
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.pictures import AGREEMENT_NAMES
from nnunet_cel.report.lesion_pictures import CasePictures, draw_legend
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6, TABLE_6_NOTE
from nnunet_cel.report.results import Results
from nnunet_cel.report.style import COLORS, Chart, formatter, inline_svg

__all__ = ["describe_protocol", "environment", "render_page"]

_OPEN = 30  # pictures up to which all cases are shown unfolded
_OPEN_CASES = 3  # that are shown unfolded where there are more pictures
_NEIGHBORS = {
    6: "share a face",
    18: "share a face or an edge",
    26: "share a face, an edge or a corner",
}


def environment() -> jinja2.Environment:
    """Return the environment of the templates, with how they write numbers."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("nnunet_cel.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(
        two=formatter(".2f"),
        three=formatter(".3f"),
        signed=formatter("+.3f"),
        short=formatter("g"),
        probability=lambda value: (
            "< 0.001"
            if value is not None and value < 0.0005  # it is never 0
            else formatter(".3f")(value)
        ),
    )
    return templates


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
    note = TABLE_6_NOTE
    if summary["protocol"]["name"] != "paper":
        note += " It was also counted by another protocol."
    return templates.get_template("report.html").render(
        title=title,
        lede=_lede(results),
        sections=[(id, name) for id, name in sections.items() if name],
        css=Markup(templates.get_template("report.css").render(colors=COLORS)),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        kinds=AGREEMENT_NAMES,
        legend=draw_legend(),
        cards=[_card(short, summary["metrics"][short]) for short in PAPER_METRICS],
        metrics=[
            {"short": short, "paper": TABLE_6.get(short), **summary["metrics"][short]}
            for short in METRICS
        ],
        paper_note=note,
        scans=summary["scans"],
        models=_models(comparison),
        case_metrics=PAPER_METRICS,
        cases=_cases(results, pictures or {}),
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


def _lede(results: Results) -> str:
    """Return the evaluation in two sentences."""
    cases = results.cases
    n, lesions = len(cases), int(cases["reference_lesions"].sum())
    found = int(cases["reference_hit"].sum())
    predicted = int(cases["predicted_lesions"].sum())
    false = int(cases["predicted_false"].sum())

    def count(number: int, name: str) -> str:
        return f"{number} {name}" if number == 1 else f"{number} {name}s"

    first = f"The references of {count(n, 'scan')} hold no lesion that counts."
    if lesions:
        first = f"Found: {found} of {count(lesions, 'lesion')} in {count(n, 'scan')}."
    if not predicted:
        return f"{first} The predictions hold no lesion that counts."
    return (
        f"{first} False: {false} of {count(predicted, 'predicted lesion')}, "
        f"{false / n:.2f} per scan."
    )


def _card(short: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card of a metric shows; its strip is in percent of 0 to 1."""
    low, high, mean = (
        100 * min(max(values[name] or 0.0, 0.0), 1.0)
        for name in ("ci_low", "ci_high", "mean")
    )
    strip = [f"{value:.2f}" for value in (low, high - low, min(mean, 98.8))]
    return {"short": short, "strip": strip, **values}


def _models(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return the comparison as rows."""
    if comparison is None:
        return None

    def name(short: str) -> str:
        unit = METRICS[short].unit
        return f"{short} ({unit})" if unit else short

    return {
        "n": comparison.summary["n"],
        "names": list(comparison.summary["models"]),
        "rows": [
            {"metric": name(metric), "cells": rows.to_dict("records")}
            for metric, rows in comparison.models.groupby("metric", sort=False)
        ],
        "tests": [
            {**row, "metric": name(row["metric"])}
            for row in comparison.tests.to_dict("records")
        ],
    }


def _cases(
    results: Results, pictures: Mapping[str, CasePictures]
) -> list[dict[str, Any]]:
    """Return what the table and the pictures show of each case, lowest DSC first."""
    ordered = results.cases.sort_values(["DSC", "case"], na_position="last")
    shown = sum(len(case.lesions) for case in pictures.values())
    entries = []
    for number, row in enumerate(ordered.to_dict("records"), start=1):
        own = pictures.get(row["case"], CasePictures())
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


def describe_protocol(summary: Mapping[str, Any]) -> list[str]:
    """Return what was counted, and how, in sentences.

    Args:
        summary: Content of ``summary.json``.
    """
    protocol, ignored = summary["protocol"], []
    connectivity = protocol["connectivity"]
    neighbors = _NEIGHBORS.get(connectivity, f"are {connectivity}-connected")
    if summary["ignore_label"] is not None:
        ignored = [
            f"Voxels that have the value {summary['ignore_label']} in the reference "
            "are left out of everything."
        ]
    return [
        f"Protocol {protocol['name']}, version {protocol['version']}: "
        f"{protocol['description']}",
        f"Voxels with the value {summary['label']} are lesion. A lesion is a group of "
        f"such voxels that {neighbors}.",
        *ignored,
        _describe_small(protocol),
        f"A lesion is a hit if {_describe_overlap(protocol['overlap'])}. Reference "
        "lesions are hit or missed, predicted ones hit or false; both sides are "
        "judged on their own.",
        "Each metric is computed in every case first. Means are over cases; voxels are "
        "never pooled. Cases in which a metric has no value are left out of it.",
        f"Intervals of means are 95 % percentile bootstrap intervals over cases "
        f"({summary['bootstrap']['resamples']} samples), those of shares 95 % Wilson "
        "intervals.",
    ]


def _describe_small(protocol: Mapping[str, Any]) -> str:
    """Return what becomes of small lesions."""
    limits = []
    if protocol["min_voxels"] > 1:
        limits.append(f"fewer than {protocol['min_voxels']} voxels")
    if protocol["above_mm3"] > 0:
        limits.append(f"at most {protocol['above_mm3']:g} mm\u00b3")
    if not limits:
        return "No lesion is too small to count."
    ignored = protocol["on_dropped_reference"] == "ignored"
    return (
        f"Lesions with {' or '.join(limits)} do not count, in reference and prediction "
        "alike. This concerns numbers of lesions only: DSC, PPV, TPR and VD see all "
        "voxels. A predicted lesion on nothing but such a reference lesion is "
        f"{'neither hit nor false' if ignored else 'false'}."
    )


def _describe_overlap(overlap: Mapping[str, Any]) -> str:
    """Return when a lesion is a hit."""
    if overlap["rule"] == "any":
        return "it shares at least one voxel with a lesion of the other map"
    if overlap["rule"] == "fraction":
        return (
            f"lesions of the other map cover at least {100 * overlap['fraction']:g} % "
            "of it"
        )
    return (
        f"lesions of the other map cover more than {100 * overlap['alpha']:g} % of it, "
        f"and those that make up {100 * overlap['gamma']:g} % of the overlap, the "
        f"largest first, have at most {100 * overlap['beta']:g} % of their own volume "
        "outside"
    )
