"""Makes the page from templates.

Templates escape whatever they are given: names of cases, files and models come from
outside and may hold anything.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from nnunet_cel.evaluation.comparison import Comparison
from nnunet_cel.pictures import AGREEMENT_COLORS, AGREEMENT_NAMES
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6, TABLE_6_NOTE
from nnunet_cel.report.style import Chart, formatter

__all__ = ["describe_protocol", "environment", "render_page"]

_OPEN = 30  # pictures up to which all cases are shown unfolded
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
    *,
    title: str,
    cases: pd.DataFrame,
    summary: Mapping[str, Any],
    charts: Sequence[Chart],
    comparison: Comparison | None,
    pictures: Mapping[str, Any] | None,
    wanted: bool,
    has_images: bool,
    files: str,
) -> str:
    """Return the HTML of the page, which needs no other file.

    Args:
        title: Title of the page.
        cases: One row for each case, in the order of the page.
        summary: Content of ``summary.json``.
        charts: All charts.
        comparison: Comparison with other models.
        pictures: Pictures of each case, None if there are none.
        wanted: Whether pictures were wanted.
        has_images: Whether the pictures show images.
        files: Name of the folder with figures and tables.
    """
    templates = environment()
    script = templates.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = sum(len(case["lesions"]) for case in (pictures or {}).values())
    return templates.get_template("report.html").render(
        title=title,
        css=Markup(templates.get_template("report.css").render()),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        cases=cases.astype(object).where(cases.notna(), None).to_dict("records"),
        totals=cases.select_dtypes("number").sum().to_dict(),
        summary=summary,
        charts={chart.name: chart for chart in charts},
        comparison=comparison,
        models=list(comparison.summary["models"]) if comparison else [],
        pictures=pictures,
        wanted=wanted,
        has_images=has_images,
        all_open=shown <= _OPEN,
        kinds=AGREEMENT_NAMES,
        colors=AGREEMENT_COLORS,
        paper_metrics=PAPER_METRICS,
        paper=TABLE_6,
        paper_note=TABLE_6_NOTE,
        protocol_words=describe_protocol(summary),
        made_by=importlib.metadata.version("nnunet-cel"),
        files=files,
    )


def describe_protocol(summary: Mapping[str, Any]) -> list[str]:
    """Return what was counted, and how, in sentences.

    Args:
        summary: Content of ``summary.json``.
    """
    protocol, ignored = summary["protocol"], []
    if summary["ignore_label"] is not None:
        ignored = [
            f"Voxels that have the value {summary['ignore_label']} in the reference "
            "are left out of everything."
        ]
    return [
        f"Protocol {protocol['name']}, version {protocol['version']}: "
        f"{protocol['description']}",
        f"Voxels with the value {summary['label']} are lesion. A lesion is a group of "
        f"such voxels that {_NEIGHBORS[protocol['connectivity']]}.",
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
    percent = {
        name: f"{100 * overlap[name]:g} %"
        for name in ("fraction", "alpha", "beta", "gamma")
        if name in overlap
    }
    if overlap["rule"] == "any":
        return "it shares at least one voxel with a lesion of the other map"
    if overlap["rule"] == "fraction":
        return f"lesions of the other map cover at least {percent['fraction']} of it"
    return (
        f"lesions of the other map cover more than {percent['alpha']} of it, and those "
        f"that make up {percent['gamma']} of the overlap, the largest first, have at "
        f"most {percent['beta']} of their own volume outside"
    )
