"""Declarations in ``plans/``: complete, valid, and as the paper's tables say."""

from __future__ import annotations

import pydoc

import pytest
import torch

from nnunet_cel.planning.declarations import BASE, architecture, configurations
from nnunet_cel.settings import Settings


def test_base_configuration_is_the_paper() -> None:
    """``2d`` comes first, with FCA-DenseNet and the default settings."""
    declared = configurations()

    assert next(iter(declared)) == BASE
    assert declared[BASE]["network"] == "fcadensenet"
    assert declared[BASE]["settings"] == {}


@pytest.mark.parametrize("name", configurations())
def test_every_configuration_is_valid(name: str) -> None:
    """Settings are accepted, and the network can be built."""
    declared = configurations()[name]
    entry = architecture(declared["network"])
    kwargs = dict(entry["arch_kwargs"])
    for key in entry["_kw_requires_import"]:
        kwargs[key] = pydoc.locate(kwargs[key])
    network = pydoc.locate(entry["network_class_name"])

    settings = Settings(**declared["settings"])

    assert callable(network)
    with torch.device("meta"):  # shapes only: TransUNet has 105 M weights
        network(input_channels=settings.stack_size, num_classes=2, **kwargs)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("2d_64", "training_window", 64),
        ("2d_64_fcdensenet", "training_window", 64),
        ("2d_64_unet", "training_window", 64),
        ("2d_64_resunet", "training_window", 64),
        ("2d_64_attentionunet", "training_window", 64),
        ("2d_64_transunet", "training_window", 64),
        ("2d_ce", "loss", "cross_entropy"),
        ("2d_dice", "loss", "dice"),
        ("2d_alpha10", "lesion_weight", 0.10),
        ("2d_alpha25", "lesion_weight", 0.25),
        ("2d_alpha50", "lesion_weight", 0.50),
        ("2d_alpha90", "lesion_weight", 0.90),
        ("2d_n0", "neighbor_pairs", 0),
        ("2d_n2", "neighbor_pairs", 2),
        ("2d_n3", "neighbor_pairs", 3),
    ],
)
def test_ablations_differ_in_one_setting(
    name: str, setting: str, value: object
) -> None:
    """The name of an ablation says what it changes."""
    assert configurations()[name]["settings"] == {setting: value}


def test_architecture_arguments_can_be_replaced() -> None:
    """Known arguments are replaced, unknown ones of other networks left out."""
    entry = architecture("fcdensenet", gradient_checkpointing=True, attention="down")

    assert entry["arch_kwargs"]["gradient_checkpointing"] is True
    assert "attention" not in entry["arch_kwargs"]
