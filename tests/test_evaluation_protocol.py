"""Tests of evaluation protocols."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.protocol import PROTOCOLS, load_protocol, parse_protocol

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
            for metric in METRICS
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


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_of_the_package_are_complete(name: str) -> None:
    """The protocols that come with the package load, under their own names."""
    protocol = load_protocol(name)

    assert protocol.name == name
    assert set(protocol.edge_cases) == set(METRICS)


def test_paper_is_the_default_with_its_settled_rules() -> None:
    """The default is the paper's: corners connect, 3 voxels at least, any overlap."""
    protocol = load_protocol()

    assert protocol.name == "paper"
    assert (protocol.connectivity, protocol.min_voxels) == (26, 3)
    assert protocol.overlap.rule == "any"
    assert protocol.on_dropped_reference == "ignored"
    assert protocol.size_bins_mm3 == (10, 70, 500)


def test_anima_has_its_published_numbers() -> None:
    """The second protocol has the defaults of animaSegPerfAnalyzer."""
    protocol = load_protocol("anima")
    overlap = protocol.overlap

    assert (overlap.alpha, overlap.beta, overlap.gamma) == (0.1, 0.7, 0.65)
    assert (protocol.connectivity, protocol.above_mm3) == (6, 3)


def test_own_protocol_is_read_from_a_file(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """A protocol of one's own has all rules that stand in its file."""
    path = tmp_path / "my protocol.yaml"
    path.write_text(yaml.safe_dump(content))

    protocol = load_protocol(path)

    assert protocol.connectivity == 18
    assert protocol.overlap.fraction == 0.25
    assert protocol.edge_cases["DSC"].empty_prediction == 0


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol_survives_json(name: str) -> None:
    """What is saved with the results is valid JSON and gives the same protocol."""
    saved = json.loads(json.dumps(load_protocol(name).to_dict(), allow_nan=False))
    for values in saved["edge_cases"].values():
        for edge, value in values.items():
            values[edge] = NAN if value is None else value

    again = parse_protocol(yaml.safe_dump(saved), "saved")

    assert again.to_dict() == load_protocol(name).to_dict()


def test_every_missing_entry_is_refused_by_name(content: dict[str, Any]) -> None:
    """Whichever entry is left out, the message names it."""
    paths = leaves(content)
    assert len(paths) == 12 + 4 * len(METRICS)
    paths.remove(("overlap", "rule"))  # without it, no fraction is known
    for path in paths:
        broken = copy.deepcopy(content)
        part = broken
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]

        with pytest.raises(ValueError, match=f"must have the entry '{path[-1]}'"):
            parse_protocol(yaml.safe_dump(broken), "mine")


def test_every_unknown_entry_is_refused_by_name(content: dict[str, Any]) -> None:
    """An entry that nothing reads is refused wherever it stands, with a hint."""
    for path in [(), ("overlap",), ("edge_cases",), ("edge_cases", "DSC")]:
        broken = copy.deepcopy(content)
        part = broken
        for key in path:
            part = part[key]
        part["min_voxel"] = 3

        with pytest.raises(ValueError, match="not known, 'min_voxel'"):
            parse_protocol(yaml.safe_dump(broken), "mine")


def test_closest_entry_is_suggested(content: dict[str, Any]) -> None:
    """A misspelled metric is answered with the right spelling."""
    content["edge_cases"]["L-sense"] = content["edge_cases"].pop("L-sens")

    with pytest.raises(ValueError, match="Did you mean 'L-sens'"):
        parse_protocol(yaml.safe_dump(content), "mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(connectivity=8), "connectivity.*one of 6, 18, 26"),
        (lambda c: c.update(connectivity=True), "connectivity.*one of 6, 18, 26"),
        (lambda c: c.update(min_voxels=0), "min_voxels.*whole number >= 1"),
        (lambda c: c.update(min_voxels=2.5), "min_voxels.*whole number"),
        (lambda c: c.update(above_mm3=-1), "above_mm3.*number >= 0"),
        (lambda c: c.update(above_mm3="3"), "above_mm3.*number"),
        (lambda c: c.update(above_mm3=NAN), "above_mm3.*number"),
        (lambda c: c.update(name=""), "name.*text"),
        (lambda c: c.update(version="1"), "version.*whole number"),
        (lambda c: c.update(on_dropped_reference=False), "on_dropped_reference"),
        (lambda c: c.update(size_bins_mm3=[]), "size_bins_mm3.*rising"),
        (lambda c: c.update(size_bins_mm3=[5, 5]), "size_bins_mm3.*rising"),
        (lambda c: c.update(size_bins_mm3=[0, 5]), "size_bins_mm3.*rising"),
        (lambda c: c["overlap"].update(rule="some"), "not known|one of any"),
        (lambda c: c["overlap"].update(fraction=0), "fraction.*above 0"),
        (lambda c: c["overlap"].update(fraction=1.5), "fraction.*from 0 to 1"),
        (lambda c: c.update(overlap="any"), "overlap.*must have the entries"),
        (lambda c: c["edge_cases"]["DSC"].update(both_empty=None), "both_empty.*nan"),
        (lambda c: c["edge_cases"]["DSC"].update(both_empty="nan"), "both_empty"),
        (lambda c: c["edge_cases"].update(DSC=0), "DSC.*must have the entries"),
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
        ("", "must have the entries"),
        ("- a list", "must have the entries"),
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
