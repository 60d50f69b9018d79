"""Measures what things cost on this machine, on its GPU where that is used.

    python -m benchmarks                           all of them, about half an hour
    python -m benchmarks loader preprocessing      some of them
    python -m benchmarks prediction -o rounds=3    one of them with an option
    python -m benchmarks prediction -o model=FOLDER -o kind=wmh

Run it from a checkout with the package installed (`make bench` does both), on a machine
that does nothing else: two cores and 8 GB of memory are enough. What is compared takes
turns in the same run, so that a slow moment hits both sides; ratios mean more than
seconds. `benchmarks/RESULTS.md` holds results.

A benchmark is a module of this folder with a docstring that says what is measured and
how, and `run`, whose options all have defaults. What `run` returns is printed as a
table and, last, together with the machine, as one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import pkgutil
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit status."""
    folder = str(Path(__file__).parent)
    benchmarks = [info.name for info in pkgutil.iter_modules([folder])]
    benchmarks = [name for name in benchmarks if not name.startswith("_")]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(benchmarks))
    parser.add_argument(
        "-o",
        "--option",
        dest="options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the one benchmark that is run; its docstring lists them",
    )
    args = parser.parse_args(argv)
    names = args.names or benchmarks
    for name in names:
        if name not in benchmarks:
            parser.error(f"NAME must be one of {', '.join(benchmarks)}. Got {name}.")
    if args.options and len(names) != 1:
        parser.error(f"Options need exactly one NAME. Got {len(names)}.")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    options = dict(_parse(option) for option in args.options)
    known = list(inspect.signature(modules[names[0]].run).parameters)
    for key in options:
        if key not in known:
            parser.error(
                f"Options of {names[0]} must be among: {', '.join(known) or 'none'}. "
                f"Got {key}."
            )

    results: dict[str, Any] = {"machine": _machine()}
    _print_table("machine", results["machine"])
    for name, module in modules.items():
        print(f"{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        begin = time.perf_counter()
        results[name] = module.run(**options)
        _print_table(f"took {time.perf_counter() - begin:.0f} s", results[name])
    print(json.dumps(results))
    return 0


def _parse(option: str) -> tuple[str, Any]:
    """Return key and value; what is not JSON is text."""
    key, _, text = option.partition("=")
    try:
        return key, json.loads(text)
    except json.JSONDecodeError:
        return key, text


def _machine() -> dict[str, Any]:
    """Return what the results depend on."""
    cpu = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load of the last minute": load,
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "nnunetv2")},
    }


def _print_table(title: str, table: dict[str, Any]) -> None:
    width = max((len(key) for key in table), default=0)
    print(f"  [{title}]")
    for key, value in table.items():
        number = f"{value:.4g}" if isinstance(value, float) else value
        print(f"  {key:<{width}}  {number}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
