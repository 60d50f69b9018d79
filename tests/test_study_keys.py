"""Tests of the reader of mappings with known keys."""

from __future__ import annotations

from nnunet_cel.study.keys import Section, closest


def test_wrong_value_is_remembered_and_replaced_by_the_default() -> None:
    """One message names key, rule and value; reading goes on."""
    problems: list[str] = []
    section = Section({"folds": 9}, "training", problems)

    assert section.take("folds", 5, "at most 5", lambda value: value <= 5) == 5
    assert problems == [
        "The 'training.folds' of the study must be at most 5. Got 9 instead."
    ]


def test_empty_value_is_the_default() -> None:
    """A key without a value counts as not given."""
    section = Section({"folds": None}, "", [])

    assert section.take("folds", 5) == 5
    assert "folds" not in section


def test_unknown_keys_are_named_with_the_closest_known_one() -> None:
    """Only keys that nobody asked for are unknown."""
    problems: list[str] = []
    section = Section({"fold": 1, "seed": 2}, "", problems)
    section.take("folds", 5)
    section.take("seed", 0)
    section.finish()

    assert problems == [
        "The study has no key 'fold'. Did you mean 'folds'? Keys here: folds, seed."
    ]


def test_what_is_no_mapping_is_remembered() -> None:
    """Its keys are then as if they were not given."""
    problems: list[str] = []
    section = Section([1, 2], "training", problems)

    assert section.take("folds", 5) == 5
    assert "'training' of the study must be a mapping" in problems[0]


def test_entries_with_unknown_names_are_left_out() -> None:
    """They are remembered, and the others returned."""
    problems: list[str] = []
    entries = Section({"unet": 1, "unett": 2}, "x", problems).items(["unet"], "it")

    assert entries == {"unet": 1}
    assert "'x.unett' of the study must be it" in problems[0]


def test_nothing_is_close_to_nonsense() -> None:
    """No suggestion is better than a wild one."""
    assert closest("qqqq", ["folds", "seed"]) == ""
