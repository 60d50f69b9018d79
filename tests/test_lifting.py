"""Lifting: stock plans get the paper's network and a cubic patch, in a copy."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.planning.lifting import lift_plans
from nnunet_cel.settings import BLOCK, Settings

LABELS = {"labels": {"background": 0, "lesion": 1}}


@pytest.fixture
def stock_plans() -> dict[str, Any]:
    """Plans as stock nnU-Net writes them, cut down to what matters here."""
    stock = {
        "data_identifier": "nnUNetPlans_2d",
        "architecture": {"network_class_name": "PlainConvUNet", "arch_kwargs": {}},
        "batch_size": 70,
    }
    return {
        "dataset_name": "Dataset009_Stock",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [2, 0, 1],
        "configurations": {
            "2d": stock | {"patch_size": [56, 48], "spacing": [1, 1]},
            "3d_lowres": stock | {"patch_size": [64] * 3, "spacing": [1] * 3},
        },
    }


@pytest.fixture
def preprocessed(tmp_path: Path) -> str:
    """A preprocessed folder with the fingerprint of two images."""
    (tmp_path / "Dataset009_Stock").mkdir()
    shapes, spacings = [[90, 100, 30], [80, 130, 25]], [[1, 1, 3], [1, 1, 3]]
    fingerprint = {"shapes_after_crop": shapes, "spacings": spacings}
    file = tmp_path / "Dataset009_Stock" / "dataset_fingerprint.json"
    file.write_text(json.dumps(fingerprint))
    return str(tmp_path)


def lift(plans: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    """Return the lifted entry, resolved, after lifting it twice."""
    labels = options.pop("labels", LABELS)
    lifted, settings = lift_plans(plans, name, labels, **options)
    assert lift_plans(lifted, name, labels, preprocessed=None)[0] == lifted
    assert lifted["configurations"][name][BLOCK] == settings.to_block()
    entry: dict[str, Any] = PlansManager(lifted).get_configuration(name).configuration
    return entry


@pytest.mark.parametrize("name", ["2d", "3d_lowres"])
def test_stock_plans_are_lifted(
    stock_plans: dict[str, Any], preprocessed: str, name: str
) -> None:
    """Cubic patch for 130 voxels, the paper's network, batch and settings.

    A 3D configuration whose patch happens to be a cube is stock all the same.
    """
    before = deepcopy(stock_plans)

    entry = lift(stock_plans, name, preprocessed=preprocessed)

    assert entry["patch_size"] == [160, 160, 160]
    assert entry["batch_size"] == 16
    assert entry["architecture"]["network_class_name"].endswith(".FCADenseNet")
    assert entry[BLOCK] == Settings().to_block()
    assert stock_plans == before, "the caller's plans are left alone"


def test_what_a_user_chooses_is_kept(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """Batch size, patch, network and settings of the user's own configuration."""
    configurations = stock_plans["configurations"]
    configurations["2d_a"] = {
        "inherits_from": "2d",
        "patch_size": [64, 64, 64],
        BLOCK: {"training_window": 32},
    }
    configurations["2d_b"] = {"inherits_from": "2d_a", "batch_size": 3}
    architecture = configurations["2d"]["architecture"]
    configurations["2d_u"] = {"inherits_from": "2d", "architecture": architecture}

    entry = lift(stock_plans, "2d_b", preprocessed=preprocessed)
    other = lift(stock_plans, "2d_u", preprocessed=preprocessed)

    assert (entry["batch_size"], entry["patch_size"]) == (3, [64, 64, 64])
    assert entry[BLOCK]["training_window"] == 32
    assert entry["architecture"]["network_class_name"].endswith(".FCADenseNet")
    assert other["architecture"] == architecture


def test_block_in_stock_plans_counts_and_heads_follow_the_labels(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """The rest is lifted as without it; regions get sigmoid heads."""
    stock_plans["configurations"]["2d"][BLOCK] = {"max_epochs": 3}
    labels = {"labels": {"background": 0, "all": [1, 2]}, "regions_class_order": [1]}

    entry = lift(stock_plans, "2d", labels=labels, preprocessed=preprocessed)

    assert (entry[BLOCK]["max_epochs"], entry[BLOCK]["heads"]) == (3, "sigmoid")
    assert entry["patch_size"] == [160] * 3
    with pytest.raises(FileNotFoundError, match="nnUNetv2_extract_fingerprint"):
        lift_plans(stock_plans, "2d", LABELS, preprocessed=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": [64, 64]}, r"'patch_size' .* Got \[64, 64\] instead"),
        ({"patch_size": [48] * 3}, r"multiple of 32 voxels. Got \[48, 48, 48\]"),
        ({BLOCK: {"training_window": 192}}, "at most the patch size, 160 voxels"),
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    stock_plans: dict[str, Any], preprocessed: str, change: Any, message: str
) -> None:
    """What a user writes is refused, not replaced, if it cannot work."""
    stock_plans["configurations"]["2d_mine"] = {"inherits_from": "2d"} | change

    with pytest.raises(ValueError, match=message):
        lift_plans(stock_plans, "2d_mine", LABELS, preprocessed=preprocessed)
