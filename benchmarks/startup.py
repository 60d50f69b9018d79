"""What every start of Python pays for the discovery.

Bare virtual environments are made. Into one the package is installed as pip does it
from a wheel, with `nnunet_cel.pth` and compiled. `python -c pass` is timed in all of
them in turns, so that a busy machine slows all alike; the cost is the median of the
differences within the turns. Two environments are without the package: the difference
between them is what the method measures where there is no cost. Only the files that a
start reads are copied, so the measurement needs no build.

``nnUNetv2_train -h``, which imports torch and nnU-Net, is timed in the environment of
the benchmark, with the plug-in and with it switched off (NNUNET_CEL_DISABLE=1).

Options: ``starts`` of each environment, ``commands`` of each kind.
"""

from __future__ import annotations

import compileall
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

_WARM_UP = 5
_PACKAGE = Path(__file__).parent.parent / "nnunet_cel"


def run(*, starts: int = 200, commands: int = 5) -> dict[str, Any]:
    """Return medians in milliseconds, with quartiles of the paired differences."""
    with tempfile.TemporaryDirectory() as folder:
        plain = _make_environment(Path(folder, "plain"), with_discovery=False)
        control = _make_environment(Path(folder, "control"), with_discovery=False)
        ours = _make_environment(Path(folder, "ours"), with_discovery=True)
        off = {"NNUNET_CEL_DISABLE": "1"}
        environments: dict[str, tuple[Path, dict[str, str]]] = {
            "plain": (plain, {}),
            "control": (control, {}),
            "installed": (ours, {}),
            "switched off": (ours, off),
        }
        arguments = ["-c", "pass"]
        times = _time_in_turns(environments, arguments, warm_up=_WARM_UP, turns=starts)
        imports = [_import_time(ours) for _ in range(30)]
    result: dict[str, Any] = {"starts of each": starts}
    for name, values in times.items():
        result[f"{name}: whole start, ms"] = statistics.median(values)
    for name in ("control", "installed", "switched off"):
        pairs = zip(times[name], times["plain"], strict=True)
        low, middle, high = statistics.quantiles([a - b for a, b in pairs], n=4)
        result[f"{name} - plain, ms"] = middle
        result[f"{name} - plain, quartiles, ms"] = [round(low, 3), round(high, 3)]
    python = Path(sys.executable)
    helps = _time_in_turns(
        {"with": (python, {}), "without": (python, {"NNUNET_CEL_DISABLE": "1"})},
        [str(python.with_name("nnUNetv2_train")), "-h"],
        warm_up=1,
        turns=commands,
    )
    for name, values in helps.items():
        result[f"nnUNetv2_train -h {name} the plug-in, s"] = (
            statistics.median(values) / 1e3
        )
    result["nnUNetv2_train -h, with / without"] = statistics.median(
        [a / b for a, b in zip(helps["with"], helps["without"], strict=True)]
    )
    result["-X importtime of nnunet_cel.discovery, ms"] = statistics.median(imports)
    return result


def _make_environment(folder: Path, *, with_discovery: bool) -> Path:
    """Make a virtual environment without pip and return its interpreter."""
    venv.create(folder, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    if with_discovery:
        (site / "nnunet_cel").mkdir()
        for name in ("__init__.py", "discovery.py"):
            shutil.copy(_PACKAGE / name, site / "nnunet_cel" / name)
        compileall.compile_dir(site, quiet=1)
        (site / "nnunet_cel.pth").write_text("import nnunet_cel.discovery\n")
    name = Path(sys.executable).name
    return Path(sysconfig.get_path("scripts", "venv", vars=scheme), name)


def _time_in_turns(
    starts: dict[str, tuple[Path, dict[str, str]]],
    arguments: list[str],
    *,
    warm_up: int,
    turns: int,
) -> dict[str, list[float]]:
    """Return the time of each start in milliseconds, one of each in every turn."""
    times: dict[str, list[float]] = {name: [] for name in starts}
    order = list(starts)
    rng = random.Random(0)
    for turn in range(warm_up + turns):
        rng.shuffle(order)  # no one is always the first
        for name in order:
            python, variables = starts[name]
            environment = {**os.environ, **variables}
            begin = time.perf_counter()
            subprocess.run(
                [python, *arguments],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            if turn >= warm_up:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return times


def _import_time(python: Path) -> float:
    """Return the time of the import, the package included, in milliseconds."""
    process = subprocess.run(
        [python, "-X", "importtime", "-c", "pass"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in process.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if parts[-1].strip() == "nnunet_cel.discovery":
            return float(parts[1]) / 1e3
    raise RuntimeError(
        "'nnunet_cel.discovery' must be imported at the start. It was not."
    )
