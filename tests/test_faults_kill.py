"""Trainings that are killed with ``kill -9`` and continued with ``--c``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# the campaign of docs/troubleshooting.md: NNUNET_CEL_KILLS=100
KILLS = int(os.environ.get("NNUNET_CEL_KILLS", "12"))


@pytest.mark.campaign
def test_killed_trainings_end_as_if_nothing_had_happened(
    planned_folders: Path, tmp_path: Path
) -> None:
    """Same weights, same history, same early stop; every checkpoint can be read."""
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(planned_folders / "preprocessed", preprocessed)
    (tmp_path / "results").mkdir()
    environment = os.environ | {
        "nnUNet_raw": str(planned_folders / "raw"),
        "nnUNet_preprocessed": str(preprocessed),
        "nnUNet_results": str(tmp_path / "results"),
        "nnUNet_n_proc_DA": "1",
        "OMP_NUM_THREADS": "1",
    }

    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kill_campaign.py")), str(KILLS)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + 20 * KILLS,
    )

    assert done.returncode == 0, done.stderr[-4000:]
    count = json.loads(done.stdout.splitlines()[-1])
    assert count["kills"] == KILLS
    assert count["continued"] > 0
    assert all(epochs < 40 for epochs in count["epochs"])
