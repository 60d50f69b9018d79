"""Studies on phantoms, and evaluations of their models, for several tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.study.study import Study, parse_study

DATA = {"wmh": {"phantoms": {"isbi2015": 3}}, "cel": {"phantoms": {"cel-bids": 4}}}

NETWORKS = [
    *("fcadensenet", "fcdensenet", "unet", "resunet", "attentionunet", "transunet")
]
"""Those of the paper."""


def make_study(**content: Any) -> Study:
    """Return a study on phantoms."""
    return parse_study({"data": DATA, **content}, folder=Path("/nowhere"))


def write_evaluation(folder: Path, values: dict[str, Any]) -> None:
    """Write an evaluation with metrics of each case; those not given are 0.5."""
    cases = pd.DataFrame({**dict.fromkeys(METRICS, 0.5), **values})
    cases.insert(0, "case", [f"case_{number:02d}" for number in cases.index])
    folder.mkdir(parents=True)
    write_table(
        folder / "cases.csv", cases.assign(reference_ml=1.0, reference_lesions=1)
    )
    (folder / "summary.json").write_text(json.dumps({"protocol": {"name": "paper"}}))


def write_log(folder: Path, seconds: list[float]) -> None:
    """Write the log of a training with the times of its epochs."""
    folder.mkdir(parents=True)
    text = ""
    for epoch, time in enumerate(seconds):
        text += f"Epoch {epoch}\ntrain_loss 0.{5 - epoch}\nval_loss 0.5\n"
        text += f"Pseudo dice [0.1]\nEpoch time: {time} s\n"
    (folder / "training_log_2024_1_1_00_00_00.txt").write_text(text)
