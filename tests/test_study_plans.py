"""Tests of the settings of a study in plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from studies import make_study

from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.study.plans import count_parameters, write_settings


def test_settings_reach_all_configurations_but_what_they_declare_stays(
    tmp_path: Path,
) -> None:
    """A loss and small windows are the row's own; each stage has its own settings."""
    before = {"training_window": None, "max_epochs": 300, "loss": "focal"}
    plans = {
        name: {
            "batch_size": 16,
            "architecture": architecture(declared["network"]),
            "nnunet_cel": before | declared["settings"],
        }
        for name, declared in configurations().items()
    }
    ours = make_study(
        training={
            **{"small_window": 48, "batch_size": 4},
            "arch_kwargs": {"unet": {"features": [8]}},
            "settings": {"max_epochs": 9, "seed": 3, "training_window": 80},
            "pretraining": {"max_epochs": 5},
            "finetuning": {"max_epochs": 7},
        }
    )
    for dataset, epochs in (("Dataset501_WMH", 5), ("Dataset502_CEL", 7)):
        path = tmp_path / dataset / "FCADensePlans.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"configurations": plans}))
        assert write_settings(ours, tmp_path, dataset) == path
        found = json.loads(path.read_text())["configurations"]
        blocks = {name: entry["nnunet_cel"] for name, entry in found.items()}

        assert {entry["batch_size"] for entry in found.values()} == {4}
        assert {block["max_epochs"] for block in blocks.values()} == {epochs}
        assert {block["seed"] for block in blocks.values()} == {3}
        assert blocks["2d"]["training_window"] == 80
        assert blocks["2d_64_unet"]["training_window"] == 48
        assert blocks["2d_ce"]["loss"] == "cross_entropy"
        for name in ("2d_unet", "2d_64_unet"):
            assert found[name]["architecture"]["arch_kwargs"]["features"] == [8]
        assert found["2d"]["architecture"] == architecture("fcadensenet")


def test_networks_are_counted_or_named() -> None:
    """Published: 2.0 million parameters of the U-Net."""
    assert count_parameters(make_study(), "2d_unet") == pytest.approx(2.0e6, rel=0.02)
    ours = make_study(training={"arch_kwargs": {"unet": {"feature": [8]}}})
    with pytest.raises(ValueError, match=r"'training.arch_kwargs.unet' of the"):
        count_parameters(ours, "2d_unet")
