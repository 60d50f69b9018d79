"""Reads what was measured of the methods of a study, and sums it up.

Words:

- *group*: the cases of one fold (Table 3) or of one split (all others).
- *over*: what mean and SD of a number are taken over: the cases of the only group, or
  the means of several groups, as in Table 3 of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.comparison import read_evaluation
from nnunet_cel.evaluation.summary import bootstrap_interval, summarize_values
from nnunet_cel.study.models import CROSS_VALIDATION, Method, evaluation_folders
from nnunet_cel.study.study import Study

__all__ = ["Measured", "read_measured", "summarize"]


@dataclass(frozen=True)
class Measured:
    """What was measured of a method.

    Args:
        method: The method.
        groups: The cases of each group; ``protocol`` is a column.
        folders: The evaluation of each group, relative to the study.
    """

    method: Method
    groups: Mapping[str, pd.DataFrame]
    folders: Mapping[str, str]

    @property
    def in_folds(self) -> bool:
        """Whether groups are folds, so that each case is in one group only."""
        return self.method.stage == CROSS_VALIDATION

    def cases(self, groups: Sequence[str]) -> pd.DataFrame:
        """Return the cases of several groups in one table."""
        return pd.concat([self.groups[group] for group in groups], ignore_index=True)


def read_measured(
    study: Study, home: Path, method: Method, *, partial: bool = False
) -> Measured:
    """Read the evaluations of a method.

    Args:
        study: The study.
        home: Its folder.
        method: The method.
        partial: Whether evaluations that are missing are left out.

    Raises:
        FileNotFoundError: If an evaluation is missing and `partial` is False.
        ValueError: If one is damaged.
    """
    groups, folders = {}, {}
    for group, folder in evaluation_folders(study, method).items():
        if partial and not (home / folder / "summary.json").is_file():
            continue
        cases, summary = read_evaluation(home / folder)
        groups[group] = cases.assign(protocol=str(summary["protocol"]))
        folders[group] = folder
    return Measured(method, groups, folders)


def summarize(measured: Measured, metric: str) -> dict[str, Any]:
    """Return `over`, `n`, `mean`, `sd` and the 95 % interval of a metric.

    With several groups `n` is their number, and mean and SD are those of their means.
    The interval comes from a bootstrap over all cases; there is none for several
    splits, which share patients.
    """
    columns = [
        t[metric].dropna().to_numpy(dtype=float) for t in measured.groups.values()
    ]
    pooled = np.concatenate(columns) if columns else np.array([])
    if len(columns) < 2:
        over, summary = "cases", summarize_values(pooled)
    else:
        over = "folds" if measured.in_folds else "splits"
        summary = summarize_values(np.array([c.mean() for c in columns if len(c)]))
        low, high = math.nan, math.nan
        if measured.in_folds:
            low, high = bootstrap_interval(pooled)
        summary |= {"ci_low": low, "ci_high": high}
    keep = ("n", "mean", "sd", "ci_low", "ci_high")
    return {"over": over, **{key: summary[key] for key in keep}}
