"""Kills trainings again and again, continues them, and compares with one left alone.

The program imports nnU-Net once and forks for every training, so that a kill costs a
second or two. It works on a preprocessed ``Dataset501_Tiny`` that nnU-Net's environment
variables name, and prints a JSON line with what it counted::

    python tests/kill_campaign.py 100
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from nnunet_cel.settings import BLOCK
from nnunet_cel.training import trainer as module

DATASET = "Dataset501_Tiny"
NETWORK = {
    "down_layers": [1],
    "bottleneck_layers": 1,
    "stem_features": 8,
    "growth_rate": 4,
    "dropout": 0.2,
}
# Learns for some epochs, then stops early.
BLOCK_OF_TRAINING = {
    "max_epochs": 40,
    "patience": 3,
    "iterations_per_epoch": 3,
    "validation_iterations": 1,
    "training_window": 16,
    "learning_rate": 3e-2,
}
TIMES = ("epoch_start_timestamps", "epoch_end_timestamps")


def train(plans: str, log: Path) -> None:
    """Do what ``nnUNetv2_train ... --c`` does before validation; never return."""
    # processes that load data and outlive a kill must not keep the pipe of the caller
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = 1
    try:
        trainer = get_trainer_from_args(
            DATASET, "2d", 0, "FCADenseTrainer", plans, True, torch.device("cpu")
        )
        # a figure of a square meter for every epoch
        trainer.logger.plot_progress_png = lambda folder: None
        maybe_load_checkpoint(trainer, True, False)
        trainer.run_training()
        status = 0
    except BaseException:  # whatever it is, the parent reads it in the log
        traceback.print_exc()
    finally:
        os._exit(status)


def write_plans(name: str, seed: int) -> Path:
    """Write plans of a tiny training; return the folder of its fold."""
    folder = Path(nnUNet_preprocessed, DATASET)
    plans = json.loads((folder / "FCADensePlans.json").read_text())
    plans["plans_name"] = name
    entry = plans["configurations"]["2d"]
    entry["batch_size"] = 2
    entry["architecture"]["arch_kwargs"] |= NETWORK
    entry[BLOCK] |= BLOCK_OF_TRAINING | {"seed": seed}
    (folder / f"{name}.json").write_text(json.dumps(plans))
    return Path(nnUNet_results, DATASET, f"FCADenseTrainer__{name}__2d", "fold_0")


def check_checkpoints(folder: Path) -> int:
    """Read every checkpoint there is; return the epoch that --c continues from."""
    epochs = {}
    for file in folder.glob("checkpoint_*.pth"):
        checkpoint = torch.load(file, map_location="cpu", weights_only=False)
        assert all(len(v) for v in checkpoint["logging"].values()), file
        epochs[file.stem] = checkpoint["current_epoch"]
    order = ("checkpoint_final", "checkpoint_latest", "checkpoint_best")
    return next((epochs[name] for name in order if name in epochs), 0)


def result(folder: Path) -> dict[str, Any]:
    """Return weights and history of a finished training, without times."""
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    history = {k: v for k, v in checkpoint["logging"].items() if k not in TIMES}
    return {"weights": checkpoint["network_weights"], "history": history}


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return what differs between two finished trainings, to the bit."""
    weights = [
        name
        for name, tensor in first["weights"].items()
        if not torch.equal(tensor, second["weights"][name])
    ]
    histories = [
        name
        for name, values in first["history"].items()
        if str(values) != str(second["history"][name])
    ]
    return weights + histories


def main(kills: int) -> None:
    """Kill ``kills`` times, in as many trainings as that takes."""
    torch.set_num_threads(1)
    module.CHECKPOINT_EPOCHS = 3
    chance = random.Random(kills)
    count: dict[str, Any] = {"kills": 0, "continued": 0, "trainings": 0, "epochs": []}
    began = time.monotonic()
    while count["kills"] < kills:
        seed = 1 + count["trainings"]
        alone = write_plans(f"Alone{seed}", seed)
        log = Path(nnUNet_results, f"training_{seed}.txt")
        start = time.monotonic()
        assert os.waitpid(fork(alone, log), 0)[1] == 0, log.read_text()[-3000:]
        duration = time.monotonic() - start
        killed = write_plans(f"Killed{seed}", seed)
        reached, finished = 0, False
        while not finished:
            pid = fork(killed, log)
            if count["kills"] < kills:
                # short enough for several kills in one training
                time.sleep(chance.uniform(0.05, 0.7) * duration)
                target = chance.choice([os.kill, os.killpg])
                with contextlib.suppress(ProcessLookupError):
                    target(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            if os.WIFSIGNALED(status):
                count["kills"] += 1
                epoch = check_checkpoints(killed) if killed.is_dir() else 0
                assert epoch >= reached, f"went back from epoch {reached} to {epoch}"
                count["continued"] += epoch > 0
                reached = epoch
                continue
            assert status == 0, log.read_text()[-3000:]
            finished = True
        different = differences(result(alone), result(killed))
        assert not different, f"training {seed} differs: {different}"
        count["epochs"].append(len(result(killed)["history"]["mean_fg_dice"]))
        left = [file.name for file in killed.glob("*.partial")]
        assert not left, left
        count["trainings"] += 1
        print(count, file=sys.stderr, flush=True)
    count["seconds"] = round(time.monotonic() - began)
    print(json.dumps(count))


def fork(folder: Path, log: Path) -> int:
    """Start a training in a process group of its own; return its process id."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        train(folder.parent.name.split("__")[1], log)
    os.setpgid(pid, pid)
    return pid


if __name__ == "__main__":
    main(int(sys.argv[1]))
