"""The comparison networks with the stock commands: trained, transferred, predicted."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from conftest import write_dataset
from stock_workspace import MODEL, PREDICT, SMALL, TRAIN, Workspace

from nnunet_cel.networks import TransUNet
from nnunet_cel.settings import BLOCK

pytestmark = pytest.mark.campaign

SMALL_WINDOW = 32  # in place of 64, which is the patch size of tiny images


def edit_plans(work: Workspace, dataset: str, pretrained_file: Path) -> None:
    """Make all small and short, and let TransUNet start from a file."""
    work.shorten(dataset, "FCADensePlans")
    file = work.root / "preprocessed" / dataset / "FCADensePlans.json"
    plans = json.loads(file.read_text())
    for name, entry in plans["configurations"].items():
        entry[BLOCK]["max_epochs"] = 1
        if name.startswith("2d_64"):
            entry[BLOCK]["training_window"] = SMALL_WINDOW
        if name.endswith("transunet"):
            entry["architecture"]["arch_kwargs"]["pretrained_file"] = str(
                pretrained_file
            )
    file.write_text(json.dumps(plans))


def write_hybrid(file: Path) -> None:
    """Write backbone and transformer of a small TransUNet as timm names them."""
    network = TransUNet(3, 2, **SMALL["TransUNet"])
    torch.save(
        {
            key.replace("backbone.", "patch_embed.backbone.").removeprefix(
                "transformer."
            ): value
            for key, value in network.state_dict().items()
            if key.startswith(("backbone.", "transformer."))
        },
        file,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two planned data sets with images of more than 32 voxels, so that S is 64."""
    work = Workspace(tmp_path_factory.mktemp("networks"))
    raw = work.root / "raw"
    write_dataset(raw, "Dataset501_WMH", cases=5, shape=(30, 36, 28))
    write_dataset(
        raw, "Dataset502_CEL", shape=(28, 34, 30), channels=("CE-T1w",), seed=1
    )
    work.call(
        "nnUNetv2_plan_and_preprocess",
        *("-d", "501", "502", "-pl", "FCADensePlanner", "-c", "2d"),
        *("-np", "1", "-npfp", "1"),
    )
    for dataset in ("Dataset501_WMH", "Dataset502_CEL"):
        edit_plans(work, dataset, work.root / "hybrid.pth")
    return work


@pytest.mark.parametrize("network", ["unet", "resunet", "attentionunet", "transunet"])
def test_networks_of_the_paper(workspace: Workspace, network: str) -> None:
    """Trained on whole slices, transferred to small windows, predicted on whole ones.

    The file that TransUNet starts from is needed once, by the training from scratch.
    """
    full, small = f"2d_{network}", f"2d_64_{network}"
    hybrid = workspace.root / "hybrid.pth"
    write_hybrid(hybrid)

    scratch = workspace.call("nnUNetv2_train", "501", full, "0", *TRAIN)
    hybrid.unlink()
    fold = workspace.fold("Dataset501_WMH", full, "FCADensePlans", 0)
    transferred = workspace.call(
        "nnUNetv2_train",
        *(
            "502",
            small,
            "0",
            *TRAIN,
            "-pretrained_weights",
            str(fold / "checkpoint_final.pth"),
        ),
    )
    workspace.call(
        "nnUNetv2_predict",
        *("-d", "502", "-c", small, *MODEL, "-f", "0", *PREDICT),
        *("-i", str(workspace.root / "raw/Dataset502_CEL/imagesTs"), "-o", network),
    )

    start = f"from {hybrid}, the stem" if network == "transunet" else "weights: random."
    assert start in scratch
    assert "weights: those that the network had when training started" in transferred
    assert "network.head.weight" in transferred
    assert "Validation complete" in scratch
    assert "Validation complete" in transferred
    predicted = nibabel.load(workspace.root / network / "case_00.nii.gz")
    assert predicted.shape == (28, 34, 30)
    assert set(np.unique(np.asarray(predicted.dataobj))) <= {0, 1}


def test_missing_pretrained_file_ends_the_training(workspace: Workspace) -> None:
    """The last line names the file and the cure, and there is no checkpoint."""
    output = workspace.call(
        "nnUNetv2_train", "501", "2d_transunet", "1", *TRAIN, expect=1
    )

    folder = workspace.fold("Dataset501_WMH", "2d_transunet", "FCADensePlans", 1)
    assert f"{workspace.root / 'hybrid.pth'} is missing" in output
    assert not list(folder.glob("*.pth"))
