"""Commands that are killed leave nothing behind that the next run does not clear.

Each command is killed (SIGKILL) right before one change of the file system after the
other, in a fork of a process that has loaded all that it needs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, write_volume

pytestmark = pytest.mark.campaign

QUIET = ("-np", "1", "--no-progress")
COMMANDS = {
    "convert": ("convert", "cel", "in/cases.csv", "-o", "raw", *QUIET),
    "evaluate": ("evaluate", "in/p", "in/r", "-o", "out", *QUIET),
    "report": ("report", "in/e", "-o", "page.html", "--lesions", "1", *QUIET),
    "prepare": ("prepare", "in/cases.csv", "out", "--no-strip", *QUIET),
    "restore": ("restore", "in/p/A.nii.gz", "in/i/A_0000.nii.gz", "-o", "a.nii.gz"),
}
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "pytest",
        "nnunet_cel.dataset_conversion.command",
        "nnunet_cel.evaluation.dataset",
        "nnunet_cel.preparation.command",
        "nnunet_cel.preparation.restore",
        "nnunet_cel.report.build",
    ]
)


def run(folder: Path, arguments: tuple[str, ...], kill_at: int = 0) -> int | None:
    """Run a command in a folder; return its exit status, None if it was killed."""
    process = SERVER.Process(target=run_here, args=(folder, arguments, kill_at))
    process.start()
    process.join()
    return None if process.exitcode == -signal.SIGKILL else process.exitcode


def run_here(folder: Path, arguments: tuple[str, ...], kill_at: int) -> None:
    """Run a command in this process, which dies right before its Nth change."""
    os.chdir(folder)
    seen = 0

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(details[2], int) and details[2] & 3
        if writes or event in CHANGES:
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    with Path(os.devnull).open("w") as silent, contextlib.redirect_stdout(silent):
        sys.addaudithook(hook)
        sys.exit(cli.main(arguments))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, but for hidden ones."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = (p for p in paths if not any(part.startswith(".") for part in p.parts))
    return {str(path): (folder / path).read_bytes() for path in visible}


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
        moved = np.roll(label, 1, axis=0)
        rows.append(f"{case},i/{case}_0000.nii.gz,r/{case}.nii.gz")
        files = {f"i/{case}_0000": image, f"r/{case}": label, f"p/{case}": moved}
        for name, voxels in files.items():
            write_volume(folder / f"in/{name}.nii.gz", Volume(voxels, np.eye(4)))
    (folder / "in/cases.csv").write_text("\n".join(rows))
    assert run(folder, ("evaluate", "in/p", "in/r", "-o", "in/e", *QUIET)) == 0
    return folder


@pytest.mark.parametrize(
    ("name", "every", "earlier"),
    [
        ("convert", 2, False),
        ("evaluate", 2, False),
        ("report", 8, False),
        ("prepare", 5, False),
        ("restore", 1, False),
        ("convert", 3, True),
        ("evaluate", 3, True),
    ],
)
def test_killed_and_run_again(work: Path, name: str, every: int, earlier: bool) -> None:
    """Whenever it was killed, the same command then makes the same files, no others.

    What was there before is there, or was replaced whole.
    """
    command = COMMANDS[name]
    if earlier:
        assert run(work, command) == 0
        command = (*command, "--overwrite")
    before = contents(work)
    spare = shutil.copytree(work, work.with_name("spare"))
    assert run(work, command) == 0
    whole = contents(work)

    for kills in range(1000):
        shutil.rmtree(work)
        shutil.copytree(spare, work)
        if run(work, command, kill_at=1 + kills * every) is not None:
            break
        left = contents(work)
        for file, content in left.items():
            assert content in (before.get(file), whole.get(file)), (kills, file)
        # A part of the results is replaced if asked; if all are there, none need be.
        again = command if left == before else (*command, "--overwrite")
        assert left == whole or run(work, again) == 0
        assert contents(work) == whole, kills
    assert kills >= 3
