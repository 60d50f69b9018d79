"""Evaluates one case: a prediction, its reference, and its probabilities if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.lesions import (
    Lesions,
    Match,
    bounding_box,
    find_lesions,
    match_lesions,
    size_bins,
)
from nnunet_cel.evaluation.metrics import Counts, compute_metrics
from nnunet_cel.evaluation.protocol import Protocol
from nnunet_cel.evaluation.surface import surface_distances
from nnunet_cel.evaluation.thresholds import count_reliability, sweep_thresholds
from nnunet_cel.volumes import Volume

__all__ = ["CaseResult", "evaluate_case", "tabulate_lesions"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CaseResult:
    """What the evaluation of a case found.

    Args:
        row: Metrics, counts and volumes by their column in ``cases.csv``.
        lesions: One row for each lesion, as in ``lesions.csv`` but for the case.
        sweep: Counts at every threshold, None without probabilities.
        reliability: What :func:`~nnunet_cel.evaluation.thresholds.count_reliability`
            counted in voxels, None without probabilities.
    """

    row: dict[str, float | int]
    lesions: pd.DataFrame
    sweep: Sequence[Counts] | None = None
    reliability: Array | None = None


def evaluate_case(
    prediction: Volume,
    reference: Volume,
    protocol: Protocol,
    *,
    labels: Labels,
    probabilities: Array | None = None,
) -> CaseResult:
    """Compare a prediction with its reference.

    Args:
        prediction: Label map.
        reference: Label map on the same grid.
        protocol: The rules.
        labels: What the values of both label maps mean.
        probabilities: Lesion probability, shape (X, Y, Z).
    """
    predicted_mask = prediction.voxels == labels.lesion
    reference_mask = reference.voxels == labels.lesion
    if labels.ignore is not None:
        left_out = reference.voxels == labels.ignore
        predicted_mask &= ~left_out
        if probabilities is not None:
            probabilities = np.where(left_out, 0, probabilities)
    box = bounding_box(predicted_mask | reference_mask)
    predicted = find_lesions(predicted_mask[box], connectivity=protocol.connectivity)
    true = find_lesions(reference_mask[box], connectivity=protocol.connectivity)
    match = match_lesions(true, predicted, protocol, reference.voxel_volume)
    table = _tabulate(predicted, true, match, reference.affine, box, protocol)
    hd95, assd = surface_distances(
        predicted_mask[box], reference_mask[box], reference.spacing
    )
    counts = replace(match.counts, hd95=hd95, assd=assd)
    row = {
        **compute_metrics(counts, protocol.edge_cases),
        **_count(counts, table, reference.voxel_volume),
    }
    if probabilities is None:
        return CaseResult(row, table)
    both = (true, predicted)  # in the order of the table
    inside = probabilities[box]
    table["mean_probability"] = np.concatenate([part.means(inside) for part in both])
    table["max_probability"] = np.concatenate([part.maxima(inside) for part in both])
    return CaseResult(
        row,
        table,
        sweep_thresholds(
            probabilities, reference_mask, protocol, reference.voxel_volume
        ),
        count_reliability(probabilities, reference_mask),
    )


def tabulate_lesions(
    lesions: Lesions,
    affine: Array,
    protocol: Protocol,
    *,
    offset: Sequence[int] = (0, 0, 0),
) -> pd.DataFrame:
    """Return size and place of each lesion, one row each, in their order.

    Args:
        lesions: The lesions.
        affine: Voxel indices to mm in RAS order, shape (4, 4).
        protocol: Its size bins.
        offset: Voxel index of the first voxel that the lesions were looked for in.
    """
    volumes = lesions.voxels * float(abs(np.linalg.det(affine[:3, :3])))
    centroids = lesions.centroids + np.asarray(offset)
    world = centroids @ affine[:3, :3].T + affine[:3, 3]
    columns: dict[str, Array] = {
        "voxels": lesions.voxels,
        "volume_mm3": volumes,
        "size_bin": size_bins(volumes, protocol.size_bins_mm3),
    }
    for axis, name in enumerate("xyz"):
        columns[f"centroid_{name}"] = centroids[:, axis]
    for axis, name in enumerate("xyz"):
        columns[f"centroid_{name}_mm"] = world[:, axis]
    for axis, name in enumerate("xyz"):
        first, last = lesions.boxes[:, axis].T + offset[axis]
        columns |= {f"box_{name}_first": first, f"box_{name}_last": last}
    return pd.DataFrame(columns)


def _tabulate(
    predicted: Lesions,
    true: Lesions,
    match: Match,
    affine: Array,
    box: tuple[slice, slice, slice],
    protocol: Protocol,
) -> pd.DataFrame:
    """Return the lesions of both maps, numbered from 1 as the largest."""
    offset = [part.start for part in box]
    parts = []
    for name, lesions, found in (
        ("reference", true, match.reference),
        ("prediction", predicted, match.predicted),
    ):
        part = tabulate_lesions(lesions, affine, protocol, offset=offset)
        rank = np.empty(len(part), dtype=int)
        rank[np.argsort(-lesions.voxels, kind="stable")] = np.arange(len(part)) + 1
        part.insert(0, "map", name)
        part.insert(1, "lesion", rank)
        part.insert(2, "status", found.status)
        part.insert(6, "overlap_voxels", found.overlap)
        part.insert(7, "overlap_fraction", found.overlap / lesions.voxels)
        part.insert(8, "partners", found.partners)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _count(
    counts: Counts, lesions: pd.DataFrame, voxel_volume: float
) -> dict[str, float | int]:
    """Return volumes in ml and numbers of lesions of a case."""
    ml = voxel_volume / 1000
    row: dict[str, float | int] = {
        "reference_ml": counts.reference * ml,
        "predicted_ml": counts.predicted * ml,
        "reference_lesions": counts.reference_lesions,
        "predicted_lesions": counts.predicted_lesions,
    }
    kinds = {
        "reference": ("reference", ("hit", "missed", "dropped")),
        "predicted": ("prediction", ("hit", "false", "ignored", "dropped")),
    }
    for name, (of_map, statuses) in kinds.items():
        for status in statuses:
            chosen = (lesions["map"] == of_map) & (lesions["status"] == status)
            row[f"{name}_{status}"] = int(chosen.sum())
            row[f"{name}_{status}_ml"] = float(lesions.loc[chosen, "voxels"].sum() * ml)
    row |= {
        "tp_voxels": counts.tp,
        "fp_voxels": counts.fp,
        "fn_voxels": counts.fn,
        "voxel_mm3": voxel_volume,
    }
    return row
