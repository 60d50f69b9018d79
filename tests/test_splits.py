"""Splits: nobody is divided, everybody is validated once, shares are equal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.dataset_conversion.splits import (
    choose_test_groups,
    random_order,
    split_into_folds,
)


def make_cases(strata: Sequence[str], scans: int = 1) -> list[SourceCase]:
    """Return cases of one patient for each stratum in the list."""
    return [
        SourceCase(
            f"p{i:02d}_{scan}", "x", Path(), Path(), (), group=f"p{i:02d}", stratum=name
        )
        for i, name in enumerate(strata)
        for scan in range(scans)
    ]


def test_order_is_known_and_depends_on_the_seed_alone() -> None:
    """The order of a seed stays, also for the others when one is added."""
    assert random_order("abcdef", 0) == ["f", "d", "a", "c", "b", "e"]
    assert random_order("abcdef", 1) != random_order("abcdef", 0)
    more = random_order("abcdefg", 0)
    assert [name for name in more if name != "g"] == random_order("abcdef", 0)


def test_folds_of_the_paper() -> None:
    """77 cases of three sources make five folds of 15 or 16, each with its share."""
    paper = make_cases(["ISBI"] * 5 + ["MSSEG"] * 52 + ["WMH"] * 20)

    folds = split_into_folds(paper, 0)

    assert folds is not None
    assert sorted(len(fold["val"]) for fold in folds) == [15, 15, 15, 16, 16]
    stratum = {case.identifier: case.stratum for case in paper}
    for fold in folds:
        shares = Counter(stratum[name] for name in fold["val"])
        assert (shares["ISBI"], shares["WMH"]) == (1, 4)
        assert shares["MSSEG"] in (10, 11)


@given(
    strata=st.lists(st.sampled_from("ab"), min_size=2, max_size=30),
    scans=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_everybody_is_validated_in_exactly_one_fold(
    strata: list[str], scans: int, seed: int
) -> None:
    """Folds are complements, patients are whole, validation parts cover all."""
    cases = make_cases(strata, scans)

    folds = split_into_folds(cases, seed)

    assert folds is not None
    assert len(folds) == min(5, len(strata))
    everything = sorted(case.identifier for case in cases)
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == everything
        patients = [{name[:3] for name in fold[part]} for part in ("train", "val")]
        assert not patients[0] & patients[1]
        assert fold["val"]
    assert sorted(name for fold in folds for name in fold["val"]) == everything
    # one patient cannot be split
    assert split_into_folds(make_cases(["a"], scans=scans), seed) is None


def test_half_of_the_clinic_is_for_testing() -> None:
    """24 patients make 12, with one or two of the three that have NMOSD."""
    clinic = make_cases(["MS"] * 21 + ["NMOSD"] * 3)

    chosen = choose_test_groups(clinic, 0.5, 0)

    diagnosis = Counter(case.stratum for case in clinic if case.group in chosen)
    assert diagnosis.total() == 12
    assert diagnosis["NMOSD"] in (1, 2)
    assert choose_test_groups(clinic, 0.5, 1) != chosen
    assert choose_test_groups(clinic, 0, 0) == set()
    for n, fraction, message in (
        (4, 1.0, r"from 0 to below 1\. Got 1\.0"),
        (4, -0.1, r"from 0 to below 1\. Got -0\.1"),
        (1, 0.9, "Of 1 patients it chooses 1"),
        (4, 0.1, "Of 4 patients it chooses 0"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_test_groups(clinic[:n], fraction, 0)


@given(
    strata=st.lists(st.sampled_from("abc"), min_size=2, max_size=30),
    fraction=st.floats(0, 0.5),
)
def test_shares_are_within_one_patient(strata: list[str], fraction: float) -> None:
    """Each stratum gives its share to the test part, rounded up or down."""
    cases = make_cases(strata)
    if math.ceil(fraction * len(strata) - 0.5) < 1:
        fraction = 0

    chosen = choose_test_groups(cases, fraction, 3)

    assert abs(len(chosen) - fraction * len(strata)) <= 0.5 + 1e-9
    for stratum, count in Counter(strata).items():
        share = sum(case.stratum == stratum for case in cases if case.group in chosen)
        assert abs(share - len(chosen) * count / len(strata)) < 1
