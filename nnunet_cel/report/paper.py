"""Results of the paper, to put an evaluation beside them.

Huang L, Zhao Z, An L, et al. Quant Imaging Med Surg 2024;14(1):273-290, Table 6: the
models after fine-tuning, on the testing set of the local data set.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PAPER_METRICS", "TABLE_6", "TABLE_6_NOTE"]

PAPER_METRICS = ("DSC", "PPV", "TPR", "VD", "LFDR", "L-sens")
"""The paper's metrics, in the order of its tables."""

TABLE_6: Mapping[str, tuple[float, float]] = {
    "DSC": (0.661, 0.187),
    "PPV": (0.719, 0.201),
    "TPR": (0.680, 0.254),
    "VD": (0.388, 0.334),
    "LFDR": (0.416, 0.295),
    "L-sens": (0.768, 0.230),
}
"""Mean and standard deviation of FCA-DenseNet, by metric."""

TABLE_6_NOTE = (
    "Table 6 is of other data: FCA-DenseNet after fine-tuning, tested on half of 24 "
    "patients (21 with MS, 3 with NMOSD) of one center and one 3 T scanner. A "
    "difference to it can come from patients, scanner and readers as well as from the "
    "model."
)
