"""Faults of a running prediction, each one really made."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

pytestmark = pytest.mark.campaign

CASES = 8

LITTLE_MEMORY = """
import logging, resource, sys
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_cel.networks import FCADenseNet, TriplanarNetwork

logging.basicConfig(stream=sys.stdout, format="%(message)s")
torch.set_num_threads(1)
torch.manual_seed(0)
slices = FCADenseNet(
    3, 2, down_layers=[2, 2], bottleneck_layers=2, stem_features=16
)
model = TriplanarNetwork(
    slices, neighbor_pairs=1, heads="softmax", input_channels=1, slice_batch_size=2
).eval()
volume = torch.randn(1, 1, 64, 64, 64)
with torch.inference_mode():
    expected = model(volume)
    model.slice_batch_size = 64
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.testing.assert_close(model(volume), expected)
print("slices per pass:", model.slice_batch_size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_little_memory_takes_smaller_batches_then_says_so() -> None:
    """60 MiB more than the network are enough for a few slices, 2 MiB for none."""
    enough, too_little = (
        subprocess.run(
            [sys.executable, "-c", LITTLE_MEMORY, mebibytes],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for mebibytes in ("60", "2")
    )

    assert enough.returncode == 0, enough.stderr
    assert "Out of memory: now 32 slices per pass." in enough.stdout
    assert int(enough.stdout.rpartition("slices per pass:")[2]) < 32
    assert too_little.returncode == 1
    message = too_little.stderr.splitlines()[-1]
    assert "OutOfMemoryError: A volume of 64 x 64 x 64 voxels must fit" in message
    assert "Let fewer processes run" in message


def predict(
    model: Path, images: Path, predictions: Path, *options: str
) -> subprocess.Popen[str]:
    """Start a prediction."""
    command = shutil.which(
        "nnUNetv2_predict_from_modelfolder", path=sysconfig.get_path("scripts")
    )
    return subprocess.Popen(
        [
            *(str(command), "-i", str(images), "-o", str(predictions), "-m"),
            *(str(model), "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1"),
            *options,
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

    The images of five cases come again under other names: what was predicted before the
    kill equals what is predicted after it.
    """
    images, predictions = tmp_path / "images", tmp_path / "predictions"
    images.mkdir()
    source = planned_folders / "raw" / "Dataset501_Tiny" / "imagesTr"
    for number in range(CASES):
        shutil.copyfile(
            source / f"case_{number % 5:02d}_0000.nii.gz",
            images / f"scan_{number}_0000.nii.gz",
        )

    process = predict(tiny_model, images, predictions)
    deadline = time.monotonic() + 120
    while len(files := list(predictions.glob("*.nii.gz"))) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    files = sorted(predictions.glob("*.nii.gz"), key=lambda file: file.stat().st_mtime)
    files.pop().unlink()  # nnU-Net writes in place: it may be half a file
    output = predict(
        tiny_model, images, predictions, "--continue_prediction"
    ).communicate()

    assert 0 < len(files) < CASES
    assert f"That's {CASES - len(files)} cases." in output[0]
    maps = [
        np.asarray(nibabel.load(predictions / f"scan_{number}.nii.gz").dataobj)
        for number in range(CASES)
    ]
    assert {label for label_map in maps for label in np.unique(label_map)} == {0, 1}
    for number in range(5, CASES):
        np.testing.assert_array_equal(maps[number], maps[number - 5])


def test_twenty_models_are_averaged(tiny_model: Path) -> None:
    """nnU-Net's prediction with twenty folds is the mean of their logits."""
    folds = [f"fold_{number}" for number in range(20)]
    checkpoint = torch.load(
        tiny_model / "fold_0/checkpoint_final.pth", weights_only=False
    )
    bias = checkpoint["network_weights"]["network.head.bias"]
    for number, fold in enumerate(folds):
        (tiny_model / fold).mkdir(exist_ok=True)
        checkpoint["network_weights"]["network.head.bias"] = bias + 0.1 * number
        checkpoint["network_weights"]["network.head.bias"][0] = 0
        torch.save(checkpoint, tiny_model / fold / "checkpoint_final.pth")
    volume = torch.rand(1, 20, 24, 22)

    def predict_with(*numbers: int) -> torch.Tensor:
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(
            str(tiny_model), numbers, "checkpoint_final.pth"
        )
        logits = predictor.predict_logits_from_preprocessed_data(volume)
        return torch.as_tensor(logits).float()

    together = predict_with(*range(20))
    alone = [predict_with(number) for number in range(20)]

    assert (alone[19] - alone[0]).abs().min() > 0.01
    torch.testing.assert_close(
        together, torch.stack(alone).mean(dim=0), rtol=0, atol=5e-3
    )
