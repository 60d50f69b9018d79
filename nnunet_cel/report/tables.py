"""Every table of the page, for its CSV file."""

from __future__ import annotations

import pandas as pd

from nnunet_cel.evaluation.comparison import Comparison
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.results import Results

__all__ = ["make_tables"]


def make_tables(
    results: Results,
    *,
    comparison: Comparison | None = None,
    training: pd.DataFrame | None = None,
) -> dict[str, pd.DataFrame]:
    """Return every table of the page, by the name of its file.

    Args:
        results: The results of the evaluation.
        comparison: Comparison with other models.
        training: What :func:`~nnunet_cel.report.training_log.read_training` returned.
    """
    summary = results.summary
    tables = {
        "cases": results.cases.sort_values(["DSC", "case"], na_position="last"),
        "lesions": results.lesions,
        "summary": results.metrics,
        "paper": pd.DataFrame(
            [
                {
                    "metric": short,
                    "mean": summary["metrics"][short]["mean"],
                    "sd": summary["metrics"][short]["sd"],
                    "n": summary["metrics"][short]["n"],
                    "table_6_mean": TABLE_6[short][0],
                    "table_6_sd": TABLE_6[short][1],
                }
                for short in PAPER_METRICS
            ]
        ),
        "scans": pd.DataFrame(
            [
                {"quantity": name, **summary["scans"][name]}
                for name in ("sensitivity", "specificity")
            ]
        ),
        "sizes": pd.DataFrame(
            [
                {
                    "size_bin": name,
                    **row["sensitivity"],
                    "predicted_hit": row["predicted_hit"],
                    "predicted_false": row["predicted_false"],
                }
                for name, row in summary["sizes_mm3"].items()
            ]
        ),
        "protocol": pd.DataFrame(
            [
                {"metric": name, **values}
                for name, values in summary["protocol"]["edge_cases"].items()
            ]
        ),
        "versions": pd.DataFrame(
            [
                {"program": name, "version": version}
                for name, version in summary["versions"].items()
            ]
        ),
    }
    if summary["thresholds"]:
        tables["thresholds"] = pd.DataFrame(
            [
                {"wanted": row["wanted"], **(row["found"] or {})}
                for row in summary["thresholds"]["for_lfdr"]
            ]
        )
    optional = {
        "froc": results.froc,
        "calibration": results.calibration,
        "models": None if comparison is None else comparison.models,
        "tests": None if comparison is None else comparison.tests,
        "training": training,
    }
    return tables | {k: table for k, table in optional.items() if table is not None}
