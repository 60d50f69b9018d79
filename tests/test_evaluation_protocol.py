"""Tests of evaluation protocols."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nnunet_cel.evaluation.metrics import METRICS, EdgeCase
from nnunet_cel.evaluation.protocol import PROTOCOLS, Protocol, load_protocol
from nnunet_cel.evaluation.tables import plain

NAN = float("nan")


@pytest.fixture
def content() -> dict[str, Any]:
    """The content of a complete protocol."""
    return {
        "name": "mine",
        "version": 2,
        "description": "A test.",
        "connectivity": 18,
        "min_voxels": 2,
        "above_mm3": 1.5,
        "overlap": {"rule": "fraction", "fraction": 0.25},
        "on_dropped_reference": "counted",
        "size_bins_mm3": [5, 50],
        "edge_cases": {
            metric: {"empty_prediction": 0, "empty_reference": NAN, "both_empty": NAN}
            for metric, row in METRICS.items()
            if row.edge_case is None
        },
    }


def read(folder: Path, content: Any) -> Protocol:
    """Write a protocol, or a text, to a file and read it."""
    path = folder / "mine.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    path.write_text(text)
    return load_protocol(path)


def test_rules_of_the_package() -> None:
    """The default is the paper's, the other has animaSegPerfAnalyzer's numbers."""
    paper, anima = load_protocol(), load_protocol("anima")

    assert (paper.name, anima.name) == PROTOCOLS
    assert (paper.connectivity, paper.min_voxels, paper.overlap.rule) == (26, 3, "any")
    assert paper.on_dropped_reference == "ignored"
    assert paper.size_bins_mm3 == (10, 70, 500)
    assert (anima.connectivity, anima.above_mm3) == (6, 3)
    overlap = anima.overlap
    assert (overlap.alpha, overlap.beta, overlap.gamma) == (0.1, 0.7, 0.65)


def test_own_protocol_survives_file_and_json(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """What stands in the file is what is saved with the results."""
    protocol = read(tmp_path, content)

    assert protocol.overlap.fraction == 0.25
    saved = json.loads(json.dumps(plain(protocol.to_dict()), allow_nan=False))
    edge_cases = saved.pop("edge_cases")
    assert list(edge_cases) == list(METRICS)
    assert edge_cases["DSC"] == plain(content.pop("edge_cases")["DSC"])
    assert saved == content


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(((), name) for name in Protocol.model_fields),
        *((("overlap",), name) for name in ("rule", "fraction")),
        *((("edge_cases",), name) for name in METRICS),
        *((("edge_cases", "DSC"), name) for name in EdgeCase.model_fields),
    ],
)
def test_missing_and_unknown_entries_are_refused_by_name(
    content: dict[str, Any], path: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    """Whichever entry is left out or misspelt, the message names it."""
    part = content
    for key in path:
        part = part[key]
    value = part.pop(name)
    with pytest.raises(ValueError, match=rf"[.']{name}'|rule, {name}\. Got"):
        read(tmp_path, content)
    part[f"{name}x"] = value
    with pytest.raises(ValueError, match=f"{name}x"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(connectivity=True), "connectivity.*one of 6, 18 or 26"),
        (lambda c: c.update(min_voxels=0), "min_voxels.*number >= 1"),
        (lambda c: c.update(min_voxels=2.5), "min_voxels.*an integer"),
        (lambda c: c.update(above_mm3=-1), "above_mm3.*number >= 0"),
        (lambda c: c.update(above_mm3=NAN), "above_mm3.*finite number"),
        (lambda c: c.update(name=" "), "name.*a text"),
        (lambda c: c.update(on_dropped_reference=False), "on_dropped_reference"),
        (lambda c: c.update(size_bins_mm3=[5, 5]), "size_bins_mm3.*rising"),
        (lambda c: c.update(size_bins_mm3=[0, 5]), "size_bins_mm3.*rising"),
        (lambda c: c.update(size_bins_mm3=5), "size_bins_mm3.*a list"),
        (lambda c: c["overlap"].update(rule="any"), "must have the entries rule. Got"),
        (lambda c: c["overlap"].update(rule="some"), "one of 'any'"),
        (lambda c: c["overlap"].update(fraction=0), "fraction.*> 0"),
        (lambda c: c.update(overlap="any"), "overlap.*a mapping"),
        (lambda c: c["edge_cases"]["DSC"].update(both_empty=None), "DSC.both_empty"),
        (lambda c: c["edge_cases"].update(DSC=0), "DSC.*a mapping"),
        (lambda c: c.update(edge_cases=[]), "edge_cases.*a mapping"),
    ],
)
def test_wrong_values_are_refused(
    content: dict[str, Any],
    change: Callable[[dict[str, Any]], None],
    message: str,
    tmp_path: Path,
) -> None:
    """A value that breaks its rule is refused, and the message names the entry."""
    change(content)

    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a mapping"),
        ("- a list", "a mapping"),
        ("name: [", "is not YAML"),
        ("name: a\nname: b", r"mine.yaml is not YAML: .*'name' twice.*line 1"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_files_that_are_no_protocol_are_refused(
    text: str, message: str, tmp_path: Path
) -> None:
    """Other files are refused, nothing in them is run, and names are suggested."""
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
    with pytest.raises(FileNotFoundError, match="one of paper, anima"):
        load_protocol("papre")


def test_metric_that_came_later(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol that does not name it takes the metric's own values, or its own."""
    row = EdgeCase(empty_prediction=0, empty_reference=1, both_empty=NAN)
    monkeypatch.setitem(METRICS, "NEW", replace(METRICS["DSC"], edge_case=row))

    assert read(tmp_path, content).edge_cases["NEW"] == row
    content["edge_cases"]["NEW"] = {**content["edge_cases"]["DSC"], "both_empty": 7}
    assert read(tmp_path, content).edge_cases["NEW"].both_empty == 7
