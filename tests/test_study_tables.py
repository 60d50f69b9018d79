"""Tests of the tables of a study."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.study.models import evaluation_folders, table_methods
from nnunet_cel.study.study import Study, parse_study
from nnunet_cel.study.tables import make_table, write_tables

DATA = {"wmh": {"phantoms": {"isbi2015": 3}}, "cel": {"phantoms": {"cel-bids": 4}}}
CASES = 10


def study(**content: Any) -> Study:
    """Return a study on phantoms."""
    return parse_study({"data": DATA, **content}, folder=Path("/nowhere"))


def write_evaluations(ours: Study, home: Path, name: str, seed: int = 0) -> None:
    """Write random evaluations of all methods of a table."""
    rng = np.random.default_rng(seed)
    for method in table_methods(ours, name):
        for folder in evaluation_folders(ours, method).values():
            if (home / folder).exists():
                continue
            (home / folder).mkdir(parents=True)
            cases = pd.DataFrame(
                {
                    "case": [f"{Path(folder).name}{n:02d}"[-2:] for n in range(CASES)],
                    **{metric: rng.random(CASES) for metric in METRICS},
                    "reference_ml": 1.0,
                    "reference_lesions": 1,
                }
            )
            write_table(home / folder / "cases.csv", cases)
            (home / folder / "summary.json").write_text(
                json.dumps({"protocol": {"name": "paper"}})
            )


def values_of(home: Path, configuration: str, metric: str) -> np.ndarray:
    """Return the values of a metric in all cases of a fine-tuned model."""
    folder = home / "evaluations" / "finetuned" / "Dataset502_CEL" / configuration
    return np.asarray(pd.read_csv(folder / "cases.csv")[metric])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with evaluations for Tables 5 and 6."""
    folder = tmp_path_factory.mktemp("my study")
    for name in ("table5", "table6"):
        write_evaluations(study(), folder, name)
    return folder


def test_numbers_are_those_of_cases(home: Path) -> None:
    """Every mean and SD can be computed from the rows of the same table's cases."""
    table = make_table(study(), home, "table6")
    cases = table.cases.groupby("method")

    assert len(table.values) == 6 * len(METRICS)
    for row in table.values.itertuples():
        group = cases.get_group(row.method)
        assert row.mean == pytest.approx(group[row.metric].mean())
        assert row.sd == pytest.approx(group[row.metric].std(ddof=1))
        assert row.n == CASES
        assert row.ci_low < row.mean < row.ci_high
        assert set(group["evaluation"]) == {row.evaluations}
        assert (home / row.evaluations / "cases.csv").is_file()


def test_best_means_are_starred(home: Path) -> None:
    """The highest or the lowest one, whichever is better."""
    values = make_table(study(), home, "table6").values
    for metric, best in (("DSC", "idxmax"), ("VD", "idxmin"), ("LFDR", "idxmin")):
        rows = values[values["metric"] == metric].set_index("method")

        assert list(rows.index[rows["best"]]) == [getattr(rows["mean"], best)()]


def test_equal_means_have_no_star(tmp_path: Path) -> None:
    """Nothing is best where all are the same; the best of some may be several."""
    ours = study(networks=["fcadensenet", "unet", "resunet"])
    write_evaluations(ours, tmp_path, "table6")
    for name, dice in (("2d", 0.2), ("2d_unet", 0.2), ("2d_resunet", 0.1)):
        path = tmp_path / f"evaluations/finetuned/Dataset502_CEL/{name}/cases.csv"
        cases = pd.read_csv(path, dtype={"case": str})
        write_table(path, cases.assign(DSC=dice, PPV=0.0))
    values = make_table(ours, tmp_path, "table6").values.set_index("metric")

    assert list(values.loc["DSC", "best"]) == [True, True, False]
    assert not values.loc["PPV", "best"].any()


