"""Tests of what is checked before the first job."""

from __future__ import annotations

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
from studies import DATA, make_study

from nnunet_cel.study import feasibility
from nnunet_cel.study.feasibility import check_feasible
from nnunet_cel.study.models import model_folder, trainings
from nnunet_cel.study.study import Study


def study(**content: Any) -> Study:
    """Return a small study."""
    small = {"tables": [6], "figures": [], "networks": ["unet"], "device": "cpu"}
    return make_study(**small | content)


def problem(ours: Study, out: Path) -> str:
    """Return what is said of a study that cannot be done."""
    with pytest.raises(ValueError, match=r"must|problems|needs") as error:
        check_feasible(ours, out)
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
    return study(data={**DATA, "cel": {"dataset": str(dataset)}})


def test_study_that_can_be_done_passes(dataset: Path, tmp_path: Path) -> None:
    """Nothing is written."""
    check_feasible(with_cel(dataset), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """By the keys of the study, with the paths that were looked at."""
    wmh = {"sources": {"isbi2015": "/none/a", "wmh2017": "/none/b"}}
    cel = {"dataset": "/none/Dataset502_CEL"}
    ours = study(
        data={"wmh": wmh, "cel": cel},
        training={"arch_kwargs": {"unet": {"features": []}}},
        nnunet={"configurations": ["2d"], "trainer": "nnUNetTrainer_none"},
    )
    message = problem(ours, tmp_path / "out")

    assert "has 5 problems" in message
    for key in ("wmh.sources.isbi2015", "wmh.sources.wmh2017", "cel.dataset"):
        assert f"'data.{key}' of the study must exist. There is no /none" in message
    assert "'training.arch_kwargs.unet' of the study must be what" in message
    assert "'nnunet.trainer' of the study must be" in message


def test_test_half_must_have_lesions(dataset: Path, tmp_path: Path) -> None:
    """Where there is nothing to find, nothing can be measured."""
    empty = nibabel.Nifti1Image(np.zeros((40, 44, 36), np.uint8), np.eye(4))
    nibabel.save(empty, dataset / "labelsTs" / "case_00.nii.gz")
    message = problem(with_cel(dataset), tmp_path / "out")
    assert "must have lesions in its test half" in message

    shutil.rmtree(dataset / "labelsTs")
    message = problem(with_cel(dataset), tmp_path / "out")
    assert "must have a test half" in message


def test_channels_must_agree(dataset: Path, tmp_path: Path) -> None:
    """Weights of one input channel do not fit into a network with two."""
    other = shutil.copytree(dataset, dataset.parent / "Dataset511_WMH")
    content = json.loads((other / "dataset.json").read_text())
    content["channel_names"] = {"0": "FLAIR", "1": "T1"}
    (other / "dataset.json").write_text(json.dumps(content))
    data = {"wmh": {"dataset": str(other)}, "cel": {"dataset": str(dataset)}}
    assert "same number of channels" in problem(study(data=data), tmp_path / "out")

    (other / "dataset.json").unlink()
    message = problem(study(data=data), tmp_path / "out")
    assert "must have a dataset.json with channel_names" in message


def test_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how much is needed and how much is free."""
    monkeypatch.setattr(
        feasibility.shutil, "disk_usage", lambda _: SimpleNamespace(free=2e6)
    )

    assert "0.0 GB are free: make room" in problem(study(), tmp_path / "a" / "b")


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
