"""A clinic's scans: criteria, strata, neutral names and the linking table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.cel import find_cases, linking_table, number_cases
from nnunet_cel.dataset_conversion.conversion import Finding, Kept
from nnunet_cel.dataset_conversion.source import SourceCase


def select(cases: list[SourceCase]) -> list[Kept]:
    """Return the cases as if they had been read, with images that all differ."""
    return [
        (case, Finding(i, {case.image: f"{i:02d}" * 32}))
        for i, case in enumerate(cases)
    ]


@pytest.fixture
def bids(tmp_path: Path) -> list[SourceCase]:
    """The cases of a BIDS data set with 12 scans of 10 patients."""
    return find_cases(write_tree(tmp_path / "bids", "cel-bids", 12, empty=True))


def test_cases_need_a_lesion(bids: list[SourceCase], tmp_path: Path) -> None:
    """One of more than three voxels; the diagnosis is the stratum where it is known."""
    pairs = write_tree(tmp_path / "pairs", "cel-pairs", 2, empty=True)
    assert {case.stratum for case in bids} == {"MS", "NMOSD"}
    assert len({case.group for case in bids}) == 10
    assert {(c.min_lesion_voxels, c.without_lesion) for c in bids} == {(4, "exclude")}
    cases = find_cases(pairs, lesion_values=[3, 1])
    assert [case.stratum for case in cases] == ["", ""]
    assert cases[0].values == {0: 0, 1: 1, 3: 1}
    with pytest.raises(ValueError, match="from 1 to 255"):
        find_cases(pairs, lesion_values=[0])


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a table of two patients with one more column."""

    def write(column: str) -> Path:
        name, *cells = column.split(",")
        lines = [f"subject,image,label,{name}"]
        for patient, cell in zip("abb", cells, strict=False):
            (tmp_path / f"{patient}.nii").touch()
            lines.append(f"{patient},{patient}.nii,{patient}.nii,{cell}")
        file = tmp_path / "cases.csv"
        file.write_text("\n".join(lines))
        return file

    return write


def test_any_column_gives_the_strata(table: Callable[[str], Path]) -> None:
    """Whatever its capitals; without one there is a single stratum."""
    cases = find_cases(table("Scanner,A,B"), group_by="scanner")

    assert [case.stratum for case in cases] == ["A", "B"]
    assert cases[0].facts == {"stratum": "A"}
    assert {case.stratum for case in find_cases(table("Scanner,A,B"))} == {""}


@pytest.mark.parametrize(
    ("rows", "group_by", "message"),
    [
        ("diagnosis,MS,", None, "none for b"),
        ("age,3,4", "diagnosis", "none for a, b"),
        ("age,3,4", "subject", "must not name patients"),
        ("diagnosis,MS,MS,NMOSD", None, "several for b"),
        ("split,test,", None, "none for b"),
        ("split,no,train", None, "train or test. Got no, train"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    table: Callable[[str], Path], rows: str, group_by: str | None, message: str
) -> None:
    """Some without, all where it was asked for, names, two for one, other words."""
    with pytest.raises(ValueError, match=message):
        find_cases(table(rows), group_by=group_by)


def test_column_decides_who_is_for_testing(table: Callable[[str], Path]) -> None:
    """Instead of chance."""
    cases = find_cases(table("split,test,train"))

    numbered = number_cases(select(cases), test_fraction=0, seed=0)

    parts = {case.labels[0].stem: case.split for case, _ in numbered}
    assert parts == {"a": "test", "b": "train"}


def test_names_are_neutral_and_patients_whole(bids: list[SourceCase]) -> None:
    """Numbers follow a random order; both scans of a patient are on one side."""
    numbered = number_cases(select(bids), test_fraction=0.5, seed=0)

    names = [case.identifier for case, _ in numbered]
    assert names == [f"CEL_{i:03d}" for i in range(1, 13)]
    sides = {(case.group, case.split) for case, _ in numbered}
    assert sorted(split for _, split in sides) == ["test"] * 5 + ["train"] * 5
    order = [case.group for case, _ in numbered]
    assert order != sorted(order)
    assert number_cases(select(bids), test_fraction=0.5, seed=0) == numbered
    assert number_cases(select(bids), test_fraction=0.5, seed=1) != numbered


def test_linking_table_knows_every_scan(bids: list[SourceCase]) -> None:
    """Cases with their patients and files, and those that were left out."""
    numbered = number_cases(select(bids[1:]), test_fraction=0, seed=0)

    text = linking_table(bids, numbered, {bids[0].identifier: "no lesion"})

    *rows, last = csv.DictReader(text.splitlines())
    by_name = {case.identifier: case for case in bids}
    for row, (case, found) in zip(rows, numbered, strict=True):
        assert (row["case"], row["split"]) == (case.identifier, "train")
        assert row["subject"] == by_name[row["source"]].group
        assert Path(row["image"]) == by_name[row["source"]].image == case.image
        assert row["image_sha256"] == found.files[case.image]
    assert last["note"] == "left out: no lesion"
    assert (last["case"], last["subject"]) == ("", bids[0].group)
