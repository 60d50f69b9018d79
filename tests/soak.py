"""Predicts and trains for long in one process, and watches memory and open files.

Prints a table and, for each part, how much resident memory grew per 100 rounds after
the first fifth, in which pools and caches fill. It works on a preprocessed
``Dataset501_Tiny`` that nnU-Net's environment variables name::

    python tests/soak.py --predictions 2000 --epochs 200
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_cel.settings import BLOCK
from nnunet_cel.training.trainer import FCADenseTrainer

MIB = 2**20


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE") / MIB)


def open_files() -> int:
    """Return the number of open files of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def make_trainer(epochs: int) -> FCADenseTrainer:
    """Return a trainer with a tiny network that does not stop early."""
    folder = Path(nnUNet_preprocessed, "Dataset501_Tiny")
    plans = json.loads((folder / "FCADensePlans.json").read_text())
    plans["continue_training"] = False
    entry = plans["configurations"]["2d"]
    entry["batch_size"] = 2
    entry["architecture"]["arch_kwargs"] |= {
        "down_layers": [2, 2],
        "bottleneck_layers": 2,
        "stem_features": 8,
        "growth_rate": 4,
    }
    entry[BLOCK] |= {
        "max_epochs": epochs,
        "patience": epochs,
        "iterations_per_epoch": 4,
        "validation_iterations": 2,
        "training_window": 32,
    }
    dataset_json = json.loads((folder / "dataset.json").read_text())
    return FCADenseTrainer(plans, "2d", "all", dataset_json, torch.device("cpu"))


class Record:
    """Resident memory and open files over the rounds."""

    def __init__(self, name: str, rounds: int) -> None:
        self.name = name
        self.rounds = rounds
        self.memory: list[float] = []
        self.files: list[int] = []
        self.start = time.monotonic()

    def add(self) -> None:
        """Look at the process."""
        self.memory.append(resident())
        self.files.append(open_files())
        done = len(self.memory)
        if done % max(1, self.rounds // 10) == 0:
            print(
                f"{self.name:<12} {done:>6} {self.memory[-1]:>9.1f} MiB "
                f"{self.files[-1]:>5} files {time.monotonic() - self.start:>7.0f} s",
                flush=True,
            )

    def report(self) -> None:
        """Print slopes and spread."""
        memory = np.array(self.memory[len(self.memory) // 5 :])
        files = self.files[len(self.files) // 5 :]
        slope = np.polyfit(np.arange(len(memory)), memory, 1)[0]
        print(
            f"{self.name}: {len(self.memory)} rounds, {slope * 100:+.3f} MiB per 100 "
            f"rounds, spread {np.ptp(memory):.1f} MiB, {min(files)} to {max(files)} "
            "open files",
            flush=True,
        )


def soak_training(epochs: int) -> None:
    """Train and look at the process after every epoch."""
    trainer = make_trainer(epochs)
    record = Record("epochs", epochs)
    # the figure is nnU-Net's, and takes longer than the epoch
    trainer.logger.plot_progress_png = lambda folder: None
    end_of_epoch: Callable[[], None] = trainer.on_epoch_end

    def look() -> None:
        end_of_epoch()
        record.add()

    trainer.on_epoch_end = look  # type: ignore[method-assign]
    trainer.run_training()
    record.report()


def soak_prediction(predictions: int) -> None:
    """Predict volumes of changing shape and look at the process after every one."""
    trainer = make_trainer(1)
    trainer.initialize()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    trainer.configuration_manager.configuration["patch_size"] = [24, 24, 24]
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        "FCADenseTrainer",
        None,
    )
    rng = np.random.default_rng(0)
    record = Record("predictions", predictions)
    for _ in range(predictions):
        shape = rng.integers(16, 28, size=3)
        volume = torch.from_numpy(rng.normal(size=(1, *shape)).astype(np.float32))
        predictor.predict_sliding_window_return_logits(volume)
        record.add()
    record.report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    soak_training(arguments.epochs)
    soak_prediction(arguments.predictions)
