"""Tests of `nnunet_cel.schema`."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from pydantic import Field, field_validator

from nnunet_cel.schema import Model, closest, parse


class Inner(Model):
    """A part of a record."""

    folds: int = Field(5, ge=1, le=5)
    share: float = Field(0.5, gt=0)


class Outer(Model):
    """A record."""

    name: str
    loss: Literal["focal", "dice"] = "focal"
    flag: bool = False
    inner: Inner = Inner()
    optional: int | None = None
    many: dict[str, Inner] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _is_short(cls, name: str) -> str:
        if len(name) > 5:
            raise ValueError("must have 5 letters at most. Use a shorter one.")
        return name


def test_a_record_of_what_is_given() -> None:
    """Keys that are left out have their defaults; an integer is a number."""
    record = parse(Outer, {"name": "a", "inner": {"share": 2}}, "file.yaml")

    assert record == Outer(name="a", inner=Inner(folds=5, share=2.0))
    assert closest("zzz", ["focal", "dice"]) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"loss": "focl"}, "The 'loss' of f must be one of 'focal' or 'dice'. Got "),
        ({"loss": "focl"}, "Did you mean 'focal'?"),
        ({"flag": 1}, "The 'flag' of f must be true or false. Got 1 instead."),
        ({"inner": {"folds": 9}}, "'inner.folds' of f must be a number <= 5. Got 9"),
        ({"inner": {"folds": True}}, "'inner.folds' of f must be an integer. Got True"),
        ({"inner": {"share": "1"}}, "'inner.share' of f must be a number. Got '1'"),
        ({"inner": {"fold": 1}}, "f has no setting 'inner.fold'. Did you mean 'folds'"),
        ({"inner": 3}, "'inner' of f must be a mapping of keys and values. Got 3"),
        ({"many": {"a": {"folds": 0}}}, "The 'many.a.folds' of f must be a number >= "),
        ({"optional": "x"}, "The 'optional' of f must be an integer. Got 'x' instead."),
        ({"name": "too long"}, "The 'name' of f must have 5 letters at most."),
        ({"name": None}, "The 'name' of f must be a text. Got None instead."),
    ],
)
def test_names_setting_rule_and_what_was_got(
    content: dict[str, object], message: str
) -> None:
    """A message holds all that is needed to mend the file."""
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(Outer, {"name": "a"} | content, "f")


def test_lists_all_problems() -> None:
    """Everything that is wrong is told at once."""
    with pytest.raises(ValueError, match="f has 3 problems") as error:
        parse(Outer, {"flag": 2, "los": "focal"}, "f")

    assert "The 'name' of f must be given. It is missing." in str(error.value)


def test_what_is_no_mapping_is_refused_and_cut() -> None:
    """A message does not print a whole file."""
    for content in (None, [], "text", 3, ["x" * 10] * 10**5):
        with pytest.raises(ValueError, match="a mapping of keys and values") as error:
            parse(Inner, content, "f")
        assert len(str(error.value)) < 500
