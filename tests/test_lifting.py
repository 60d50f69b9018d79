"""Lifting: stock plans get the paper's network and a cubic patch, in a copy."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.settings import BLOCK
from nnunet_cel.training.lifting import lift_plans

LABELS = {"labels": {"background": 0, "lesion": 1}}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2], "core": 2},
    "regions_class_order": [1, 2],
}


@pytest.fixture
def stock_plans() -> dict[str, Any]:
    """Plans as stock nnU-Net writes them, cut down to what matters here."""
    architecture = {
        "network_class_name": "dynamic_network_architectures.PlainConvUNet",
        "arch_kwargs": {},
        "_kw_requires_import": [],
    }
    shared = {"data_identifier": "nnUNetPlans_2d", "architecture": architecture}
    return {
        "dataset_name": "Dataset009_Stock",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [2, 0, 1],
        "configurations": {
            "2d": shared
            | {"patch_size": [56, 48], "spacing": [1, 1], "batch_size": 70},
            "3d_lowres": shared
            | {"patch_size": [64] * 3, "spacing": [1] * 3, "batch_size": 2},
            "3d_cascade_fullres": {
                "inherits_from": "3d_lowres",
                "previous_stage": "3d_lowres",
            },
        },
    }


@pytest.fixture
def preprocessed(tmp_path: Path) -> str:
    """A preprocessed folder with the fingerprint of two images."""
    folder = tmp_path / "Dataset009_Stock"
    folder.mkdir()
    fingerprint = {
        "shapes_after_crop": [[90, 100, 30], [80, 130, 25]],
        "spacings": [[1, 1, 3], [1, 1, 3]],
    }
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    return str(tmp_path)


def test_stock_plans_are_lifted(stock_plans: dict[str, Any], preprocessed: str) -> None:
    """Cubic patch for 130 voxels, the paper's network, batch and settings."""
    before = deepcopy(stock_plans)

    lifted = lift_plans(stock_plans, "2d", LABELS, preprocessed=preprocessed)

    entry = lifted["configurations"]["2d"]
    assert entry["patch_size"] == [160, 160, 160]
    assert entry["batch_size"] == 16
    assert entry["architecture"]["network_class_name"].endswith(".FCADenseNet")
    assert entry[BLOCK]["neighbor_pairs"] == 1
    assert stock_plans == before, "the caller's plans are left alone"


def test_cubic_stock_patches_are_lifted_too(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """A 3D configuration whose patch happens to be a cube is stock all the same."""
    lifted = lift_plans(stock_plans, "3d_lowres", LABELS, preprocessed=preprocessed)

    entry = lifted["configurations"]["3d_lowres"]
    assert entry["architecture"]["network_class_name"].endswith(".FCADenseNet")
    assert entry["patch_size"] == [160] * 3


def test_what_an_inheriting_configuration_chooses_is_kept(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """Batch size and patch of the user's own configuration; the network is lifted."""
    stock_plans["configurations"]["2d_a"] = {
        "inherits_from": "2d",
        "patch_size": [64, 64, 64],
        BLOCK: {"training_window": 32},
    }
    stock_plans["configurations"]["2d_b"] = {"inherits_from": "2d_a", "batch_size": 3}

    lifted = lift_plans(stock_plans, "2d_b", LABELS, preprocessed=preprocessed)

    entry = PlansManager(lifted).get_configuration("2d_b").configuration
    assert entry["batch_size"] == 3
    assert entry["patch_size"] == [64, 64, 64]
    assert entry[BLOCK]["training_window"] == 32
    assert entry["architecture"]["network_class_name"].endswith(".FCADenseNet")
    assert lift_plans(lifted, "2d_b", LABELS, preprocessed=None) == lifted


def test_network_that_an_inheriting_configuration_chooses_is_kept(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """Another network is trained if the user's own configuration names it."""
    architecture = stock_plans["configurations"]["2d"]["architecture"]
    stock_plans["configurations"]["2d_u"] = {
        "inherits_from": "2d",
        "architecture": architecture,
    }

    lifted = lift_plans(stock_plans, "2d_u", LABELS, preprocessed=preprocessed)

    assert lifted["configurations"]["2d_u"]["architecture"] == architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": [48, 32, 32]}, r"'patch_size' .* must be \[S, S, S\]"),
        ({"patch_size": [64, 64]}, r"'patch_size' .* Got \[64, 64\] instead"),
        ({"batch_size": 0}, r"'batch_size' .* must be an integer >= 1. Got 0"),
    ],
)
def test_wrong_numbers_are_refused(
    stock_plans: dict[str, Any],
    preprocessed: str,
    change: dict[str, Any],
    message: str,
) -> None:
    """What a user writes is refused, not replaced, if it cannot work."""
    stock_plans["configurations"]["2d_mine"] = {"inherits_from": "2d"} | change

    with pytest.raises(ValueError, match=message):
        lift_plans(stock_plans, "2d_mine", LABELS, preprocessed=preprocessed)


def test_settings_that_a_user_added_are_kept(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """A block in stock plans changes settings, and the rest is lifted."""
    stock_plans["configurations"]["2d"][BLOCK] = {"max_epochs": 3}

    entry = lift_plans(stock_plans, "2d", LABELS, preprocessed=preprocessed)[
        "configurations"
    ]["2d"]

    assert entry[BLOCK]["max_epochs"] == 3
    assert entry["patch_size"] == [160] * 3


def test_lifting_twice_changes_nothing(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """Lifted plans are complete: nothing else is read for them."""
    lifted = lift_plans(stock_plans, "2d", LABELS, preprocessed=preprocessed)

    assert lift_plans(lifted, "2d", LABELS, preprocessed=None) == lifted


def test_heads_follow_the_labels(
    stock_plans: dict[str, Any], preprocessed: str
) -> None:
    """Region-based labels get sigmoid heads, whatever the plans say."""
    lifted = lift_plans(stock_plans, "2d", REGIONS, preprocessed=preprocessed)

    assert lifted["configurations"]["2d"][BLOCK]["heads"] == "sigmoid"


def test_missing_configuration_is_refused(stock_plans: dict[str, Any]) -> None:
    """Plans without the configuration: the error lists those that exist."""
    del stock_plans["configurations"]["2d"]

    with pytest.raises(ValueError, match=r"'nnUNetPlans'.*'2d'.*'3d_lowres'"):
        lift_plans(stock_plans, "2d", LABELS, preprocessed=None)


def test_cascade_is_refused(stock_plans: dict[str, Any], preprocessed: str) -> None:
    """The second stage of a cascade cannot be trained."""
    with pytest.raises(ValueError, match="second stage of a cascade"):
        lift_plans(stock_plans, "3d_cascade_fullres", LABELS, preprocessed=preprocessed)


def test_missing_fingerprint_is_refused(stock_plans: dict[str, Any]) -> None:
    """Stock plans need the fingerprint; the error names the command that makes it."""
    with pytest.raises(FileNotFoundError, match="nnUNetv2_extract_fingerprint"):
        lift_plans(stock_plans, "2d", LABELS, preprocessed=None)
