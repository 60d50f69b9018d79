"""Tests of the folder of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import DATA, make_study

from nnunet_cel.study.folder import (
    RECORD,
    begin,
    continued_study,
    refuse_other_study,
)


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    """A new or an empty one is taken."""
    refuse_other_study(make_study(), tmp_path / "new")
    refuse_other_study(make_study(), tmp_path)
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(FileExistsError, match="must be empty or an earlier run's"):
        refuse_other_study(make_study(), tmp_path)


def test_what_models_depend_on_cannot_change(tmp_path: Path) -> None:
    """Until something is done, all may; later tables, networks and resources may."""
    begin(make_study(), tmp_path, run={})
    refuse_other_study(make_study(seed=1), tmp_path)
    (tmp_path / "done").mkdir()

    refuse_other_study(
        make_study(tables=[6], networks=["unet"], resources={"train": {"threads": 1}}),
        tmp_path,
    )
    with pytest.raises(
        ValueError, match=r"seed was 0 and is 1; training.folds was 5 and is 2"
    ):
        refuse_other_study(make_study(seed=1, training={"folds": 2}), tmp_path)


def test_study_is_read_back(tmp_path: Path) -> None:
    """Steps of the workflow know what they are part of."""
    begin(make_study(seed=4), tmp_path, run={"gpus": 1})

    assert continued_study(tmp_path) == make_study(seed=4)
    with pytest.raises(FileNotFoundError, match="There is no study"):
        continued_study(tmp_path / "raw")


def test_existing_data_set_is_linked(tmp_path: Path) -> None:
    """Its scans are not copied; a second run finds its link."""
    dataset = tmp_path / "with space" / "Dataset510_Mine"
    dataset.mkdir(parents=True)
    ours = make_study(data={**DATA, "wmh": {"dataset": str(dataset)}})
    for _ in range(2):
        begin(ours, tmp_path / "out", run={})

    assert (tmp_path / "out" / "raw" / dataset.name).resolve() == dataset.resolve()
    assert (tmp_path / "out" / RECORD).is_file()
