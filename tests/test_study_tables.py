"""Tests of the tables of a study: their numbers, and how they are laid out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import make_study, write_evaluation, write_log

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import bootstrap_interval
from nnunet_cel.report.paper import PAPER_METRICS
from nnunet_cel.study.models import evaluation_folders, model_folder, table_methods
from nnunet_cel.study.study import Study
from nnunet_cel.study.tables import (
    as_markdown,
    as_tex,
    read_cases,
    summarize,
    write_tables,
)

CASES = 10
OURS = make_study(networks=["fcadensenet", "unet", "resunet"], tables=[5, 6])


def write_evaluations(ours: Study, home: Path, name: str) -> None:
    """Write random evaluations of all methods of a table."""
    rng = np.random.default_rng(0)
    for method in table_methods(ours, name):
        for folder in evaluation_folders(ours, method).values():
            if not (home / folder).exists():
                values = {metric: rng.random(CASES) for metric in METRICS}
                write_evaluation(home / folder, values)


def change(home: Path, configuration: str, **columns: float) -> None:
    """Change columns in the evaluation of a fine-tuned model."""
    path = home / "evaluations/finetuned/Dataset502_CEL" / configuration / "cases.csv"
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def table(home: Path, name: str) -> pd.DataFrame:
    """Return one of the files that were written."""
    return pd.read_csv(home / "tables" / f"{name}.csv")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with Tables 5 and 6."""
    folder = tmp_path_factory.mktemp("my study")
    for name in ("table5", "table6"):
        write_evaluations(OURS, folder, name)
    paths = write_tables(OURS, folder)
    assert [path.name for path in paths] == ["table5.md", "table6.md", "transfer.md"]
    return folder


def test_numbers_are_those_of_cases_beside_those_of_the_paper(home: Path) -> None:
    """All can be computed from the table's cases; its Table 5 has small windows."""
    groups = table(home, "table6_cases").groupby("method")
    values = table(home, "table6")
    assert len(values) == 3 * len(METRICS)
    for row in values.itertuples():
        group = groups.get_group(row.method)
        assert row.mean == pytest.approx(group[row.metric].mean())
        assert row.sd == pytest.approx(group[row.metric].std(ddof=1))
        assert row.n == CASES
        assert row.ci_low < row.mean < row.ci_high
        assert set(group["evaluation"]) == {row.evaluations}
        assert (home / row.evaluations / "cases.csv").is_file()
    cells = values.set_index(["method", "metric"])["paper"]
    assert cells["FCA-DenseNet", "L-sens"] == "0.768* (0.230)*"

    values = table(home, "table5")
    assert set(values["block"]) == {"64 x 64", "full window"}
    assert set(values.dropna(subset="paper")["block"]) == {"64 x 64"}


def test_best_means_are_starred(home: Path, tmp_path: Path) -> None:
    """The highest or the lowest one, or several; nothing where all are the same."""
    values = table(home, "table6").set_index("metric")
    for metric, best in (("DSC", "max"), ("VD", "min"), ("LFDR", "min")):
        rows = values.loc[metric]
        assert list(rows["best"]) == list(rows["mean"] == rows["mean"].agg(best))

    write_evaluations(OURS, tmp_path, "table6")
    for name, dice in (("2d", 0.2), ("2d_unet", 0.2), ("2d_resunet", 0.1)):
        change(tmp_path, name, DSC=dice, PPV=0.0)
    write_tables(OURS, tmp_path, only=["table6"])
    values = table(tmp_path, "table6").set_index("metric")
    assert list(values.loc["DSC", "best"]) == [True, True, False]
    assert not values.loc["PPV", "best"].any()


def test_tests_are_paired_and_corrected(home: Path) -> None:
    """Wilcoxon of SciPy, and Holm's steps by hand, over the two other networks."""
    tests, cases = table(home, "table6_tests"), table(home, "table6_cases")
    rows = tests[tests["metric"] == "DSC"].set_index("other")
    dice = cases.pivot(index="case", columns="method", values="DSC")
    assert set(rows["reference"]) == {"FCA-DenseNet"}
    for title, row in rows.iterrows():
        differences = dice["FCA-DenseNet"] - dice[title]
        assert row["p"] == pytest.approx(stats.wilcoxon(differences).pvalue)
        assert row["mean_difference"] == pytest.approx(differences.mean())
        assert row["better"] == ("FCA-DenseNet" if row["effect"] > 0 else title)
    small, large = sorted(rows["p"])
    first = min(1, 2 * small)
    assert sorted(rows["p_holm"]) == pytest.approx([first, max(first, large)])


def test_splits_are_tested_one_by_one(tmp_path: Path) -> None:
    """Patients may be in several of them."""
    ours = make_study(splits=2, networks=["fcadensenet", "unet"], paper=False)
    write_evaluations(ours, tmp_path, "table6")
    write_tables(ours, tmp_path, only=["table6"])
    values, tests = table(tmp_path, "table6"), table(tmp_path, "table6_tests")

    assert values["paper"].isna().all()
    assert list(tests[tests["metric"] == "DSC"]["split"]) == [1, 2]
    assert set(tests["n"]) == {CASES}


