"""Tests of the evaluation of one case, and of surface distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from nnunet_cel.evaluation.cases import evaluate_case, surface_distances
from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.resampling import to_ras
from nnunet_cel.volumes import Volume

SHAPE = (12, 10, 8)
# 2 x 1 x 0.5 mm, to the left, to the front, to the head
AFFINE = np.array([[-2.0, 0, 0, 50], [0, 1, 0, -20], [0, 0, 0.5, 7], [0, 0, 0, 1]])
SPACING = (0.5, 1.0, 3.0)


def volume(*parts: tuple[slice, slice, slice], ignored: Any = None) -> Volume:
    """Return a label map with lesions in these parts, and 2 in the ignored one."""
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    for part in parts:
        voxels[part] = 1
    if ignored is not None:
        voxels[ignored] = 2
    return Volume(voxels, AFFINE)


def box(x: int, y: int, z: int, size: int = 2) -> tuple[slice, slice, slice]:
    """Return a cube of voxels."""
    return slice(x, x + size), slice(y, y + size), slice(z, z + size)


def evaluate(*maps: Volume, **options: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the row of a case and its lesions by the protocol of the paper."""
    options = {"labels": Labels(), **options}
    tables = evaluate_case(*maps, load_protocol("paper"), **options)
    return tables["cases"].to_dict("records")[0], tables["lesions"]


