"""Exports hold the weights and what prediction needs, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.torch import load_file
from torch import nn

from nnunet_cel.settings import BLOCK, Settings
from nnunet_cel.training.trainer import FCADenseTrainer
from nnunet_cel.weights.export import export_weights, find_folds

SECRET = "ERIKA_MUSTERMANN"
FCADENSENET = {
    "network_class_name": "nnunet_cel.networks.FCADenseNet",
    "arch_kwargs": {
        "down_layers": [1, 1],
        "bottleneck_layers": 1,
        "stem_features": 4,
        "growth_rate": 4,
        "dropout_op": "torch.nn.Dropout2d",
    },
    "_kw_requires_import": ["dropout_op"],
}
UNET = {
    "network_class_name": "nnunet_cel.networks.UNet",
    "arch_kwargs": {"features": [4, 8], "convs_per_level": 1},
    "_kw_requires_import": [],
}


def make_plans(architecture: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return plans as the planner writes them, with an entry that names a patient."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": False}
    base: dict[str, Any] = {
        "data_identifier": "FCADensePlans_2d",
        "preprocessor_name": "FCADensePreprocessor",
        "patch_size": [32, 32, 32],
        "median_image_size_in_voxels": [30.0, 31.0, 32.0],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["KDEHighestPeakNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": True,
        "batch_size": 4,
        "architecture": architecture or FCADENSENET,
        BLOCK: Settings().to_block(),
    }
    for kind in ("data", "seg", "probabilities"):
        base[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        base[f"resampling_fn_{kind}_kwargs"] = resampling
    intensities = dict.fromkeys(
        ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"),
        1.5,
    )
    return {
        "dataset_name": "Dataset501_Tiny",
        "plans_name": "FCADensePlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [30, 31, 32],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "2d": base,
            "2d_heir": {"inherits_from": "2d", "batch_size": 2},
        },
        "experiment_planner_used": "FCADensePlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "note": f"/home/{SECRET}",
    }


def make_dataset() -> dict[str, Any]:
    """Return a ``dataset.json`` with entries that name a patient."""
    return {
        "channel_names": {"0": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
        "description": SECRET,
        "dataset": {f"case_{SECRET}": {"images": [f"/home/{SECRET}/a.nii.gz"]}},
    }


def make_network(
    plans: dict[str, Any], dataset: dict[str, Any], configuration: str = "2d"
) -> nn.Module:
    """Return the network of plans with random weights."""
    manager = PlansManager(plans)
    return FCADenseTrainer.build_network_architecture(
        manager,
        manager.get_configuration(configuration),
        len(dataset["channel_names"]),
        manager.get_label_manager(dataset).num_segmentation_heads,
    )


def make_checkpoint(network: nn.Module, **changes: Any) -> dict[str, Any]:
    """Return what nnU-Net's trainer saves, log and optimizer included."""
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float32(0.25), np.float64(0.5), np.int64(3)]},
        "_best_ema": np.float32(0.25),
        "current_epoch": 7,
        "init_args": {
            "plans": {"note": SECRET},
            "configuration": "2d",
            "fold": 0,
            "dataset_json": make_dataset(),
            "device": torch.device("cpu"),
        },
        "trainer_name": "FCADenseTrainer",
        "inference_allowed_mirroring_axes": (0, 2),
    } | changes


def make_model(
    folder: Path,
    *,
    folds: tuple[str, ...] = ("0",),
    architecture: dict[str, Any] | None = None,
    change: Callable[[dict[str, Any]], object] = lambda checkpoint: None,
) -> Path:
    """Write a model folder; ``change`` may alter what the checkpoints hold."""
    plans, dataset = make_plans(architecture), make_dataset()
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "dataset_fingerprint.json").write_text(json.dumps({"note": SECRET}))
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        (folder / f"fold_{fold}").mkdir()
        checkpoint = make_checkpoint(make_network(plans, dataset))
        change(checkpoint)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        (folder / f"fold_{fold}" / "debug.json").write_text(SECRET)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with folds 0 and 1."""
    return make_model(tmp_path / "a model", folds=("0", "1"))


def test_export_holds_the_weights_as_trained(model: Path, tmp_path: Path) -> None:
    """Names, types and values of each fold are those of its checkpoint."""
    export_weights(model, tmp_path / "out")

    for fold in ("0", "1"):
        got = load_file(tmp_path / "out" / f"fold_{fold}.safetensors")
        trained = torch.load(
            model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False
        )["network_weights"]
        assert set(got) == set(trained)
        for name, tensor in trained.items():
            torch.testing.assert_close(got[name], tensor, rtol=0, atol=0)


def test_export_holds_no_other_files(model: Path, tmp_path: Path) -> None:
    """One JSON and one file for each fold are all there is."""
    export_weights(model, tmp_path / "out")

    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("fold_0.safetensors", "fold_1.safetensors", "model.json"),
    ]


def test_export_is_the_same_every_time(model: Path, tmp_path: Path) -> None:
    """Two exports of one model do not differ in a byte."""
    for name in ("first", "second"):
        export_weights(model, tmp_path / name)

    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_export_names_nobody(model: Path, tmp_path: Path) -> None:
    """What people write into plans, dataset.json, logs and paths stays behind."""
    assert SECRET.encode() in (model / "fold_0" / "checkpoint_final.pth").read_bytes()

    export_weights(model, tmp_path / "out")

    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        assert SECRET.encode() not in content
        assert str(tmp_path).encode() not in content


def test_manifest_says_what_the_model_is(model: Path, tmp_path: Path) -> None:
    """Trainer, configuration, axes and epochs come from the checkpoints."""
    export_weights(model, tmp_path / "out")

    content = json.loads((tmp_path / "out" / "model.json").read_text())
    assert content["trainer"] == "FCADenseTrainer"
    assert content["configuration"] == "2d"
    assert content["mirroring_axes"] == [0, 2]
    assert list(content["plans"]["configurations"]) == ["2d"]
    assert content["dataset"]["labels"] == {"background": 0, "lesion": 1}
    assert {f["epochs"] for f in content["files"].values()} == {7}
    assert content["tensors"]["network.head.weight"]["dtype"] == "float32"


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    """A U-Net of nnU-Net's library names most tensors twice; the file does not."""
    model = make_model(tmp_path / "unet", architecture=UNET)

    manifest = export_weights(model, tmp_path / "out")

    names = torch.load(model / "fold_0/checkpoint_final.pth", weights_only=False)[
        "network_weights"
    ]
    assert 0 < len(manifest.tensors) < len(names)
    assert set(load_file(tmp_path / "out/fold_0.safetensors")) == set(manifest.tensors)


