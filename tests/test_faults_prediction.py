"""Faults of a running prediction, each one really made."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from nnunet_cel.networks import FCADenseNet, TriplanarNetwork

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does"),
]
CASES = 8


def slices_per_pass(mebibytes: int) -> int:
    """Predict a volume with little more memory than the network; return the batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = {"down_layers": [2, 2], "bottleneck_layers": 2, "stem_features": 16}
    model = TriplanarNetwork(
        FCADenseNet(3, 2, **layers),
        neighbor_pairs=1,
        heads="softmax",
        input_channels=1,
        slice_batch_size=2,
    ).eval()
    volume = torch.randn(1, 1, 64, 64, 64)
    with torch.inference_mode():
        expected = model(volume)
        model.slice_batch_size = 64
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        torch.testing.assert_close(model(volume), expected)
    return model.slice_batch_size


def test_little_memory_takes_smaller_batches_then_says_so() -> None:
    """60 MiB more than the network are enough for a few slices, 2 MiB for none."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(slices_per_pass, 60).result() < 32
    told = "A volume of 64 x 64 x 64 voxels must fit .* Let fewer processes run"
    little = pytest.raises(torch.OutOfMemoryError, match=told)
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, little:
        pool.submit(slices_per_pass, 2).result()


def predict(
    model: Path, images: Path, predictions: Path, *options: str
) -> subprocess.Popen[str]:
    """Start a prediction."""
    name = "nnUNetv2_predict_from_modelfolder"
    return subprocess.Popen(
        [
            str(Path(sysconfig.get_path("scripts"), name)),
            *("-i", str(images), "-o", str(predictions), "-m", str(model)),
            *("-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1", *options),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_killed_prediction_is_completed(
    tiny_model: Path, planned_folders: Path, tmp_path: Path
) -> None:
    """--continue_prediction does the rest once the newest label map is removed.

    One image comes under eight names: what was predicted before the kill equals what is
    predicted after it.
    """
    images, predictions = tmp_path / "images", tmp_path / "predictions"
    images.mkdir()
    source = planned_folders / "raw/Dataset501_Tiny/imagesTs/case_00_0000.nii.gz"
    for number in range(CASES):
        shutil.copyfile(source, images / f"scan_{number}_0000.nii.gz")

    process = predict(tiny_model, images, predictions)
    deadline = time.monotonic() + 120
    while len(list(predictions.glob("*.nii.gz"))) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    files = sorted(predictions.glob("*.nii.gz"), key=lambda file: file.stat().st_mtime)
    files.pop().unlink()  # nnU-Net writes in place: it may be half a file
    again = predict(tiny_model, images, predictions, "--continue_prediction")
    output = again.communicate()[0]

    assert 0 < len(files) < CASES
    assert f"That's {CASES - len(files)} cases." in output
    maps = [
        np.asarray(nibabel.load(predictions / f"scan_{number}.nii.gz").dataobj)
        for number in range(CASES)
    ]
    assert set(np.unique(maps[0])) == {0, 1}
    assert all((label_map == maps[0]).all() for label_map in maps)
