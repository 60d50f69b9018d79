"""Faults of a running training, each one really made, of ``nnUNetv2_train``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_cel.files import locked
from nnunet_cel.settings import BLOCK

pytestmark = pytest.mark.campaign

NETWORK = {"down_layers": [1], "bottleneck_layers": 1, "stem_features": 8}
FOREVER = {
    "max_epochs": 100_000,
    "patience": 100_000,
    "iterations_per_epoch": 2,
    "validation_iterations": 1,
    "training_window": 16,
}
SECONDS = 60  # in which a fault must be told; and in which a training must start


class Training:
    """A training of ``Dataset501_Tiny`` that ends by a fault only."""

    def __init__(self, root: Path, preprocessed: Path) -> None:
        self.root = root
        shutil.copytree(preprocessed, root / "preprocessed")
        for name in ("raw", "results"):
            (root / name).mkdir()
        file = root / "preprocessed" / "Dataset501_Tiny" / "FCADensePlans.json"
        plans = json.loads(file.read_text())
        entry = plans["configurations"]["2d"]
        entry["batch_size"] = 2
        entry["architecture"]["arch_kwargs"] |= NETWORK
        entry[BLOCK] |= FOREVER
        file.write_text(json.dumps(plans))
        self.folder = (
            root
            / "results"
            / "Dataset501_Tiny"
            / "FCADenseTrainer__FCADensePlans__2d"
            / "fold_0"
        )
        self.output = root / "output.txt"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, before: str = "true") -> subprocess.Popen[bytes]:
        """Start a training; with ``before`` mounts of its own, made by that command."""
        train = shutil.which("nnUNetv2_train", path=sysconfig.get_path("scripts"))
        command = f'{before} && exec "$0" "$@"'
        isolate = [] if before == "true" else ["unshare", "--mount", "--map-root-user"]
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(*isolate, "sh", "-c", command, str(train)),
                    *("501", "2d", "0", "-tr", "FCADenseTrainer"),
                    *("-p", "FCADensePlans", "-device", "cpu"),
                    *options,
                ],
                env=os.environ
                | {
                    f"nnUNet_{name}": str(self.root / name)
                    for name in ("raw", "preprocessed", "results")
                }
                | {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def wait_for_epoch(self, epoch: int) -> None:
        """Wait until the log tells of an epoch."""
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline:
            logs = self.folder.glob("training_log_*.txt")
            if any(f"Epoch {epoch} \n" in log.read_text() for log in logs):
                return
            time.sleep(0.1)
        pytest.fail(f"no epoch {epoch}: {self.output.read_text()[-3000:]}")

    def fails(self, process: subprocess.Popen[bytes]) -> str:
        """Return what a training says that fails in time."""
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it hangs: {self.output.read_text()[-3000:]}")
        output = self.output.read_text()
        assert status == 1, output[-3000:]
        return output

    def last_line(self, process: subprocess.Popen[bytes]) -> str:
        """Return the last line of a training that fails in time."""
        lines = self.fails(process).splitlines()
        return next(line for line in reversed(lines) if "Error: " in line)


@pytest.fixture
def training(planned_folders: Path, tmp_path: Path) -> Iterator[Training]:
    """A training that is ended with the test."""
    training = Training(tmp_path, planned_folders / "preprocessed")
    yield training
    for process in training.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def mounts() -> None:
    """Skip where a process cannot get mounts of its own."""
    command = ["unshare", "--mount", "--map-root-user", "true"]
    if (
        sys.platform != "linux"
        or shutil.which("unshare") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs user namespaces of Linux")


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{process.pid}/task")
    return [
        int(child)
        for task in tasks.iterdir()
        for child in (task / "children").read_text().split()
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_second_training_is_refused_and_dead_worker_told(training: Training) -> None:
    """A fold belongs to one process; one that loses a loader ends with advice."""
    first = training.start()
    training.wait_for_epoch(1)
    said = training.output
    training.output = training.root / "second.txt"

    message = training.last_line(training.start("--c"))
    assert f"run at a time. Got a second one for {training.folder}" in message

    training.output = said
    os.kill(children_of(first)[0], signal.SIGKILL)
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


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("size", ["40k", "100k"])
def test_full_disk_ends_training(training: Training, size: str) -> None:
    """Neither first checkpoint nor figure fits: the message names the file."""
    results = training.root / "results"

    process = training.start(before=f"mount -t tmpfs -o size={size} none '{results}'")

    message = training.last_line(process)
    assert "No space left on device" in message
    assert str(training.folder) in message


@pytest.mark.usefixtures("mounts")
def test_no_shared_memory_ends_training(training: Training) -> None:
    """Loaders without shared memory: advice to start without them, and no hang."""
    process = training.start(before="mount -t tmpfs -o size=4k none /dev/shm")

    message = training.last_line(process)
    assert "must be able to run and to share memory (/dev/shm)" in message
    assert "nnUNet_n_proc_DA, 0 for none" in message
