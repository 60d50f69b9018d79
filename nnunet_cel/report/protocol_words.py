"""Says in sentences what a protocol counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["describe_protocol"]

_NEIGHBORS = {
    6: "share a face",
    18: "share a face or an edge",
    26: "share a face, an edge or a corner",
}


def describe_protocol(summary: Mapping[str, Any]) -> list[str]:
    """Return what was counted, and how, in sentences.

    Args:
        summary: Content of ``summary.json``.
    """
    protocol = summary["protocol"]
    connectivity = protocol["connectivity"]
    neighbors = _NEIGHBORS.get(connectivity, f"are {connectivity}-connected")
    sentences = [
        f"Protocol {protocol['name']}, version {protocol['version']}: "
        f"{protocol['description']}",
        f"Voxels with the value {summary['label']} are lesion. A lesion is a group of "
        f"such voxels that {neighbors}.",
        *_describe_small(protocol),
        f"A lesion is a hit if {_describe_overlap(protocol['overlap'])}. Reference "
        "lesions are hit or missed, predicted ones hit or false; both sides are "
        "judged on their own.",
        "Each metric is computed in every case first. Means are over cases; voxels are "
        "never pooled. Cases in which a metric has no value are left out of it.",
        f"Intervals of means are 95 % percentile bootstrap intervals over cases "
        f"({summary['bootstrap']['resamples']} samples), those of shares 95 % Wilson "
        "intervals.",
    ]
    if summary["ignore_label"] is not None:
        sentences.insert(
            2,
            f"Voxels that have the value {summary['ignore_label']} in the reference "
            "are left out of everything.",
        )
    return sentences


def _describe_small(protocol: Mapping[str, Any]) -> list[str]:
    """Return what becomes of small lesions."""
    limits = []
    if protocol["min_voxels"] > 1:
        limits.append(f"fewer than {protocol['min_voxels']} voxels")
    if protocol["above_mm3"] > 0:
        limits.append(f"at most {protocol['above_mm3']:g} mm\u00b3")
    if not limits:
        return ["No lesion is too small to count."]
    on_dropped = (
        "A predicted lesion on nothing but such a reference lesion is neither hit nor "
        "false."
        if protocol["on_dropped_reference"] == "ignored"
        else "A predicted lesion on nothing but such a reference lesion is false."
    )
    return [
        f"Lesions with {' or '.join(limits)} do not count, in reference and prediction "
        "alike. This concerns numbers of lesions only: DSC, PPV, TPR and VD see all "
        f"voxels. {on_dropped}"
    ]


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
