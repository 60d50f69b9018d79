"""Trainings that are killed with ``kill -9`` and continued with ``--c``.

A process of its own imports nnU-Net once and forks for every training, so that a kill
costs a second or two.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_plans
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from nnunet_cel.training import trainer as module

# the campaign of docs/reliability.md: NNUNET_CEL_KILLS=100
KILLS = int(os.environ.get("NNUNET_CEL_KILLS", "12"))
DATASET = "Dataset501_Tiny"
# Learns for some epochs, then stops early.
TRAINING = {
    "network": {"growth_rate": 4, "dropout": 0.2},
    "max_epochs": 40,
    "patience": 3,
    "iterations_per_epoch": 3,
    "learning_rate": 3e-2,
}


@pytest.mark.campaign
def test_killed_trainings_end_as_if_nothing_had_happened(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same weights, same history, same early stop; every checkpoint can be read."""
    shutil.copytree(tiny_dataset.parent, tmp_path / "preprocessed")
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        count = pool.submit(campaign, KILLS).result(timeout=120 + 40 * KILLS)

    assert count["kills"] == KILLS
    assert count["continued"] > 0
    assert all(epochs < 40 for epochs in count["epochs"])


def campaign(kills: int) -> dict[str, Any]:
    """Kill ``kills`` times, in as many trainings as that takes."""
    torch.set_num_threads(1)
    module.CHECKPOINT_EPOCHS = 3
    chance = random.Random(kills)
    count: dict[str, Any] = {"kills": 0, "continued": 0, "epochs": []}
    while count["kills"] < kills:
        seed = 1 + len(count["epochs"])
        alone, killed = f"Alone{seed}", f"Killed{seed}"
        assert os.waitpid(start_training(alone, seed), 0)[1] == 0, read_log(alone)
        log = load(alone)["logging"]
        # the first epoch takes the longest: it imports
        seconds = log["epoch_end_timestamps"][-1] - log["epoch_end_timestamps"][0]
        reached, status = 0, 1
        while status != 0:
            pid = start_training(killed, seed)
            if count["kills"] < kills:
                if chance.random() < 0.8:  # otherwise it is still starting
                    wait_for_epoch(killed)
                # short enough for several kills in one training
                time.sleep(chance.uniform(0, 0.5) * seconds)
                target = chance.choice([os.kill, os.killpg])
                with contextlib.suppress(ProcessLookupError):
                    target(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            assert status == 0 or os.WIFSIGNALED(status), read_log(killed)
            if status:
                count["kills"] += 1
                epoch = epoch_to_continue(killed)
                assert epoch >= reached, f"went back from epoch {reached} to {epoch}"
                count["continued"] += epoch > 0
                reached = epoch
        count["epochs"].append(compare(load(alone), load(killed)))
    return count


def folder_of(plans: str) -> Path:
    """Return the folder of the fold."""
    return Path(nnUNet_results, DATASET, f"FCADenseTrainer__{plans}__2d", "fold_0")


def read_log(plans: str) -> str:
    """Return what the training that was started last said."""
    log = Path(nnUNet_results, f"{plans}.txt")
    return log.read_text() if log.is_file() else ""


def wait_for_epoch(plans: str) -> None:
    """Wait until the training that was just started has done an epoch, or ends."""
    deadline = time.monotonic() + 120
    while not any(sign in read_log(plans) for sign in ("Epoch time", "Training done")):
        assert time.monotonic() < deadline, read_log(plans)
        time.sleep(0.01)


def start_training(plans: str, seed: int) -> int:
    """Fork ``nnUNetv2_train ... --c``, in a process group of its own; return its id."""
    dataset = Path(nnUNet_preprocessed, DATASET)
    content = tiny_plans(dataset, **TRAINING, seed=seed) | {"plans_name": plans}
    log = Path(nnUNet_results, f"{plans}.txt")
    log.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # whichever of the two comes first
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        (dataset / f"{plans}.json").write_text(json.dumps(content))
        trainer = get_trainer_from_args(
            DATASET, "2d", 0, "FCADenseTrainer", plans, True, torch.device("cpu")
        )
        trainer.logger.plot_progress_png = lambda folder: None
        maybe_load_checkpoint(trainer, True, False)
        trainer.run_training()
        status = 0
    except BaseException:  # whatever it is, the parent reads it in the log
        traceback.print_exc()
    finally:
        os._exit(status)


def epoch_to_continue(plans: str) -> int:
    """Read every checkpoint there is; return the epoch that --c continues from."""
    epochs = {}
    for file in folder_of(plans).glob("checkpoint_*.pth"):
        checkpoint = torch.load(file, map_location="cpu", weights_only=False)
        assert all(len(v) for v in checkpoint["logging"].values()), file
        epochs[file.stem] = checkpoint["current_epoch"]
    order = ("checkpoint_final", "checkpoint_latest", "checkpoint_best")
    return next((epochs[name] for name in order if name in epochs), 0)


def load(plans: str) -> dict[str, Any]:
    """Return what a finished training left."""
    file = folder_of(plans) / "checkpoint_final.pth"
    checkpoint: dict[str, Any] = torch.load(file, weights_only=False)
    return checkpoint


def compare(first: dict[str, Any], second: dict[str, Any]) -> int:
    """Compare two finished trainings to the bit; return their number of epochs."""
    for name, tensor in first["network_weights"].items():
        assert torch.equal(tensor, second["network_weights"][name]), name
    for name, values in first["logging"].items():
        if "timestamps" not in name:
            assert str(values) == str(second["logging"][name]), name
    return len(first["logging"]["mean_fg_dice"])