@pytest.mark.parametrize(
    ("name", "values", "n", "mean", "sd"),
    [
        # a case without a value is left out
        ("table6", [[0.1, 0.5, 0.6, math.nan]], ("cases", 3), 0.4, [0.1, 0.5, 0.6]),
        ("table3", [[0.2, 0.4], [0.5, 0.6, 0.7]], ("folds", 2), 0.45, [0.3, 0.6]),
        ("table6", [[0.2, 0.4], [0.6]], ("splits", 2), 0.45, [0.3, 0.6]),
    ],
)
def test_groups_are_summed_up(
    name: str,
    values: list[list[float]],
    n: tuple[str, int],
    mean: float,
    sd: list[float],
    tmp_path: Path,
) -> None:
    """One over its cases, several over their means; only splits share patients."""
    ours = make_study(splits=len(values), training={"folds": 2})
    (method, *_) = table_methods(ours, name)
    folders = evaluation_folders(ours, method).values()
    for folder, dice in zip(folders, values, strict=True):
        write_evaluation(tmp_path / folder, {"DSC": dice})
    found = summarize(read_cases(ours, tmp_path, [method]), "DSC")

    assert (found["over"], found["n"]) == n
    assert found["mean"] == pytest.approx(mean)
    assert found["sd"] == pytest.approx(np.std(sd, ddof=1))
    pooled = np.concatenate(values)
    interval = bootstrap_interval(pooled[~np.isnan(pooled)])
    expected = (math.nan, math.nan) if n[0] == "splits" else interval
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(expected, nan_ok=True)


def test_what_is_missing_or_cannot_be_compared_is_said(tmp_path: Path) -> None:
    """A table of what there is on demand, and no star where there is nothing."""
    ours = make_study(networks=["unet", "fcadensenet"], tables=[6, 7])
    with pytest.raises(ValueError, match="Did you mean 'table6'"):
        write_tables(ours, tmp_path, only=["table66"])
    write_evaluations(make_study(networks=["unet"]), tmp_path, "table6")
    with pytest.raises(FileNotFoundError, match="There is no evaluation"):
        write_tables(ours, tmp_path)

    write_tables(ours, tmp_path, partial=True)
    values = table(tmp_path, "table6")
    assert set(values.dropna(subset="mean")["method"]) == {"U-Net"}
    assert not values["best"].any()
    assert table(tmp_path, "table7")["mean"].isna().all()

    write_evaluations(ours, tmp_path, "table6")
    change(tmp_path, "2d", reference_ml=2.0)
    with pytest.raises(ValueError, match="on the same references"):
        write_tables(ours, tmp_path, only=["table6"])


def test_networks_have_hours_and_parameters(tmp_path: Path) -> None:
    """Half an hour and one and a half are one; fine-tuning took a quarter."""
    ours = make_study(networks=["unet"], training={"folds": 2}, tables=[2])
    for fold, seconds in enumerate([[900.0, 900.0], [5400.0]]):
        name = model_folder(ours, "pretrained", "Dataset501_WMH", "2d_unet", fold)
        write_log(tmp_path / name, seconds)
    with pytest.raises(FileNotFoundError, match="2d_unet"):
        write_tables(ours, tmp_path)
    name = model_folder(ours, "finetuned", "Dataset502_CEL", "2d_unet", 0)
    write_log(tmp_path / name, [900.0])
    (path,) = write_tables(ours, tmp_path)
    values = table(tmp_path, "table2")

    assert list(values["mean"]) == pytest.approx([2.0, 1.0, 0.25], abs=0.05)
    assert list(values["paper"]) == ["2.0", "~7", "~3"]
    text = " ".join(path.read_text().split())
    assert "| this study | Training time (h) | 1.000 |" in text
    assert "| Huang et al. 2024 | Training time (h) | ~7 |" in text


def test_tables_are_laid_out_as_in_the_paper() -> None:
    """Means and stars, the paper's below, then differences; a dash for no value."""
    values = pd.DataFrame(
        {
            **{"block": block, "method": method, "metric": metric, "over": "folds"},
            **{"n": 3, "mean": mean, "sd": 0.1, "best": method == "A_1"},
            "paper": "0.661* (0.187)*" if block == "64" and method == "A_1" else "",
        }
        for block in ("64", "full")
        for method, mean in (("A_1", 0.5), ("B", math.nan))
        for metric in PAPER_METRICS
    )
    tests = values[values["method"] == "B"].assign(
        **{"split": "", "reference": "A_1", "other": "B", "mean_difference": -0.25},
        **{"ci_low": -0.5, "ci_high": 0.0, "p_holm": 0.0004},
    )
    text = " ".join(as_markdown("table5", values, tests).split())
    for expected in (
        *("# Table 5. Models trained", "over 3 folds; *, best mean."),
        r"| full | this study | DSC | 0.500\* (0.100) | - |",
        r"| 64 | Huang et al. 2024 | L-sensitivity | 0.661\* (0.187)\* | - |",
        *("A_1 minus the others: mean difference",),
        "| full | DSC | -0.250 (-0.500 to +0.000), p < 0.001 |",
    ):
        assert expected in text
    assert "| full | Huang" not in text
    assert "LFDR" in text
    assert "LFDR" not in as_markdown("table3", values)

    text = as_tex("table6", values[values["block"] == "64"])
    for expected in (
        *(r"A\_1", r"this study & DSC & 0.500* (0.100) & - \\", r"\toprule"),
        r"\caption{Fine-tuned models on the CEL test half. Mean",
    ):
        assert expected in text
