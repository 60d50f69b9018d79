"""nnU-Net's folders and stock commands for tests that type what a user types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from nnunet_cel.settings import BLOCK

MODEL = ("-tr", "FCADenseTrainer", "-p", "FCADensePlans")
TRAIN = (*MODEL, "-device", "cpu")
PREDICT = ("-device", "cpu", "-npp", "1", "-nps", "1")
SHORT = {"max_epochs": 2, "iterations_per_epoch": 2, "validation_iterations": 1}
DENSE = {"down_layers": [2, 2], "bottleneck_layers": 2, "stem_features": 8}
UNET: dict[str, Any] = {"features": [4, 8]}
SMALL: dict[str, dict[str, Any]] = {
    "FCADenseNet": DENSE,
    "FCDenseNet": DENSE,
    "UNet": UNET,
    "ResUNet": UNET,
    "AttentionUNet": UNET,
    "TransUNet": {
        "backbone_layers": [1, 1],
        "backbone_features": [128, 128],
        "embedding": 16,
        "depth": 1,
        "num_heads": 2,
        "bridge_features": 8,
        "decoder_features": [8, 8, 4],
    },
}


class Workspace:
    """nnU-Net's three folders, and its commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.lower().startswith("nnunet")
        } | {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"}
        for name in ("raw", "preprocessed", "results"):
            (root / name).mkdir()
            self.environment[f"nnUNet_{name}"] = str(root / name)

    def call(self, command: str, *options: str, expect: int = 0, **env: str) -> str:
        """Run a command, check its exit status and return what it printed."""
        path = shutil.which(command, path=sysconfig.get_path("scripts"))
        assert path is not None, f"{command} is not installed"
        done = subprocess.run(
            [path, *options],
            cwd=self.root,
            env=self.environment | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=600,
        )
        output = done.stdout + done.stderr
        failed = done.returncode != 0
        assert failed == bool(expect), f"{command} {options}:\n{output[-4000:]}"
        return done.stdout if command == "nnunet-cel" else output

    def shorten(self, dataset: str, plans: str) -> None:
        """Make trainings and networks of a plans file small."""
        file = self.root / "preprocessed" / dataset / f"{plans}.json"
        content = json.loads(file.read_text())
        for configuration in content["configurations"].values():
            configuration[BLOCK] = configuration.get(BLOCK, {}) | SHORT
            if "FCADense" in plans:
                configuration["batch_size"] = 4
                architecture = configuration["architecture"]
                name = architecture["network_class_name"].rpartition(".")[2]
                architecture["arch_kwargs"] |= SMALL[name]
        file.write_text(json.dumps(content))

    def fold(self, dataset: str, configuration: str, plans: str, fold: int) -> Path:
        """Return the folder of a trained fold."""
        name = f"FCADenseTrainer__{plans}__{configuration}"
        return self.root / "results" / dataset / name / f"fold_{fold}"
