"""Makes the page from templates.

Templates escape whatever they are given: names of cases, files and models come from
outside and may hold anything.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import jinja2
import pandas as pd

from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.report.charts import formatter
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6

__all__ = ["describe_protocol", "environment", "render_page"]

_OPEN = 30  # pictures up to which all cases are shown unfolded
_NEIGHBORS = {
    6: "share a face",
    18: "share a face or an edge",
    26: "share a face, an edge or a corner",
}
_HITS = {
    "any": "it shares at least one voxel with a lesion of the other map",
    "fraction": "lesions of the other map cover at least {fraction:g} of it",
    "anima": "lesions of the other map cover more than {alpha:g} of it, and those that "
    "make up {gamma:g} of the overlap, the largest first, have at most {beta:g} of "
    "their own volume outside",
}


def _digest(script: str) -> str:
    """Return the hash by which a page's policy knows its script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


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
        digest=_digest,
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


def render_page(summary: Mapping[str, Any], cases: pd.DataFrame, **content: Any) -> str:
    """Return the HTML of the page, which needs no other file.

    Args:
        summary: Content of ``summary.json``.
        cases: One row for each case, in the order of the page.
        content: What else the template names: ``title``, ``charts`` by their name,
            ``comparison`` or None, ``pictures`` of each case or None, whether they were
            ``wanted``, ``has_images``, and the name of the folder with ``files``.
    """
    templates = environment()
    pictures = content["pictures"] or {}
    return templates.get_template("report.html").render(
        content,
        cases=cases.astype(object).where(cases.notna(), None).to_dict("records"),
        totals=cases.select_dtypes("number").sum().to_dict(),
        summary=summary,
        all_open=sum(len(case["lesions"]) for case in pictures.values()) <= _OPEN,
        colors=AGREEMENT_COLORS,
        paper_metrics=PAPER_METRICS,
        paper=TABLE_6,
        protocol_words=describe_protocol(summary),
        made_by=importlib.metadata.version("nnunet-cel"),
    )


def describe_protocol(summary: Mapping[str, Any]) -> list[str]:
    """Return which lesions were counted, and how, in sentences.

    Args:
        summary: Content of ``summary.json``.
    """
    protocol, ignored = summary["protocol"], summary["ignore_label"]
    dropped = protocol["on_dropped_reference"]
    sentences = [
        f"Protocol {protocol['name']}, version {protocol['version']}: "
        f"{protocol['description']}",
        f"Voxels with the value {summary['label']} are lesion. A lesion is a group of "
        f"such voxels that {_NEIGHBORS[protocol['connectivity']]}.",
        "Lesions count, in reference and prediction alike, from "
        f"{protocol['min_voxels']} voxels on and above {protocol['above_mm3']:g} mm3. "
        "This concerns numbers of lesions only: DSC, PPV, TPR and VD see all voxels. A "
        "predicted lesion on nothing but a reference lesion that does not count is "
        f"{'neither hit nor false' if dropped == 'ignored' else 'false'}.",
        f"A lesion is a hit if {_HITS[protocol['overlap']['rule']]}.".format(
            **protocol["overlap"]
        ),
    ]
    if ignored is not None:
        sentences.append(
            f"Voxels that have the value {ignored} in the reference are left out of "
            "everything."
        )
    return sentences
