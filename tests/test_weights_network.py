"""Networks are built without memory, and weights compared with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_weights_export import UNET, make_dataset, make_network, make_plans

from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.training.trainer import FCADenseTrainer
from nnunet_cel.weights.network import (
    build_network,
    check_fit,
    find_trainer,
    tied_tensors,
)
from nnunet_cel.weights.plans import check_plans, reduce_dataset, reduce_plans

STOCK = {
    "network_class_name": (
        "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    ),
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def build(plans: dict[str, Any], trainer: str = "FCADenseTrainer") -> torch.nn.Module:
    """Return the network of plans as an import builds it."""
    reduced, dataset = reduce_plans(plans, "2d"), reduce_dataset(make_dataset())
    check_plans(reduced, "2d")
    return build_network(reduced, dataset, configuration="2d", trainer=trainer)


@pytest.mark.parametrize(
    "name", sorted({c["network"] for c in configurations().values()})
)
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_networks_of_the_plans_are_built_without_memory(name: str) -> None:
    """Every network that the planner declares passes the checks, on the meta device."""
    if name == "attentionunet":
        pytest.importorskip("monai")

    network = build(make_plans(architecture(name)))

    state = network.state_dict()
    assert len(state) > 100
    assert {tensor.device.type for tensor in state.values()} == {"meta"}


def test_network_is_the_one_that_trains() -> None:
    """Names, shapes and kinds are those of a network with memory."""
    real = make_network(make_plans(), make_dataset())

    check_fit(real.state_dict(), build(make_plans()), source="here")


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerNoDeepSupervision"])
def test_networks_of_stock_nnunet_are_built(trainer: str) -> None:
    """Plans and trainers of nnU-Net itself can be exported as well."""
    network = build(make_plans(STOCK), trainer)

    assert type(network).__name__ == "PlainConvUNet"
    assert tied_tensors(network)


def test_tied_tensors_are_one_tensor() -> None:
    """Names that a network holds one tensor under are told apart from others."""
    network = make_network(make_plans(UNET), make_dataset())
    state = network.state_dict()

    tied = tied_tensors(network)

    assert tied
    for name, stored in tied.items():
        assert stored not in tied
        assert state[name].data_ptr() == state[stored].data_ptr()
    untied = [state[name].data_ptr() for name in state if name not in tied]
    assert len(set(untied)) == len(untied)


@pytest.mark.parametrize(
    "name",
    [
        *("os", "np", "nnUNetLogger", "nnUNetTrainer.x", "FCADensePlanner"),
        *("nnUNetTrainerUnheardOf", "__builtins__", "", "nnUNetTrainer\n"),
    ],
)
def test_other_trainers_are_refused(name: str) -> None:
    """Objects that nnU-Net's modules happen to hold are no trainers."""
    with pytest.raises(ValueError, match="trainer must be FCADenseTrainer"):
        find_trainer(name)


def test_our_trainer_is_found() -> None:
    """The name in a checkpoint leads to the class."""
    assert find_trainer("FCADenseTrainer") is FCADenseTrainer


def test_folders_of_the_user_are_not_searched(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer in nnUNet_extTrainer, which nnU-Net would import, stays out."""
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))

    with pytest.raises(ValueError, match="trainer must be"):
        find_trainer("nnUNetTrainerMine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"down_layers": [4000] * 8}, "more than 300 modules"),
        ({"down_layers": "many"}, "cannot be built"),
        ({"growth_rate": -4}, "cannot be built"),
        ({"growth_rate": None}, "cannot be built"),
        ({"unheard_of": 1}, "cannot be built"),
        ({"input_channels": 1}, "cannot be built"),
    ],
)
def test_strange_networks_end_in_a_message(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments that pass the checks but make no network, or one without an end."""
    monkeypatch.setattr("nnunet_cel.weights.network._MOST_MODULES", 300)
    plans = make_plans()
    entry = plans["configurations"]["2d"]
    network = entry["architecture"]
    entry["architecture"] = network | {
        "arch_kwargs": network["arch_kwargs"] | arguments
    }

    with pytest.raises(ValueError, match=message):
        build(plans)


def test_weights_must_fit() -> None:
    """The first three misfits are named, the others counted."""
    network = build(make_plans())
    state = dict(network.state_dict())
    state["network.head.bias"] = torch.zeros(2, dtype=torch.int64)
    state["network.head.weight"] = torch.zeros(3, 1)
    state["more"] = torch.zeros(1)
    del state["network.stem.weight"]

    with pytest.raises(ValueError, match="here must be") as caught:
        check_fit(state, network, source="here")

    text = str(caught.value)
    assert "'network.stem.weight' is missing; 'more' is unknown; " in text
    assert "'network.head.weight' has shape (3, 1), not (2, " in text
    assert "and 1 more" in text
