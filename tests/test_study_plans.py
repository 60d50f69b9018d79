"""Tests of the settings of a study in plans."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from studies import make_study

from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.study.plans import adapt_plans, write_settings
from nnunet_cel.study.study import Study

PLANS = {
    "dataset_name": "Dataset502_CEL",
    "configurations": {
        name: {
            "patch_size": [96] * 3,
            "batch_size": 16,
            "architecture": architecture(declared["network"]),
            "nnunet_cel": {
                "training_window": None,
                "max_epochs": 300,
                "loss": "focal",
                **declared["settings"],
            },
        }
        for name, declared in configurations().items()
    },
}


def study(**training: Any) -> Study:
    """Return a study on phantoms."""
    return make_study(training=training)


def test_settings_reach_all_configurations_but_what_they_declare_stays() -> None:
    """A loss, a number of neighbors and small windows are the row's own."""
    before = deepcopy(PLANS)
    ours = study(small_window=48, batch_size=4, arch_kwargs={"unet": {"features": [8]}})
    plans = adapt_plans(PLANS, ours, {"max_epochs": 2, "training_window": 80})
    found = plans["configurations"]

    assert before == PLANS
    assert {entry["batch_size"] for entry in found.values()} == {4}
    assert {entry["nnunet_cel"]["max_epochs"] for entry in found.values()} == {2}
    assert found["2d"]["nnunet_cel"]["training_window"] == 80
    assert found["2d_64_unet"]["nnunet_cel"]["training_window"] == 48
    assert found["2d_ce"]["nnunet_cel"]["loss"] == "cross_entropy"
    for name in ("2d_unet", "2d_64_unet"):
        assert found[name]["architecture"]["arch_kwargs"]["features"] == [8]
    assert found["2d"]["architecture"] == PLANS["configurations"]["2d"]["architecture"]


def test_pretraining_and_finetuning_have_settings_of_their_own(tmp_path: Path) -> None:
    """Those of all trainings hold where the stage says nothing."""
    ours = study(
        small_window=32,
        settings={"max_epochs": 9, "seed": 3},
        pretraining={"max_epochs": 5},
        finetuning={"max_epochs": 7},
    )
    found = {}
    for dataset in ("Dataset501_WMH", "Dataset502_CEL"):
        path = tmp_path / dataset / "FCADensePlans.json"
        path.parent.mkdir()
        path.write_text(json.dumps(PLANS))
        assert write_settings(ours, tmp_path, dataset) == path
        block = json.loads(path.read_text())["configurations"]["2d"]["nnunet_cel"]
        found[dataset] = (block["max_epochs"], block["seed"])

    assert found == {"Dataset501_WMH": (5, 3), "Dataset502_CEL": (7, 3)}


def test_windows_fit_into_the_volumes() -> None:
    """The message names the key of the study."""
    with pytest.raises(ValueError, match=r"'training.small_window'.*96 voxels"):
        adapt_plans(PLANS, study(small_window=128), {})
    with pytest.raises(ValueError, match=r"'training.settings.training_window'"):
        adapt_plans(PLANS, study(), {"training_window": 128})


def test_data_set_must_be_planned(tmp_path: Path) -> None:
    """The message says how."""
    with pytest.raises(FileNotFoundError, match="Plan the data set first"):
        write_settings(study(), tmp_path, "Dataset502_CEL")
