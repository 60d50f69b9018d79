"""Runs the named benchmarks, or all of them.

A benchmark is a module of this folder with a docstring, `NAME` and `run() -> dict`.
What `run` returns is printed as a table and, last, as one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmarks and returns the exit status."""
    benchmarks = _load()
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(benchmarks))
    names = parser.parse_args(argv).names or list(benchmarks)
    for name in names:
        if name not in benchmarks:
            parser.error(f"NAME must be one of {', '.join(benchmarks)}. Got {name}.")
    results = {}
    for name in names:
        print(f"{name}: {(benchmarks[name].__doc__ or '').splitlines()[0]}", flush=True)
        results[name] = benchmarks[name].run()
        width = max((len(key) for key in results[name]), default=0)
        for key, value in results[name].items():
            number = f"{value:.4g}" if isinstance(value, float) else value
            print(f"  {key:<{width}}  {number}", flush=True)
    print(json.dumps(results))
    return 0


def _load() -> dict[str, ModuleType]:
    """Returns the benchmarks of this folder, by name."""
    found = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"benchmarks.{info.name}")
            found[module.NAME] = module
    return found


if __name__ == "__main__":
    raise SystemExit(main())
