"""Tests of what was measured of a method."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import bootstrap_interval
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.study.measured import read_measured, summarize
from nnunet_cel.study.models import evaluation_folders, table_methods
from nnunet_cel.study.study import Study, parse_study

DATA = {"wmh": {"phantoms": {"isbi2015": 3}}, "cel": {"phantoms": {"cel-bids": 4}}}


def study(**content: Any) -> Study:
    """Return a study on phantoms."""
    return parse_study({"data": DATA, **content}, folder=Path("/nowhere"))


def write(folder: Path, dice: list[float]) -> None:
    """Write an evaluation with a DSC of each case."""
    folder.mkdir(parents=True)
    cases = pd.DataFrame(
        {
            "case": [f"{folder.name}_{number}" for number in range(len(dice))],
            **dict.fromkeys(METRICS, 0.5),
            "DSC": dice,
            "reference_ml": 1.0,
            "reference_lesions": 1,
        }
    )
    write_table(folder / "cases.csv", cases)
    (folder / "summary.json").write_text(json.dumps({"protocol": {"name": "x"}}))


def test_one_group_is_summed_up_over_cases(tmp_path: Path) -> None:
    """Mean and sample SD; a case without a value is left out."""
    ours = study()
    (method, *_) = table_methods(ours, "table6")
    (folder,) = evaluation_folders(ours, method).values()
    write(tmp_path / folder, [0.1, 0.5, 0.6, math.nan])
    found = summarize(read_measured(ours, tmp_path, method), "DSC")

    assert (found["over"], found["n"]) == ("cases", 3)
    assert found["mean"] == pytest.approx(0.4)
    assert found["sd"] == pytest.approx(np.std([0.1, 0.5, 0.6], ddof=1))
    assert found["ci_low"] < 0.4 < found["ci_high"]


def test_folds_are_summed_up_over_their_means(tmp_path: Path) -> None:
    """As in Table 3; the interval is that of all cases, each in one fold."""
    ours = study(training={"folds": 2})
    (method, *_) = table_methods(ours, "table3")
    values = [[0.2, 0.4], [0.5, 0.6, 0.7]]
    for folder, dice in zip(
        evaluation_folders(ours, method).values(), values, strict=True
    ):
        write(tmp_path / folder, dice)
    found = summarize(read_measured(ours, tmp_path, method), "DSC")

    assert (found["over"], found["n"]) == ("folds", 2)
    assert found["mean"] == pytest.approx((0.3 + 0.6) / 2)
    assert found["sd"] == pytest.approx(np.std([0.3, 0.6], ddof=1))
    assert (found["ci_low"], found["ci_high"]) == bootstrap_interval(
        np.array([0.2, 0.4, 0.5, 0.6, 0.7])
    )


def test_splits_share_patients_and_have_no_interval(tmp_path: Path) -> None:
    """Mean and SD are those of the means of splits."""
    ours = study(splits=2)
    (method, *_) = table_methods(ours, "table6")
    for folder, dice in zip(
        evaluation_folders(ours, method).values(), [[0.2, 0.4], [0.6]], strict=True
    ):
        write(tmp_path / folder, dice)
    found = summarize(read_measured(ours, tmp_path, method), "DSC")

    assert (found["over"], found["n"]) == ("splits", 2)
    assert found["mean"] == pytest.approx(0.45)
    assert math.isnan(found["ci_low"])


def test_missing_evaluations_are_left_out_on_demand(tmp_path: Path) -> None:
    """Otherwise they are an error that names the folder."""
    ours = study()
    (method, *_) = table_methods(ours, "table6")

    assert read_measured(ours, tmp_path, method, partial=True).groups == {}
    with pytest.raises(FileNotFoundError, match="evaluations/finetuned"):
        read_measured(ours, tmp_path, method)
