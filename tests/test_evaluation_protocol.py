"""Tests of evaluation protocols."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nnunet_cel.evaluation.metrics import METRICS, EdgeCase, Metric
from nnunet_cel.evaluation.protocol import PROTOCOLS, load_protocol, parse_protocol
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


def leaves(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the path of every entry of a nested mapping."""
    paths: list[tuple[str, ...]] = []
    for key, value in content.items():
        paths.append((key,))
        if isinstance(value, dict):
            paths += [(key, *rest) for rest in leaves(value)]
    return paths


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
    path = tmp_path / "my protocol.yaml"
    path.write_text(yaml.safe_dump(content))

    protocol = load_protocol(path)

    assert protocol.overlap.fraction == 0.25
    saved = json.loads(json.dumps(plain(protocol.to_dict()), allow_nan=False))
    edge_cases = saved.pop("edge_cases")
    assert list(edge_cases) == list(METRICS)
    assert edge_cases["DSC"] == plain(content.pop("edge_cases")["DSC"])
    assert saved == content


def test_every_missing_entry_is_refused_by_name(content: dict[str, Any]) -> None:
    """Whichever entry is left out, the message names it."""
    paths = leaves(content)
    assert len(paths) == 12 + 4 * len(content["edge_cases"])
    for path in paths:
        broken = copy.deepcopy(content)
        part = broken
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]

        with pytest.raises(ValueError, match=rf"\b{path[-1]}\b"):
            parse_protocol(yaml.safe_dump(broken), "my protocol")


@pytest.mark.parametrize(
    ("path", "name", "right"),
    [
        ((), "min_voxel", "min_voxels"),
        (("overlap",), "fractions", "fraction"),
        (("edge_cases",), "L-sense", "L-sens"),
        (("edge_cases", "DSC"), "both_emty", "both_empty"),
    ],
)
def test_unknown_entries_are_refused_with_the_closest(
    content: dict[str, Any], path: tuple[str, ...], name: str, right: str
) -> None:
    """An entry that nothing reads is refused wherever it stands."""
    part = content
    for key in path:
        part = part[key]
    part[name] = 3

    with pytest.raises(ValueError, match=f"{name}'.*Did you mean '{right}'"):
        parse_protocol(yaml.safe_dump(content), "mine")


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
        (lambda c: c["edge_cases"]["DSC"].update(both_empty=1e999), "or .nan to leave"),
        (lambda c: c["edge_cases"].update(DSC=0), "DSC.*a mapping"),
        (lambda c: c.update(edge_cases=[]), "edge_cases.*a mapping"),
    ],
)
def test_wrong_values_are_refused(
    content: dict[str, Any],
    change: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    """A value that breaks its rule is refused, and the message names the entry."""
    change(content)

    with pytest.raises(ValueError, match=message):
        parse_protocol(yaml.safe_dump(content), "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a mapping"),
        ("- a list", "a mapping"),
        ("name: [", "is not YAML"),
        ("name: a\nname: b", "'name' is there twice"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_files_that_are_no_protocol_are_refused(text: str, message: str) -> None:
    """Other files are refused, and nothing in them is run."""
    with pytest.raises(ValueError, match=message):
        parse_protocol(text, "mine")


def test_missing_file_is_refused_with_the_known_names() -> None:
    """A protocol that is neither known nor a file is answered with the known ones."""
    with pytest.raises(FileNotFoundError, match="one of paper, anima"):
        load_protocol("papre")


def test_metric_that_came_later(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol that does not name it takes the metric's own values, or its own."""
    row = EdgeCase(empty_prediction=0, empty_reference=1, both_empty=NAN)
    new: Metric = replace(METRICS["DSC"], edge_case=row)
    monkeypatch.setitem(METRICS, "NEW", new)

    assert parse_protocol(yaml.safe_dump(content), "mine").edge_cases["NEW"] == row
    content["edge_cases"]["NEW"] = {**content["edge_cases"]["DSC"], "both_empty": 7}
    own = parse_protocol(yaml.safe_dump(content), "mine").edge_cases["NEW"]
    assert own.both_empty == 7
