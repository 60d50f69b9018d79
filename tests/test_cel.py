"""A clinic's scans: criteria, strata, neutral names and the linking table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.cel import (
    find_cases,
    linking_table,
    number_cases,
)
from nnunet_cel.dataset_conversion.conversion import Finding, Kept
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.files import sha256


def make_tree(folder: Path, layout: str, n: int = 12) -> Path:
    """Write a tree of tiny scans."""
    return write_tree(folder, layout, n)


def select(cases: list[SourceCase]) -> list[Kept]:
    """Return the cases as if they had been inspected."""
    return [
        (case, Finding(i, {case.image: sha256(case.image)}))
        for i, case in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS data set with 12 scans of 10 patients; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("cel") / "bids", "cel-bids")


def test_every_layout_gives_cases_that_need_a_lesion(tmp_path: Path) -> None:
    """Scans without a lesion of more than three voxels will be left out."""
    for layout, source in (
        ("cel-pairs", ""),
        ("cel-bids", ""),
        ("cel-csv", "cases.csv"),
        ("cel-dicom", "cases.csv"),
    ):
        cases = find_cases(make_tree(tmp_path / layout, layout, 3) / source)
        assert len(cases) == 3
        assert {case.min_lesion_voxels for case in cases} == {4}
        assert {case.without_lesion for case in cases} == {"exclude"}


def test_diagnosis_is_the_stratum(bids: Path, tmp_path: Path) -> None:
    """Where it is known, it is used without asking; several scans are one patient."""
    cases = find_cases(bids)

    assert {case.stratum for case in cases} == {"MS", "NMOSD"}
    assert len({case.group for case in cases}) == 10
    pairs = find_cases(make_tree(tmp_path / "pairs", "cel-pairs", 2))
    assert {case.stratum for case in pairs} == {""}


def test_table_adds_a_column_to_folders(tmp_path: Path) -> None:
    """Any column can give the strata."""
    root = make_tree(tmp_path / "pairs", "cel-pairs", 2)
    table = tmp_path / "t.csv"
    table.write_text("subject,Scanner\nDoe_Jane,A\nRoe_Joe,B\n")

    cases = find_cases(root, table=table, group_by="scanner")

    assert [case.stratum for case in cases] == ["A", "B"]
    assert cases[0].facts == {"stratum": "A"}


@pytest.mark.parametrize(
    ("rows", "group_by", "message"),
    [
        ("subject,diagnosis\nDoe_Jane,MS\n", None, "none for Roe_Joe"),
        ("subject,age\nDoe_Jane,3\n", "diagnosis", "none for Doe_Jane, Roe_Joe"),
    ],
)
def test_missing_diagnoses_are_named(
    tmp_path: Path, rows: str, group_by: str | None, message: str
) -> None:
    """Some without, or all where it was asked for."""
    root = make_tree(tmp_path / "pairs", "cel-pairs", 2)
    table = tmp_path / "t.csv"
    table.write_text(rows)

    with pytest.raises(ValueError, match=message):
        find_cases(root, table=table, group_by=group_by)


def test_values_that_are_lesion(bids: Path) -> None:
    """Lesions that were numbered become one label."""
    case = find_cases(bids, lesion_values=[3, 1])[0]

    assert case.values == {0: 0, 1: 1, 3: 1}


@pytest.mark.parametrize("values", [[], [0], [256]])
def test_wrong_lesion_values_are_refused(bids: Path, values: list[int]) -> None:
    """Background is no lesion."""
    with pytest.raises(ValueError, match="from 1 to 255"):
        find_cases(bids, lesion_values=values)


def test_patterns_go_together(bids: Path) -> None:
    """One pattern alone is an error."""
    with pytest.raises(ValueError, match="only --images"):
        find_cases(bids, images="*/x.nii")


def test_names_are_neutral_and_patients_whole(bids: Path) -> None:
    """Numbers follow a random order; both scans of a patient are on one side."""
    cases = find_cases(bids)

    numbered = number_cases(select(cases), test_fraction=0.5, seed=0)

    names = [case.identifier for case, _ in numbered]
    assert names == [f"CEL_{i:03d}" for i in range(1, 13)]
    sides: dict[str, set[str]] = {}
    for case, _ in numbered:
        sides.setdefault(case.group, set()).add(case.split)
    assert all(len(side) == 1 for side in sides.values())
    assert sorted(side.pop() for side in sides.values()) == ["test"] * 5 + ["train"] * 5
    order = [case.group for case, _ in numbered]
    assert order != sorted(order)
    assert number_cases(select(cases), test_fraction=0.5, seed=0) == numbered
    assert number_cases(select(cases), test_fraction=0.5, seed=1) != numbered


def test_linking_table_knows_every_scan(bids: Path) -> None:
    """Cases with their patients and files, and those that were left out."""
    cases = find_cases(bids)
    numbered = number_cases(select(cases[1:]), test_fraction=0, seed=0)

    text = linking_table(cases, numbered, {cases[0].identifier: "no lesion"})

    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 12
    by_name = {case.identifier: case for case in cases}
    for row, (case, _) in zip(rows, numbered, strict=False):
        assert row["case"] == case.identifier
        assert row["split"] == "train"
        assert row["subject"] == by_name[row["source"]].group
        assert row["image_sha256"] == sha256(by_name[row["source"]].image)
        assert Path(row["image"]) == by_name[row["source"]].image
    assert rows[-1]["note"] == "left out: no lesion"
    assert rows[-1]["case"] == ""
    assert rows[-1]["subject"] == cases[0].group