def test_tests_are_paired_and_corrected(home: Path) -> None:
    """Wilcoxon of SciPy, and Holm's steps by hand, over the five other networks."""
    tests = make_table(study(), home, "table6").tests
    rows = tests[tests["metric"] == "DSC"].set_index("other")
    names = dict(zip(rows.index, ["fcdensenet", "unet", "resunet"], strict=False))
    assert list(names) == ["FC-DenseNet", "U-Net", "ResUNet"]
    assert set(rows["reference"]) == {"FCA-DenseNet"}
    ours = values_of(home, "2d", "DSC")
    for title, name in names.items():
        theirs = values_of(home, f"2d_{name}", "DSC")
        assert rows.loc[title, "p"] == pytest.approx(
            stats.wilcoxon(ours, theirs).pvalue
        )
        assert rows.loc[title, "mean_difference"] == pytest.approx(
            (ours - theirs).mean()
        )
    expected, largest = {}, 0.0
    for rank, (title, p) in enumerate(sorted(rows["p"].items(), key=lambda x: x[1])):
        largest = max(largest, min(1.0, (5 - rank) * p))
        expected[title] = largest
    assert len(rows) == 5
    assert rows["p_holm"].to_dict() == pytest.approx(expected)


def test_better_method_is_named(home: Path) -> None:
    """A higher VD is worse, and a higher DSC better."""
    tests = make_table(study(), home, "table6").tests
    for metric, sign in (("DSC", 1), ("VD", -1)):
        for row in tests[tests["metric"] == metric].itertuples():
            winner = row.reference if sign * row.effect > 0 else row.other
            assert row.better == winner


def test_paper_stands_beside(home: Path) -> None:
    """Cell and numbers, by network and metric, unless it is not wanted."""
    values = make_table(study(), home, "table6").values.set_index(["method", "metric"])

    assert values.loc[("FCA-DenseNet", "L-sens"), "paper"] == "0.768* (0.230)*"
    assert values.loc[("U-Net", "DSC"), "paper_mean"] == 0.525
    without = make_table(study(paper=False), home, "table6").values
    assert not without["paper"].any()


def test_paper_has_small_windows_only(home: Path) -> None:
    """The numbers of its Table 5 are not those of full windows."""
    values = make_table(study(), home, "table5").values
    shown = values[values["paper"] != ""]

    assert set(shown["block"]) == {"64 x 64"}
    assert set(values["block"]) == {"64 x 64", "full window"}


def test_splits_are_tested_one_by_one(tmp_path: Path) -> None:
    """Mean and SD are over splits; patients may be in several of them."""
    ours = study(splits=2, networks=["fcadensenet", "unet"])
    write_evaluations(ours, tmp_path, "table6")
    table = make_table(ours, tmp_path, "table6")

    assert set(table.values["over"]) == {"splits"}
    assert set(table.values["n"]) == {2}
    assert list(table.tests[table.tests["metric"] == "DSC"]["split"]) == ["1", "2"]
    assert len(table.cases) == 2 * 2 * CASES


def test_different_references_are_refused(tmp_path: Path) -> None:
    """Then the methods did not do the same thing."""
    ours = study(networks=["fcadensenet", "unet"])
    write_evaluations(ours, tmp_path, "table6")
    path = tmp_path / "evaluations/finetuned/Dataset502_CEL/2d/cases.csv"
    cases = pd.read_csv(path, dtype={"case": str})
    write_table(path, cases.assign(reference_ml=2.0))

    with pytest.raises(ValueError, match="same cases with the same references"):
        make_table(ours, tmp_path, "table6")


def test_tables_are_written(home: Path) -> None:
    """Five files each, the same bytes twice; what is missing is said."""
    ours = study(tables=[5, 6])
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
        write_tables(study(), home, only=["table7"])


def test_missing_models_are_left_blank_on_demand(tmp_path: Path) -> None:
    """A table of what there is, and nothing that is not."""
    ours = study(tables=[6])
    write_evaluations(study(networks=["unet"]), tmp_path, "table6")
    write_tables(ours, tmp_path, partial=True)
    values = pd.read_csv(tmp_path / "tables" / "table6.csv")

    assert set(values.dropna(subset="mean")["method"]) == {"U-Net"}
    assert not values["best"].any()
    write_tables(study(tables=[7]), tmp_path, partial=True)
    assert values[values["method"] == "ResUNet"]["mean"].map(math.isnan).all()


def test_unknown_table_gets_a_suggestion(home: Path) -> None:
    """Only tables of the study can be written."""
    with pytest.raises(ValueError, match="Did you mean 'table6'"):
        write_tables(study(), home, only=["table66"])