def test_hand_counted_case() -> None:
    """Counts, volumes and metrics are what is worked out by hand."""
    # 8 voxels hit by 4 of 8 predicted ones, 8 missed, 27 false, one speck on each side
    reference = volume(box(0, 0, 0), box(6, 0, 0), box(0, 8, 7, 1))
    prediction = volume(box(1, 0, 0), box(6, 5, 3, 3), box(11, 9, 7, 1))

    row, _ = evaluate(prediction, reference)

    expected = {
        **{"DSC": 2 * 4 / (17 + 36), "VD": (36 - 17) / 17, "L-sens": 0.5, "LFDR": 0.5},
        **{"tp_voxels": 4, "fp_voxels": 32, "fn_voxels": 13, "voxel_mm3": 1},
        **{"reference_lesions": 2, "predicted_lesions": 2, "reference_ml": 0.017},
        **{"reference_hit": 1, "reference_missed": 1, "reference_dropped": 1},
        **{"predicted_hit": 1, "predicted_false": 1, "predicted_ignored": 0},
        **{"predicted_dropped": 1, "predicted_false_ml": 0.027},
        "reference_missed_ml": 0.008,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_lesion_table_says_where_lesions_are() -> None:
    """Number, center, box and overlap are those of the lesion, voxels and RAS mm."""
    _, lesions = evaluate(volume(box(4, 4, 2), box(0, 0, 5, 3)), volume(box(4, 5, 2)))

    reference, *predicted = lesions.to_dict("records")
    assert sorted((row["lesion"], row["voxels"]) for row in predicted) == [
        (1, 27),
        (2, 8),
    ]
    expected = {
        **{"map": "reference", "lesion": 1, "status": "hit", "voxels": 8},
        **{"volume_mm3": 8, "size_bin": "<10", "partners": 1},
        **{"overlap_voxels": 4, "overlap_fraction": 0.5},
        **{"centroid_x": 4.5, "centroid_y": 5.5, "centroid_z": 2.5},
        # 50 - 2 * 4.5, -20 + 5.5, 7 + 0.5 * 2.5
        **{"centroid_x_mm": 41, "centroid_y_mm": -14.5, "centroid_z_mm": 8.25},
        **{"box_x_first": 4, "box_x_last": 5, "box_y_first": 5, "box_y_last": 6},
        **{"box_z_first": 2, "box_z_last": 3},
    }
    assert reference == pytest.approx(expected)


def test_ignored_voxels_are_in_neither_map() -> None:
    """Lesion under the ignore label is taken out, at other thresholds, too."""
    part = (slice(6, 12), slice(None), slice(None))
    maps = [
        volume(box(0, 0, 0), box(7, 5, 3), box(5, 5, 3)),
        volume(box(0, 0, 0), ignored=part),
    ]
    before = [m.voxels.copy() for m in maps]

    soft = before[0].astype(np.float32)
    tables = evaluate_case(
        *maps, load_protocol("paper"), labels=Labels(ignore=2), probabilities=soft
    )

    row = tables["cases"].loc[0]
    # of the last lesion the half at x = 5 remains
    assert row["predicted_ml"] == pytest.approx(0.012)
    counts = (row["predicted_hit"], row["predicted_false"], row["fp_voxels"])
    assert counts == (1, 1, 4)
    half = tables["sweep"].set_index("threshold").loc[0.5]
    assert (half["predicted"], half["hit"], half["DSC"]) == (12, 1, row["DSC"])
    assert all((m.voxels == b).all() for m, b in zip(maps, before, strict=True))


@pytest.mark.parametrize("size", [0, 1])
def test_scan_without_lesions(size: int) -> None:
    """Empty label maps have no lesions, and metrics of the edge cases."""
    prediction = volume(box(5, 5, 3, 3)) if size else volume()
    probabilities = prediction.voxels.astype(np.float32)

    row, lesions = evaluate(prediction, volume(), probabilities=probabilities)

    assert list(lesions["max_probability"]) == [1] * size
    assert row["predicted_false"] == size
    assert math.isnan(row["DSC"])
    assert row["PPV"] == pytest.approx(0 if size else math.nan, nan_ok=True)


def test_direction_and_spacing_move_with_the_axes(rng: np.random.Generator) -> None:
    """Flipped and transposed maps with their affine give the same results."""
    turned = AFFINE[:, [2, 1, 0, 3]]
    masks = [(rng.random(SHAPE) < 0.2).astype(np.uint8) for _ in range(2)]
    maps = [Volume(mask.T, turned) for mask in masks]

    plain, lesions = evaluate(*maps)
    straight, moved = evaluate(*map(to_ras, maps))

    assert plain == pytest.approx(straight, nan_ok=True)
    columns = ["map", "voxels", "status", *(f"centroid_{a}_mm" for a in "xyz")]
    places = [
        sorted(table[columns].round(6).to_records(index=False).tolist())
        for table in (lesions, moved)
    ]
    assert places[0] == places[1]


def test_surface_distances_agree_with_brute_force(rng: np.random.Generator) -> None:
    """All distances between all surface voxels give the same numbers."""
    structure = ndimage.generate_binary_structure(3, 1)
    for _ in range(100):
        shape = tuple(rng.integers(2, 9, 3))
        noise = [ndimage.gaussian_filter(rng.random(shape), 1) for _ in range(2)]
        masks = [n >= np.quantile(n, rng.uniform(0.6, 0.95)) for n in noise]
        points = [
            np.argwhere(m & ~ndimage.binary_erosion(m, structure)) * SPACING
            for m in masks
        ]
        distances = cdist(*points)
        there, back = distances.min(axis=1), distances.min(axis=0)

        hd95, assd = surface_distances(*masks, SPACING)

        expected = max(np.percentile(there, 95), np.percentile(back, 95))
        assert hd95 == pytest.approx(expected)
        assert assd == pytest.approx(np.concatenate([there, back]).mean())


def test_surface_distances_of_nothing_and_everything() -> None:
    """An empty mask has none, and the border of the volume is a surface."""
    one = np.pad(np.ones((1, 1, 1), dtype=bool), 2)
    none = one & False
    for masks in ((one, none), (none, one)):
        assert all(math.isnan(d) for d in surface_distances(*masks, SPACING))
    # A mask that fills the volume has its shell as surface, 2 from the middle.
    assert surface_distances(one, one | True, (1, 1, 1))[1] >= 2
