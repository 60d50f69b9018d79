"""Predicts and trains for long in one process, and watches memory and open files.

Prints how much resident memory grew per 100 rounds after the first fifth, in which
pools and caches fill. It works on a preprocessed ``Dataset501_Tiny`` that nnU-Net's
environment variables name::

    python tests/soak.py --predictions 2000 --epochs 200
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from conftest import tiny_trainer
from nnunetv2.paths import nnUNet_preprocessed


def look() -> tuple[float, int]:
    """Return resident memory in MiB and the number of open files of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files


def report(name: str, rounds: list[tuple[float, int]]) -> None:
    """Print slope and spread."""
    memory, files = np.array(rounds[len(rounds) // 5 :]).T
    slope = np.polyfit(np.arange(len(memory)), memory, 1)[0]
    print(
        f"{name}: {len(rounds)} rounds, {slope * 100:+.3f} MiB per 100 rounds, spread "
        f"{np.ptp(memory):.1f} MiB, {files.min():.0f} to {files.max():.0f} open files"
    )


def main() -> None:
    """Train, looking at the process after every epoch; then predict in all shapes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = tiny_trainer(
        Path(nnUNet_preprocessed, "Dataset501_Tiny"),
        fold="all",
        max_epochs=arguments.epochs,
        patience=arguments.epochs,  # it does not stop early
        iterations_per_epoch=4,
        validation_iterations=2,
        training_window=32,
    )
    epochs, predictions = [], []
    end_of_epoch = trainer.on_epoch_end

    def end_and_look() -> None:
        end_of_epoch()
        epochs.append(look())

    trainer.on_epoch_end = end_and_look  # type: ignore[method-assign]
    trainer.run_training()
    report("epochs", epochs)

    trainer.network.eval()
    rng = np.random.default_rng(0)
    for _ in range(arguments.predictions):
        volume = rng.normal(size=(1, 1, *rng.integers(16, 28, size=3)))
        with torch.inference_mode():
            trainer.network(torch.from_numpy(volume.astype(np.float32)))
        predictions.append(look())
    report("predictions", predictions)


if __name__ == "__main__":
    main()
