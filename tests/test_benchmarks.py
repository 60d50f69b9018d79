"""Every benchmark runs, small, and its line of JSON holds numbers that can be."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = {
    "growth": {"extents": [32], "lesions": [2]},
    "large": {"shape": [32, 32, 24], "cube": 8},
    "loader": {"spacing": 4.0, "turns": 2, "batch_size": 4},
    "networks": {"window": 64, "turns": 2},
    "prediction": {"spacing": 6.0, "stride": 8},
    "preprocessing": {"spacing": 4.0, "turns": 2},
    "startup": {"starts": 2, "commands": 1},
    "training": {"sizes": [[2, 32, 1]], "only": ["float32"], "device": "cpu"},
}
ROOT = Path(__file__).parent.parent


def test_all_benchmarks_are_tried() -> None:
    """A new benchmark gets a line above."""
    modules = {file.stem for file in (ROOT / "benchmarks").glob("[!_]*.py")}

    assert modules == set(SMALL)


@pytest.mark.campaign
@pytest.mark.parametrize("name", SMALL)
def test_benchmark_measures(name: str) -> None:
    """All seconds, rates, sizes and ratios are above zero and finite."""
    options = [f"-o{key}={json.dumps(value)}" for key, value in SMALL[name].items()]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, *options],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert process.returncode == 0, process.stdout + process.stderr
    results = json.loads(process.stdout.splitlines()[-1])
    numbers = {k: v for k, v in results[name].items() if isinstance(v, float)}
    assert numbers
    differences = ("- plain", "per voxel")  # may be of either sign where all is small
    for key, number in numbers.items():
        assert math.isfinite(number), key
        assert number > 0 or any(part in key for part in differences), key
