"""Faults of a running training, each one really made, of ``nnUNetv2_train``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import tiny_plans

from nnunet_cel.files import locked

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, makes mounts"),
]

FOREVER = {"max_epochs": 100_000, "patience": 100_000, "iterations_per_epoch": 2}
SECONDS = 60  # in which a fault must be told; and in which a training must start
ISOLATE = ("unshare", "--mount", "--map-root-user")


class Training:
    """A training of ``Dataset501_Tiny`` that ends by a fault only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        name = "Dataset501_Tiny/FCADenseTrainer__FCADensePlans__2d/fold_0"
        self.folder = root / "results" / name
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, mount: str = "") -> subprocess.Popen[bytes]:
        """Start a training, if wanted with an additional mount."""
        train = shutil.which("nnUNetv2_train", path=sysconfig.get_path("scripts"))
        isolate = [*ISOLATE, "sh", "-c", f'mount {mount} && exec "$0" "$@"']
        environment = {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"}
        with self.output(len(self.processes)).open("wb") as output:
            process = subprocess.Popen(
                [
                    *(*(isolate if mount else []), str(train)),
                    *("501", "2d", "0", "-tr", "FCADenseTrainer"),
                    *("-p", "FCADensePlans", "-device", "cpu"),
                    *options,
                ],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def output(self, number: int) -> Path:
        """Return the file with what a process said."""
        return self.root / f"output_{number}.txt"

    def wait_for_epoch(self, epoch: int) -> None:
        """Wait until the log tells of an epoch."""
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline:
            logs = self.folder.glob("training_log_*.txt")
            if any(f"Epoch {epoch} \n" in log.read_text() for log in logs):
                return
            time.sleep(0.1)
        pytest.fail(f"no epoch {epoch}: {self.output(0).read_text()[-3000:]}")

    def last_line(self, process: subprocess.Popen[bytes]) -> str:
        """Return the last line of a training that fails in time."""
        output = self.output(self.processes.index(process))
        try:
            assert process.wait(SECONDS) == 1, output.read_text()[-3000:]
        except subprocess.TimeoutExpired:
            pytest.fail(f"it hangs: {output.read_text()[-3000:]}")
        lines = output.read_text().splitlines()
        return next(line for line in reversed(lines) if "Error: " in line)


@pytest.fixture
def training(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Training]:
    """A training that is ended with the test."""
    shutil.copytree(tiny_dataset.parent, tmp_path / "preprocessed")
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    dataset = tmp_path / "preprocessed" / tiny_dataset.name
    plans = tiny_plans(dataset, **FOREVER)
    (dataset / "FCADensePlans.json").write_text(json.dumps(plans))
    training = Training(tmp_path)
    yield training
    for process in training.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def mounts() -> None:
    """Skip where a process cannot get mounts of its own."""
    if shutil.which("unshare") is None or subprocess.run([*ISOLATE, "true"]).returncode:
        pytest.skip("needs user namespaces")


def test_second_training_is_refused_and_dead_worker_told(training: Training) -> None:
    """A fold belongs to one process; one that loses a loader ends with advice."""
    first = training.start()
    training.wait_for_epoch(1)

    message = training.last_line(training.start("--c"))
    assert f"run at a time. Got a second one for {training.folder}" in message

    loaders = Path(f"/proc/{first.pid}/task").glob("*/children")
    os.kill(int(next(pid for file in loaders for pid in file.read_text().split())), 9)
    message = training.last_line(first)
    assert "The processes that load data must be able to run" in message
    assert "nnUNet_n_proc_DA" in message
    assert "killed by signal: Killed" in message


def test_lock_ends_with_its_process(training: Training) -> None:
    """After ``kill -9`` the fold is free at once, although loaders still end."""
    process = training.start()
    training.wait_for_epoch(0)

    process.kill()
    process.wait()

    with locked(training.folder / "training.lock", "is locked"):
        pass


ADVICE = r"share memory \(/dev/shm\).*nnUNet_n_proc_DA, 0 for none"


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("size", "place", "message"),
    [
        # the first checkpoint does not fit: its name is told
        ("100k", "results", r"Could not write .*/fold_0/checkpoint_.*No space left"),
        # loaders without shared memory: advice to start without them, and no hang
        ("4k", "/dev/shm", ADVICE),  # no room for semaphores
        ("16k", "/dev/shm", ADVICE),  # none for batches
    ],
)
def test_too_little_room_ends_training(
    training: Training, size: str, place: str, message: str
) -> None:
    """Where a file system is full, the last line names the file or the cure."""
    folder = training.root / place

    process = training.start(mount=f"-t tmpfs -o size={size} none '{folder}'")

    assert re.search(message, training.last_line(process))
