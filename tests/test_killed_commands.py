"""Commands that are killed leave nothing behind that the next run does not clear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, write_volume

QUIET = ("-np", "1", "--no-progress")
COMMANDS = {
    "convert": ("convert", "cel", "in/cases.csv", "-o", "raw", *QUIET),
    "evaluate": ("evaluate", "in/p", "in/r", "-o", "out", *QUIET),
    "report": ("report", "in/e", "-o", "page.html", "--lesions", "1", *QUIET),
    "prepare": ("prepare", "in/cases.csv", "out", "--no-strip", *QUIET),
    "restore": ("restore", "in/p/A.nii.gz", "in/i/A_0000.nii.gz", "-o", "a.nii.gz"),
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with scans, label maps and an evaluation of them in ``in``."""
    folder = tmp_path / "my work"
    rng = np.random.default_rng(0)
    rows = ["subject,image,label"]
    for part in ("i", "p", "r"):
        (folder / "in" / part).mkdir(parents=True)
    for case in "AB":
        label = np.zeros((7, 6, 5), np.uint8)
        label[1:4, 1:4, 1:3] = 1
        image = rng.integers(1, 99, label.shape).astype(np.int16)
        rows.append(f"{case},i/{case}_0000.nii.gz,r/{case}.nii.gz")
        for name, voxels in ((f"i/{case}_0000", image), (f"r/{case}", label)):
            write_volume(folder / f"in/{name}.nii.gz", Volume(voxels, np.eye(4)))
        moved = np.roll(label, 1, axis=0)
        write_volume(folder / f"in/p/{case}.nii.gz", Volume(moved, np.eye(4)))
    (folder / "in/cases.csv").write_text("\n".join(rows))
    parts = [str(folder / "in" / part) for part in ("p", "r", "e")]
    assert cli.main(["evaluate", parts[0], parts[1], "-o", parts[2], *QUIET]) == 0
    return folder


def kill(work: Path, every: int, *command: str) -> int:
    """Kill a command again and again; return how often, if nothing was wrong."""
    script = Path(__file__).with_name("kill_command.py")
    arguments = [sys.executable, str(script), str(work), str(every), *command]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=True, timeout=500
    )
    number, wrong = json.loads(done.stdout.splitlines()[-1])
    assert not wrong, "\n".join(wrong) + done.stderr
    return int(number)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("command", "every"),
    [("convert", 2), ("evaluate", 2), ("report", 8), ("prepare", 5), ("restore", 1)],
)
def test_killed_and_run_again(work: Path, command: str, every: int) -> None:
    """Whenever it was killed, the same command then makes the same files, no others."""
    assert kill(work, every, *COMMANDS[command]) >= 3


@pytest.mark.campaign
@pytest.mark.parametrize("command", ["convert", "evaluate"])
def test_killed_while_replacing(
    work: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an earlier result in its place, nothing of it is lost or left over."""
    monkeypatch.chdir(work)
    assert cli.main([*COMMANDS[command]]) == 0

    assert kill(work, 3, *COMMANDS[command], "--overwrite") >= 3
