"""Declarations in ``plans/``: complete, valid, and as the paper's tables say."""

from __future__ import annotations

import pydoc

import pytest
import torch

from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.settings import Settings

NETWORKS = ("fcdensenet", "unet", "resunet", "attentionunet", "transunet")


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


def test_configurations_are_those_of_the_paper() -> None:
    """``2d`` comes first; others differ in what their name says, and in that only."""
    declared = configurations()

    assert next(iter(declared.items())) == (
        "2d",
        {"network": "fcadensenet", "settings": {}},
    )
    for name in NETWORKS:
        assert declared[f"2d_{name}"] == {"network": name, "settings": {}}
        small = {"network": name, "settings": {"training_window": 64}}
        assert declared[f"2d_64_{name}"] == small
    settings = {name: value["settings"] for name, value in declared.items()}
    assert settings["2d_64"] == {"training_window": 64}
    assert [settings[f"2d_{loss}"]["loss"] for loss in ("ce", "dice")] == [
        "cross_entropy",
        "dice",
    ]
    for percent in (10, 25, 50, 90):
        assert settings[f"2d_alpha{percent}"] == {"lesion_weight": percent / 100}
    for pairs in (0, 2, 3):
        assert settings[f"2d_n{pairs}"] == {"neighbor_pairs": pairs}


def test_architecture_arguments_can_be_replaced() -> None:
    """Known arguments are replaced, unknown ones of other networks left out."""
    entry = architecture("fcdensenet", gradient_checkpointing=True, attention="down")

    assert entry["arch_kwargs"]["gradient_checkpointing"] is True
    assert "attention" not in entry["arch_kwargs"]
