"""Tests of the tables of a study."""

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
from nnunet_cel.study.models import evaluation_folders, fold_folder, table_methods
from nnunet_cel.study.study import Study
from nnunet_cel.study.tables import (
    PARAMETERS,
    make_network_table,
    make_table,
    read_cases,
    summarize,
    write_tables,
)

CASES = 10
OURS = make_study(networks=["fcadensenet", "unet", "resunet"])


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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with evaluations for Tables 5 and 6."""
    folder = tmp_path_factory.mktemp("my study")
    for name in ("table5", "table6"):
        write_evaluations(OURS, folder, name)
    return folder


def test_numbers_are_those_of_cases(home: Path) -> None:
    """Every mean and SD can be computed from the rows of the same table's cases."""
    values, _, cases = make_table(OURS, home, "table6")
    groups = cases.groupby("method")

    assert len(values) == 3 * len(METRICS)
    for row in values.itertuples():
        group = groups.get_group(row.method)
        assert row.mean == pytest.approx(group[row.metric].mean())
        assert row.sd == pytest.approx(group[row.metric].std(ddof=1))
        assert row.n == CASES
        assert row.ci_low < row.mean < row.ci_high
        assert set(group["evaluation"]) == {row.evaluations}
        assert (home / row.evaluations / "cases.csv").is_file()


def test_best_means_are_starred(home: Path, tmp_path: Path) -> None:
    """The highest or the lowest one, or several; nothing where all are the same."""
    values = make_table(OURS, home, "table6")[0].set_index("metric")
    for metric, best in (("DSC", "max"), ("VD", "min"), ("LFDR", "min")):
        rows = values.loc[metric]
        assert list(rows["best"]) == list(rows["mean"] == rows["mean"].agg(best))

    write_evaluations(OURS, tmp_path, "table6")
    for name, dice in (("2d", 0.2), ("2d_unet", 0.2), ("2d_resunet", 0.1)):
        change(tmp_path, name, DSC=dice, PPV=0.0)
    values = make_table(OURS, tmp_path, "table6")[0].set_index("metric")
    assert list(values.loc["DSC", "best"]) == [True, True, False]
    assert not values.loc["PPV", "best"].any()


def test_tests_are_paired_and_corrected(home: Path) -> None:
    """Wilcoxon of SciPy, and Holm's steps by hand, over the two other networks."""
    _, tests, cases = make_table(OURS, home, "table6")
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


def test_paper_stands_beside(home: Path) -> None:
    """Cell and numbers; those of its Table 5 are not of full windows."""
    values = make_table(OURS, home, "table6")[0]
    cells = values.set_index(["method", "metric"])
    assert cells.loc[("FCA-DenseNet", "L-sens"), "paper"] == "0.768* (0.230)*"

    values = make_table(OURS, home, "table5")[0]
    assert set(values["block"]) == {"64 x 64", "full window"}
    assert set(values[values["paper"] != ""]["block"]) == {"64 x 64"}
    ours = make_study(paper=False, networks=OURS.networks)
    assert not make_table(ours, home, "table6")[0]["paper"].any()


def test_splits_are_tested_one_by_one(tmp_path: Path) -> None:
    """Mean and SD are over splits; patients may be in several of them."""
    ours = make_study(splits=2, networks=["fcadensenet", "unet"])
    write_evaluations(ours, tmp_path, "table6")
    values, tests, cases = make_table(ours, tmp_path, "table6")

    assert set(values["over"]) == {"splits"}
    assert set(values["n"]) == {2}
    assert list(tests[tests["metric"] == "DSC"]["split"]) == ["1", "2"]
    assert len(cases) == 2 * 2 * CASES


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
    expected = bootstrap_interval(pooled[~np.isnan(pooled)])
    if n[0] == "splits":
        assert math.isnan(found["ci_low"])
    else:
        assert (found["ci_low"], found["ci_high"]) == expected


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    """Other references, or another protocol."""
    ours = make_study(networks=["fcadensenet", "unet"])
    write_evaluations(ours, tmp_path, "table6")
    change(tmp_path, "2d", reference_ml=2.0)
    with pytest.raises(ValueError, match="on the same references"):
        make_table(ours, tmp_path, "table6")

    summary = next(tmp_path.rglob("summary.json"))
    summary.write_text('{"protocol": {"name": "other"}}')
    with pytest.raises(ValueError, match="must be by the same protocol"):
        make_table(ours, tmp_path, "table6")


def test_tables_are_written(home: Path) -> None:
    """Five files each, the same bytes twice; what is missing is said."""
    ours = make_study(tables=[5, 6], networks=OURS.networks)
    paths = write_tables(ours, home)
    before = {path.name: path.read_bytes() for path in (home / "tables").iterdir()}
    write_tables(ours, home)

    assert [path.name for path in paths] == ["table5.md", "table6.md", "transfer.md"]
    assert set(before) == {
        f"{name}{end}"
        for name in ("table5", "table6", "transfer")
        for end in (".md", ".tex", ".csv", "_tests.csv", "_cases.csv")
    }
    assert before == {p.name: p.read_bytes() for p in (home / "tables").iterdir()}
    with pytest.raises(FileNotFoundError, match="There is no evaluation"):
        write_tables(make_study(), home, only=["table7"])
    with pytest.raises(ValueError, match="Did you mean 'table6'"):
        write_tables(make_study(), home, only=["table66"])


def test_missing_models_are_left_blank_on_demand(tmp_path: Path) -> None:
    """A table of what there is, and nothing that is not."""
    write_evaluations(make_study(networks=["unet"]), tmp_path, "table6")
    write_tables(make_study(tables=[6, 7]), tmp_path, partial=True)
    values = pd.read_csv(tmp_path / "tables" / "table6.csv")

    assert set(values.dropna(subset="mean")["method"]) == {"U-Net"}
    assert not values["best"].any()
    assert pd.read_csv(tmp_path / "tables" / "table7.csv")["mean"].isna().all()


def test_networks_have_hours_and_parameters(tmp_path: Path) -> None:
    """Half an hour and one and a half are one; fine-tuning took a quarter."""
    ours = make_study(networks=["unet"], training={"folds": 2})
    for fold, seconds in enumerate([[900.0, 900.0], [5400.0]]):
        name = fold_folder(ours, "pretrained", "Dataset501_WMH", "2d_unet", fold)
        write_log(tmp_path / name, seconds)
    with pytest.raises(FileNotFoundError, match="2d_unet"):
        make_network_table(ours, tmp_path)
    table = make_network_table(ours, tmp_path, partial=True).set_index("metric")
    assert math.isnan(table.loc["Fine-tuning time (h)", "mean"])
    name = fold_folder(ours, "finetuned", "Dataset502_CEL", "2d_unet", 0)
    write_log(tmp_path / name, [900.0])
    table = make_network_table(ours, tmp_path).set_index("metric")

    assert table.loc["Training time (h)", "mean"] == 1
    assert table.loc["Fine-tuning time (h)", "mean"] == 0.25
    assert table.loc[PARAMETERS, "mean"] == pytest.approx(2.0, abs=0.05)
    assert table.loc["Training time (h)", "paper"] == "~7"
