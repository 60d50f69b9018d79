"""Tests of the comparison of models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_cel.evaluation.comparison import (
    compare_evaluations,
    compare_pair,
    holm,
    read_evaluation,
)
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.tables import plain, write_table


def write(folder: Path, values: pd.DataFrame, protocol: str = "paper") -> Path:
    """Write what is read of an evaluation."""
    folder.mkdir()
    write_table(folder / "cases.csv", values)
    content = {"protocol": plain(load_protocol(protocol).to_dict())}
    (folder / "summary.json").write_text(json.dumps(content))
    return folder


def table(rng: np.random.Generator, cases: int = 12) -> pd.DataFrame:
    """Return random metrics of some cases."""
    return pd.DataFrame(
        {
            "case": [f"{number:03d}" for number in range(cases)],
            **{name: rng.random(cases) for name in METRICS},
            "reference_ml": np.arange(cases) / 10,
            "reference_lesions": np.arange(cases),
        }
    )


@pytest.fixture
def three(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    """Three evaluations; the second has a higher DSC and VD in all cases."""
    first = table(rng)
    second, third = first.copy(), table(rng)
    second[["DSC", "VD"]] += 0.1
    tables = {"a": first, "b": second.iloc[::-1], "c": third}
    return [write(tmp_path / name, values) for name, values in tables.items()]


def test_differences_are_those_of_cases(three: list[Path]) -> None:
    """Cases are paired by name; more is better for DSC and worse for VD."""
    comparison = compare_evaluations(three[:2])

    tests = comparison["tests.csv"].set_index("metric")
    assert tests.loc["DSC", "mean_difference"] == pytest.approx(0.1)
    assert tests.loc["DSC", "effect"] == 1
    assert tests.loc["DSC", "p"] == pytest.approx(2 / 2**12, rel=0.3)
    columns = ["mean_difference", "p", "effect"]
    assert tests.loc["PPV", columns].tolist() == [0, 1, 0]
    assert tests.loc[["DSC", "VD", "PPV"], "better"].tolist() == ["b", "a", ""]
    models = comparison["models.csv"].set_index(["metric", "model"])
    rows = [("DSC", "b"), ("VD", "b"), ("PPV", "a"), ("PPV", "b")]
    assert models.loc[rows, "best"].tolist() == [True, False, True, True]


def test_all_pairs_are_tested_and_corrected(three: list[Path]) -> None:
    """Three models make three pairs per metric, corrected for one another."""
    tests = compare_evaluations(three, names=["x", "y", "z"])["tests.csv"]

    assert len(tests) == 3 * len(METRICS)
    of_dsc = tests[tests["metric"] == "DSC"]
    pairs = list(zip(of_dsc["first"], of_dsc["second"], strict=True))
    assert pairs == [("x", "y"), ("x", "z"), ("y", "z")]
    assert list(of_dsc["p_holm"]) == pytest.approx(holm(list(of_dsc["p"])))
    assert (of_dsc["p_holm"] >= of_dsc["p"]).all()


def test_pair_agrees_with_scipy(rng: np.random.Generator) -> None:
    """The p-value is scipy's, cases without a value are left out."""
    first, second = rng.random(20), rng.random(20)
    gaps = np.where(np.arange(23) < 20, 0.0, math.nan)
    padded = [np.pad(v, (0, 3)) + gaps for v in (first, second)]

    row = compare_pair(*padded)

    assert row["n"] == 20
    assert row["p"] == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert row["ci_low"] < row["mean_difference"] < row["ci_high"]
    # the differences 3, 1 and -2 have ranks 3, 1 and 2
    row = compare_pair(np.zeros(3), np.array([3.0, 1.0, -2.0]))
    assert row["effect"] == pytest.approx((3 + 1 - 2) / 6)


def test_pairs_without_a_difference() -> None:
    """No common case has no test; values that differ by rounding only are equal."""
    row = compare_pair(np.array([1.0, math.nan]), np.array([math.nan, 1.0]))

    assert row["n"] == 0
    assert math.isnan(row["p"])
    assert math.isnan(row["mean_difference"])
    row = compare_pair(np.array([0.3, 0.5, 0.7]), np.array([0.1 + 0.2, 0.5, 0.7]))
    assert (row["p"], row["effect"]) == (1, 0)


def test_holm_by_hand() -> None:
    """The smallest of three is tripled, the order is kept, NaN stays."""
    assert holm([0.04, 0.01, math.nan, 0.03]) == pytest.approx(
        [0.06, 0.03, math.nan, 0.06], nan_ok=True
    )
    assert holm([0.9, 0.8]) == [1, 1]


def test_what_differs_is_refused(
    tmp_path: Path, three: list[Path], rng: np.random.Generator
) -> None:
    """Other protocols, cases and references are refused by name."""
    values = table(rng)
    moved = values.copy()
    moved.loc[3, "reference_lesions"] = 99
    for name, other, message in (
        ("anima", values, "same protocol"),
        ("paper", values.iloc[1:], "same cases. They differ in 000"),
        ("paper", moved, "same references. They differ in 003"),
    ):
        folder = write(tmp_path / message.split()[1], other, name)
        with pytest.raises(ValueError, match=message) as caught:
            compare_evaluations([three[0], folder])
        assert f"{three[0]}/cases.csv and {folder}/cases.csv" in str(caught.value)
    for number, names in ((2, ["a"]), (2, ["a", "a"]), (1, None)):
        with pytest.raises(ValueError, match=r"at least two models.*--names"):
            compare_evaluations(three[:number], names=names)


def test_folders_without_evaluation_are_refused(
    tmp_path: Path, three: list[Path]
) -> None:
    """A folder without results, and one with damaged results, are named."""
    with pytest.raises(FileNotFoundError, match="nnunet-cel evaluate"):
        read_evaluation(tmp_path)
    (three[0] / "summary.json").write_text("{")
    write_table(three[1] / "cases.csv", pd.DataFrame({"case": ["a"]}))
    (three[2] / "summary.json").write_text("[]")
    messages = ("must be JSON", "It lacks ASSD", "It lacks the protocol")
    for folder, message in zip(three, messages, strict=True):
        with pytest.raises(ValueError, match=message):
            read_evaluation(folder)