def test_tensors_keep_their_type(tmp_path: Path) -> None:
    """Half precision stays half precision."""

    def halve(checkpoint: dict[str, Any]) -> None:
        for name, tensor in checkpoint["network_weights"].items():
            if tensor.is_floating_point():
                checkpoint["network_weights"][name] = tensor.half()

    manifest = export_weights(
        make_model(tmp_path / "model", change=halve), tmp_path / "out"
    )

    assert {dtype for _, dtype in manifest.tensors.values()} == {"float16", "int64"}


def _spoil(checkpoint: dict[str, Any]) -> None:
    checkpoint["network_weights"]["network.head.bias"][0] = float("nan")


def _shrink(checkpoint: dict[str, Any]) -> None:
    checkpoint["network_weights"]["network.head.bias"] = torch.zeros(1)


def _drop(checkpoint: dict[str, Any]) -> None:
    del checkpoint["network_weights"]["network.head.bias"]


def _add(checkpoint: dict[str, Any]) -> None:
    checkpoint["network_weights"]["network.more"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_spoil, "'network.head.bias' in .* has NaN"),
        (_shrink, r"'network.head.bias' has shape \(1,\), not \(2,\)"),
        (_drop, "'network.head.bias' is missing"),
        (_add, "'network.more' is unknown"),
        (lambda c: c.update(trainer_name="os"), "trainer must be .* Got 'os'"),
        (
            lambda c: c.update(inference_allowed_mirroring_axes=(0, 7)),
            "mirroring axes .* must be from 0 to 2",
        ),
        (
            lambda c: c["init_args"].update(configuration="2d_n9"),
            "configuration must be one of 2d, 2d_heir. Got '2d_n9'",
        ),
    ],
)
def test_unusable_checkpoints_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    """Weights that do not fit the plans are not exported, and nothing is left."""
    model = make_model(tmp_path / "model", change=change)

    with pytest.raises(ValueError, match=message):
        export_weights(model, tmp_path / "out")

    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_folds_of_other_models_are_refused(model: Path, tmp_path: Path) -> None:
    """A fold that was trained with another trainer does not belong."""
    path = model / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    torch.save(checkpoint | {"inference_allowed_mirroring_axes": None}, path)

    with pytest.raises(ValueError, match=r"fold_1.* differs from fold 0"):
        export_weights(model, tmp_path / "out")

    assert list(export_weights(model, tmp_path / "out", folds=["1"]).files) == ["1"]
    with pytest.raises(ValueError, match="fold must be a number or 'all'"):
        export_weights(model, tmp_path / "other", folds=["../fold_0"])


def test_only_exports_are_replaced(model: Path, tmp_path: Path) -> None:
    """A folder is replaced on request, and only if it holds an export."""
    export_weights(model, tmp_path / "out")
    with pytest.raises(FileExistsError, match="--overwrite"):
        export_weights(model, tmp_path / "out")
    export_weights(model, tmp_path / "out", folds=["0"], overwrite=True)
    assert not (tmp_path / "out" / "fold_1.safetensors").exists()

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"has no model\.json"):
        export_weights(model, tmp_path / "mine", overwrite=True)


def test_folds_are_found_in_order(tmp_path: Path) -> None:
    """Numbers before `all`; folders without the checkpoint do not count."""
    for name in ("fold_10", "fold_2", "fold_all", "fold_x", "fold_02", "fold_3"):
        (tmp_path / name).mkdir()
        if name != "fold_3":
            (tmp_path / name / "checkpoint_best.pth").touch()

    assert find_folds(tmp_path, "checkpoint_best.pth") == ["2", "10", "all"]
    with pytest.raises(FileNotFoundError, match=r"fold_X with checkpoint_final\.pth"):
        find_folds(tmp_path, "checkpoint_final.pth")
