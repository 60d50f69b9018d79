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
    """Cases are paired by name, whatever their order."""
    tests = compare_evaluations(three[:2]).tests.set_index("metric")

    assert tests.loc["DSC", "mean_difference"] == pytest.approx(0.1)
    assert tests.loc["DSC", "effect"] == 1
    assert tests.loc["DSC", "p"] == pytest.approx(2 / 2**12, rel=0.3)
    assert tests.loc["PPV", "mean_difference"] == 0
    assert (tests.loc["PPV", "p"], tests.loc["PPV", "effect"]) == (1, 0)


def test_better_depends_on_the_metric(three: list[Path]) -> None:
    """More is better for DSC, worse for VD, and nothing is for equals."""
    tests = compare_evaluations(three[:2]).tests.set_index("metric")

    assert tests.loc[["DSC", "VD", "PPV"], "better"].tolist() == ["b", "a", ""]
    models = compare_evaluations(three[:2]).models.set_index(["metric", "model"])
    assert models.loc[("DSC", "b"), "best"]
    assert not models.loc[("VD", "b"), "best"]
    assert models.loc[("PPV", "a"), "best"]
    assert models.loc[("PPV", "b"), "best"]


def test_all_pairs_are_tested_and_corrected(three: list[Path]) -> None:
    """Three models make three pairs per metric, corrected for one another."""
    tests = compare_evaluations(three, names=["x", "y", "z"]).tests

    assert len(tests) == 3 * len(METRICS)
    of_dsc = tests[tests["metric"] == "DSC"]
    pairs = list(zip(of_dsc["first"], of_dsc["second"], strict=True))
    assert pairs == [("x", "y"), ("x", "z"), ("y", "z")]
    assert list(of_dsc["p_holm"]) == pytest.approx(holm(list(of_dsc["p"])))
    assert (of_dsc["p_holm"] >= of_dsc["p"]).all()


def test_exchanged_models_mirror_each_other(three: list[Path]) -> None:
    """The other way round the difference has the other sign and the same p."""
    there = compare_evaluations([three[0], three[2]]).tests
    back = compare_evaluations([three[2], three[0]]).tests

    assert list(there["mean_difference"]) == pytest.approx(
        list(-back["mean_difference"])
    )
    assert list(there["effect"]) == pytest.approx(list(-back["effect"]))
    assert list(there["p"]) == pytest.approx(list(back["p"]))
    assert list(there["better"]) == list(back["better"])


def test_pair_agrees_with_scipy(rng: np.random.Generator) -> None:
    """The p-value is scipy's, cases without a value are left out."""
    first, second = rng.random(20), rng.random(20)
    gaps = np.where(np.arange(23) < 20, 0.0, math.nan)
    padded = [np.pad(v, (0, 3)) + gaps for v in (first, second)]

    row = compare_pair(*padded)

    assert row["n"] == 20
    assert row["p"] == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert row["ci_low"] < row["mean_difference"] < row["ci_high"]


def test_effect_by_hand() -> None:
    """The differences 3, 1 and -2 have ranks 3, 1 and 2: (3 + 1 - 2) / 6."""
    row = compare_pair(np.zeros(3), np.array([3.0, 1.0, -2.0]))

    assert row["effect"] == pytest.approx(2 / 6)


def test_models_without_common_values_have_no_test() -> None:
    """Where no case has both values, there is no difference."""
    row = compare_pair(np.array([1.0, math.nan]), np.array([math.nan, 1.0]))

    assert row["n"] == 0
    assert math.isnan(row["p"])
    assert math.isnan(row["mean_difference"])


def test_rounding_makes_no_difference() -> None:
    """Values that differ by rounding only are equal."""
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
    good = three[0]
    values = table(rng)
    other = write(tmp_path / "protocol", values, "anima")
    fewer = write(tmp_path / "fewer", values.iloc[1:])
    moved = values.copy()
    moved.loc[3, "reference_lesions"] = 99
    references = write(tmp_path / "references", moved)

    with pytest.raises(ValueError, match="same protocol"):
        compare_evaluations([good, other])
    with pytest.raises(ValueError, match="Only one of them has 000"):
        compare_evaluations([good, fewer])
    with pytest.raises(ValueError, match="differ in 003"):
        compare_evaluations([good, references])


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_names_must_be_distinct(three: list[Path], names: list[str]) -> None:
    """Every model needs one name of its own."""
    with pytest.raises(ValueError, match="--names"):
        compare_evaluations(three[:2], names=names)


def test_one_model_is_no_comparison(three: list[Path]) -> None:
    """There must be two evaluations."""
    with pytest.raises(ValueError, match="at least two models"):
        compare_evaluations(three[:1])


def test_folders_without_evaluation_are_refused(
    tmp_path: Path, three: list[Path]
) -> None:
    """A folder without results, and one with damaged results, are named."""
    with pytest.raises(FileNotFoundError, match="nnunet-cel evaluate"):
        read_evaluation(tmp_path)
    (three[0] / "summary.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_evaluation(three[0])
    write_table(three[1] / "cases.csv", pd.DataFrame({"case": ["a"]}))
    with pytest.raises(ValueError, match="It lacks ASSD"):
        read_evaluation(three[1])
