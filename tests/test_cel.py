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


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two patients in folders."""
    return write_tree(tmp_path / "pairs", "cel-pairs", 2, empty=True)


def test_cases_need_a_lesion(bids: list[SourceCase], pairs: Path) -> None:
    """One of more than three voxels; the diagnosis is the stratum where it is known."""
    assert {case.stratum for case in bids} == {"MS", "NMOSD"}
    assert len({case.group for case in bids}) == 10
    assert {(c.min_lesion_voxels, c.without_lesion) for c in bids} == {(4, "exclude")}
    cases = find_cases(pairs, lesion_values=[3, 1])
    assert [case.stratum for case in cases] == ["", ""]
    assert cases[0].values == {0: 0, 1: 1, 3: 1}
    with pytest.raises(ValueError, match="from 1 to 255"):
        find_cases(pairs, lesion_values=[0])


def test_table_adds_a_column_to_folders(pairs: Path, tmp_path: Path) -> None:
    """Any column can give the strata."""
    table = tmp_path / "t.csv"
    table.write_text("subject,Scanner\nDoe_Jane,A\nRoe_Joe,B\n")

    cases = find_cases(pairs, table=table, group_by="scanner")

    assert [case.stratum for case in cases] == ["A", "B"]
    assert cases[0].facts == {"stratum": "A"}


@pytest.mark.parametrize(
    ("rows", "group_by", "message"),
    [
        ("diagnosis\nDoe_Jane,MS\n", None, "none for Roe_Joe"),
        ("age\nDoe_Jane,3\n", "diagnosis", "none for Doe_Jane, Roe_Joe"),
        ("diagnosis\nDoe_Jane,a\nDoe_Jane,b\n", None, "several for Doe_Jane"),
        ("a\nDoe_Jane,b\n", "subject", "must not name patients"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    pairs: Path, tmp_path: Path, rows: str, group_by: str | None, message: str
) -> None:
    """Some without, all where it was asked for, two for one; names of patients."""
    table = tmp_path / "t.csv"
    table.write_text(f"subject,{rows}")

    with pytest.raises(ValueError, match=message):
        find_cases(pairs, table=table, group_by=group_by)


def test_column_decides_who_is_for_testing(tmp_path: Path) -> None:
    """Instead of chance; it must say so for everybody."""
    table = tmp_path / "cases.csv"
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    text = "subject,image,label,split\na,a.nii,a.nii,{}\nb,b.nii,b.nii,train\n"

    table.write_text(text.format("test"))
    numbered = number_cases(select(find_cases(table)), test_fraction=0, seed=0)
    assert sorted((c.labels[0].stem, c.split) for c, _ in numbered) == [
        ("a", "test"),
        ("b", "train"),
    ]
    for wrong, message in (("", "none for a"), ("no", "train or test. Got no, train")):
        table.write_text(text.format(wrong))
        with pytest.raises(ValueError, match=message):
            find_cases(table)


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
