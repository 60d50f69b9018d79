"""Tests of what is checked before the first job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from studies import DATA, make_study

from nnunet_cel.study.feasibility import check_feasible
from nnunet_cel.study.study import Study


def study(**content: Any) -> Study:
    """Return a small study."""
    small = {"tables": [6], "figures": [], "networks": ["unet"], "device": "cpu"}
    return make_study(**small | content)


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the keys of the study; but a login node needs no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wmh = {"sources": {"isbi2015": "/none/a", "wmh2017": "/none/b"}}
    ours = study(
        data={"wmh": wmh, "cel": {"dataset": "/none/Dataset502_CEL"}},
        networks=["unet", "transunet"],
        device="cuda",
        training={
            "arch_kwargs": {
                "unet": {"features": []},
                "transunet": {"pretrained_file": "/none/c.npz"},
            }
        },
    )
    for local in (True, False):
        with pytest.raises(ValueError, match=r"'training.arch_kwargs.unet'") as error:
            check_feasible(ours, local=local)

        assert ("Got 'cuda' instead" in str(error.value)) == local
        for key in (
            *("data.wmh.sources.isbi2015", "data.wmh.sources.wmh2017"),
            *("data.cel.dataset", "training.arch_kwargs.transunet.pretrained_file"),
        ):
            expected = f"'{key}' of the study must exist. There is no /none"
            assert expected in str(error.value)


def test_test_half_must_have_lesions(
    tmp_path: Path, dataset_writer: Callable[..., Path]
) -> None:
    """Where there is nothing to find, nothing can be measured."""
    dataset = dataset_writer(tmp_path / "my data", "Dataset510_CEL", cases=2)
    ours = study(data={**DATA, "cel": {"dataset": str(dataset)}})
    with pytest.raises(ValueError, match="must have a test half with lesions"):
        check_feasible(ours)

    (dataset / "labelsTs").mkdir()
    path = dataset / "labelsTs" / "case_00.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)
    with pytest.raises(ValueError, match="must have a test half with lesions"):
        check_feasible(ours)

    shutil.copy(dataset / "labelsTr" / path.name, path)
    check_feasible(ours)
