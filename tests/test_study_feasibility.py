"""Tests of what is checked before the first job."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from nnunet_cel.study import feasibility
from nnunet_cel.study.feasibility import check_feasible
from nnunet_cel.study.models import model_folder, trainings
from nnunet_cel.study.study import Study, parse_study

PHANTOMS = {
    "wmh": {"phantoms": {"isbi2015": 3}},
    "cel": {"phantoms": {"cel-bids": 4}},
}
SMALL = {"tables": [6], "figures": [], "networks": ["unet"], "device": "cpu"}


def study(**content: Any) -> Study:
    """Return a small study."""
    return parse_study({"data": PHANTOMS, **SMALL, **content}, folder=Path("/nowhere"))


def problem(ours: Study, out: Path, **options: Any) -> str:
    """Return what is said of a study that cannot be done."""
    with pytest.raises(ValueError, match=r"must|problems|needs") as error:
        check_feasible(ours, out, **options)
    return str(error.value)


@pytest.fixture
def dataset(tmp_path: Path, dataset_writer: Callable[..., Path]) -> Path:
    """A raw data set with one scan in its test half, which has lesions."""
    folder = dataset_writer(tmp_path / "my data", "Dataset510_CEL", cases=2)
    (folder / "labelsTs").mkdir()
    shutil.copy(folder / "labelsTr" / "case_00.nii.gz", folder / "labelsTs")
    return folder


def with_cel(dataset: Path) -> Study:
    """Return a study on a CEL data set that exists."""
    return study(data={**PHANTOMS, "cel": {"dataset": str(dataset)}})


def test_study_that_can_be_done_passes(dataset: Path, tmp_path: Path) -> None:
    """Nothing is written."""
    check_feasible(with_cel(dataset), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_missing_data_are_named_by_their_keys(tmp_path: Path) -> None:
    """All of them at once."""
    data = {
        "wmh": {"sources": {"isbi2015": "/none/a", "wmh2017": "/none/b"}},
        "cel": {"source": "/none/c"},
    }
    message = problem(study(data=data), tmp_path / "out")

    assert "has 3 problems" in message
    for key in ("wmh.sources.isbi2015", "wmh.sources.wmh2017", "cel.source"):
        assert f"'data.{key}' of the study must exist" in message


def test_missing_data_set_is_named(tmp_path: Path) -> None:
    """The message has the path that was looked at."""
    message = problem(with_cel(tmp_path / "Dataset502_CEL"), tmp_path / "out")

    assert "'data.cel.dataset' of the study must exist" in message
    assert str(tmp_path / "Dataset502_CEL") in message


def test_test_half_must_have_lesions(dataset: Path, tmp_path: Path) -> None:
    """Where there is nothing to find, nothing can be measured."""
    path = dataset / "labelsTs" / "case_00.nii.gz"
    empty = nibabel.Nifti1Image(np.zeros((40, 44, 36), np.uint8), np.eye(4))
    nibabel.save(empty, path)

    assert "must have lesions in its test half" in problem(
        with_cel(dataset), tmp_path / "out"
    )


def test_test_half_must_exist(dataset: Path, tmp_path: Path) -> None:
    """A data set of training scans only is no study."""
    shutil.rmtree(dataset / "labelsTs")

    assert "must have a test half" in problem(with_cel(dataset), tmp_path / "out")


def test_channels_must_agree(dataset: Path, tmp_path: Path) -> None:
    """Weights of one input channel do not fit into a network with two."""
    other = shutil.copytree(dataset, dataset.parent / "Dataset511_WMH")
    content = json.loads((other / "dataset.json").read_text())
    content["channel_names"] = {"0": "FLAIR", "1": "T1"}
    (other / "dataset.json").write_text(json.dumps(content))
    data = {"wmh": {"dataset": str(other)}, "cel": {"dataset": str(dataset)}}

    assert "same number of channels" in problem(study(data=data), tmp_path / "out")


def test_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how much is needed and how much is free."""
    monkeypatch.setattr(
        feasibility.shutil, "disk_usage", lambda _: SimpleNamespace(free=2e6)
    )

    assert "0.0 GB are free: make room" in problem(study(), tmp_path / "a" / "b")


def test_networks_are_built_from_their_arguments(tmp_path: Path) -> None:
    """Arguments that do not fit are an error of the study, not of a job."""
    wrong = study(training={"arch_kwargs": {"unet": {"features": []}}})

    assert "'training.arch_kwargs.unet'" in problem(wrong, tmp_path / "out")


def test_options_are_those_of_the_converter(tmp_path: Path) -> None:
    """It says itself what it does not know."""
    data = {**PHANTOMS, "cel": {**PHANTOMS["cel"], "options": ["--test-fractoin", "1"]}}

    message = problem(study(data=data), tmp_path / "out")
    assert "'data.cel.options'" in message
    assert "--test-fractoin" in message


def test_unknown_trainer_is_noticed(tmp_path: Path) -> None:
    """Only where a model of it is wanted."""
    trainer = {"trainer": "nnUNetTrainer_none"}
    check_feasible(study(nnunet=trainer), tmp_path / "out")
    wanted = study(nnunet={"configurations": ["2d"], **trainer})

    assert "'nnunet.trainer'" in problem(wanted, tmp_path / "out")


def test_phantoms_need_their_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "nilearn" else find(n)
    )

    assert "nnunet-cel[demo]" in problem(study(), tmp_path / "out")


def test_device_of_other_machines_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node has no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert "Got 'cuda' instead" in problem(study(device="cuda"), tmp_path / "out")
    check_feasible(study(device="cuda"), tmp_path / "out", local=False)


def test_models_that_exist_need_no_more_space(tmp_path: Path) -> None:
    """A study that goes on asks for what is left."""
    ours = study()
    before = check_feasible(ours, tmp_path)
    for model in trainings(ours):
        (tmp_path / model_folder(ours, *model)).mkdir(parents=True)
    plans = tmp_path / "preprocessed" / "Dataset501_WMH" / "FCADensePlans.json"
    plans.parent.mkdir(parents=True)
    plans.touch()

    # values and two moments of Adam of 2.0 million parameters, in two checkpoints of
    # five folds and of one fine-tuning
    assert before - check_feasible(ours, tmp_path) > 6 * 2 * 3 * 4 * 2.0e6
