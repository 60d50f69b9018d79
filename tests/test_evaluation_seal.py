"""Files of an evaluation that were changed are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_cel.evaluation.seal import check_seal, sealed


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    """A sealed summary with one table."""
    (tmp_path / "cases.csv").write_text("case\na\n")
    content = sealed({"n": 1, "mean": None}, [tmp_path / "cases.csv"])
    (tmp_path / "summary.json").write_text(json.dumps(content))
    return tmp_path / "summary.json"


def check(path: Path) -> None:
    """Check the seals of a summary that is read from its file."""
    check_seal(path, json.loads(path.read_text()))


def test_what_was_written_passes(summary: Path) -> None:
    """Reading back, in whatever order and spacing, breaks no seal."""
    check(summary)
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps(dict(reversed(content.items())), indent=1))
    check(summary)


def test_what_has_no_seal_passes(tmp_path: Path) -> None:
    """Nothing is known of it."""
    check_seal(tmp_path / "summary.json", {"n": 1})


@pytest.mark.parametrize("key", ["n", "mean", "files", "seal"])
def test_a_changed_summary_is_named(summary: Path, key: str) -> None:
    """Every entry counts, and the seals themselves."""
    content = json.loads(summary.read_text())
    for value in (None, 2, ...):
        changed = {name: kept for name, kept in content.items() if name != key}
        if value is not ...:
            changed[key] = value
        if changed != content:
            with pytest.raises(ValueError, match=r"missing: \S*summary\.json\. "):
                check_seal(summary, changed)


def test_a_changed_or_missing_table_is_named(summary: Path) -> None:
    """The table is named, not the summary."""
    table = summary.parent / "cases.csv"
    table.write_text("case\nb\n")
    with pytest.raises(ValueError, match=r"missing: \S*cases\.csv\. "):
        check(summary)
    table.unlink()
    with pytest.raises(ValueError, match=r"missing: \S*cases\.csv\. "):
        check(summary)
