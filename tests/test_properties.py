"""Properties that hold for all volumes, grids and masks, not only for chosen ones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.protocol import PROTOCOLS, load_protocol
from nnunet_cel.resampling import (
    Grid,
    box_around,
    crop,
    grid_of,
    grid_with_spacing,
    resample_image,
    resample_labels,
    to_ras,
)
from nnunet_cel.volumes import Volume

Mask = npt.NDArray[np.uint8]

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 6)] * 3)
VOXELS = st.integers(0, 1)
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=VOXELS))
PAIRS = SHAPES.flatmap(lambda s: hnp.arrays(np.uint8, (2, *s), elements=VOXELS))
PROTOCOL = {name: load_protocol(name) for name in PROTOCOLS}


@st.composite
def affines(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Grids at right angles: any spacing, order and direction of axes, and place."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    affine = np.eye(4)
    affine[:3, :3] = np.diag(draw(SPACINGS))[order] * signs
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


@given(MASKS, SPACINGS, st.floats(0, 5))
def test_box_holds_mask_and_margin(
    mask: Mask, spacing: tuple[float, float, float], margin: float
) -> None:
    """Nothing of the mask is cut off, and every voxel in the margin is kept."""
    assume(mask.any())
    box = box_around(mask, spacing, margin)

    assert mask[box].sum() == mask.sum()
    found = np.argwhere(mask)
    for axis, part in enumerate(box):
        first, last = found[:, axis].min(), found[:, axis].max()
        more = math.floor(margin / spacing[axis])
        assert part.start <= max(first - more, 0)
        assert part.stop > min(last + more, mask.shape[axis] - 1)


@given(MASKS, affines())
def test_cropping_and_turning_move_nothing(
    mask: Mask, affine: npt.NDArray[np.float64]
) -> None:
    """Every voxel of the mask keeps its place in the world."""
    assume(mask.any())
    volume = Volume(mask, affine)

    def places(part: Volume) -> npt.NDArray[np.float64]:
        points = np.argwhere(part.voxels) @ part.affine[:3, :3].T + part.affine[:3, 3]
        return points[np.lexsort(np.round(points, 6).T)]

    expected = places(volume)
    for part in (crop(volume, box_around(mask)), to_ras(volume)):
        np.testing.assert_allclose(places(part), expected, atol=1e-6)
        assert math.isclose(part.voxel_volume, volume.voxel_volume)


@given(SHAPES, affines(), SPACINGS)
def test_new_grid_covers_the_old_one(
    shape: tuple[int, int, int],
    affine: npt.NDArray[np.float64],
    spacing: tuple[float, float, float],
) -> None:
    """It has the same center, and reaches as far, but less than a voxel further."""
    old = Grid(shape, affine)
    new = grid_with_spacing(old, spacing)

    def center(grid: Grid) -> npt.NDArray[np.float64]:
        return grid.affine[:3, :3] @ (np.array(grid.shape) - 1) / 2 + grid.affine[:3, 3]

    np.testing.assert_allclose(center(new), center(old), atol=1e-6)
    sizes = [np.linalg.norm(g.affine[:3, :3], axis=0) for g in (old, new)]
    surplus = np.array(new.shape) * sizes[1] - np.array(shape) * sizes[0]
    assert (surplus > -0.01 * np.array(new.shape)).all()
    assert (surplus < sizes[1] + 1e-6).all()


@given(MASKS, affines(), st.tuples(*[st.integers(1, 3)] * 3))
def test_labels_on_their_own_and_on_finer_grids(
    mask: Mask, affine: npt.NDArray[np.float64], factors: tuple[int, int, int]
) -> None:
    """Nothing changes on the own grid; voxels cut in parts give all of their parts."""
    volume = Volume(mask, affine)
    assert np.array_equal(resample_labels(volume, grid_of(volume)).voxels, mask)
    values = resample_image(volume, grid_of(volume)).voxels
    assert np.array_equal(values, mask.astype(np.float32))

    x, y, z = (size * by for size, by in zip(mask.shape, factors, strict=True))
    finer = affine @ np.diag([*(1 / np.array(factors)), 1])
    finer[:3, 3] = affine[:3, 3] + affine[:3, :3] @ (0.5 / np.array(factors) - 0.5)
    repeated = mask
    for axis, by in enumerate(factors):
        repeated = repeated.repeat(by, axis=axis)
    found = resample_labels(volume, Grid((x, y, z), finer))
    assert np.array_equal(found.voxels, repeated)


@settings(max_examples=50)
@given(PAIRS, st.sampled_from(PROTOCOLS), SPACINGS)
def test_metrics_of_any_masks(
    masks: Mask, name: str, spacing: tuple[float, float, float]
) -> None:
    """Shares are from 0 to 1, numbers of lesions add up, and exchange is mirrored."""
    affine = np.diag([*spacing, 1])
    first, second = (Volume(mask, affine) for mask in masks)

    def evaluate(prediction: Volume, reference: Volume) -> dict[str, float]:
        found = evaluate_case(prediction, reference, PROTOCOL[name], labels=Labels())
        return found["cases"].to_dict("records")[0]

    there, back = evaluate(first, second), evaluate(second, first)
    for short in ("DSC", "PPV", "TPR", "LFDR", "L-sens", "L-F1"):
        assert math.isnan(there[short]) or 0 <= there[short] <= 1
    assert there["tp_voxels"] + there["fn_voxels"] == masks[1].sum()
    assert there["tp_voxels"] + there["fp_voxels"] == masks[0].sum()
    counted = there["reference_hit"] + there["reference_missed"]
    assert counted == there["reference_lesions"]
    if masks[0].any() and masks[1].any():
        assert there["DSC"] == back["DSC"]
        assert there["PPV"] == back["TPR"]
        assert math.isclose(there["HD95"], back["HD95"])
        assert math.isclose(there["ASSD"], back["ASSD"])

    if masks[1].any():
        same = evaluate(second, second)
        assert (same["DSC"], same["VD"], same["HD95"]) == (1, 0, 0)
        assert same["reference_missed"] == same["predicted_false"] == 0
