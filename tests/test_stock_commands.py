"""The stock command lines of nnU-Net, end to end, as a user types them."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import write_dataset
from stock_workspace import MODEL, PREDICT, TRAIN, Workspace

pytestmark = pytest.mark.slow

CEL = "Dataset502_CEL"
IMAGES = f"raw/{CEL}/imagesTs"
PREDICTION = ("-d", "502", "-c", "2d", "-f", "0", *PREDICT)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two planned data sets; a model of the first, transferred to the second."""
    work = Workspace(tmp_path_factory.mktemp("stock"))
    raw = work.root / "raw"
    write_dataset(raw, "Dataset501_WMH", shape=(30, 32, 28), lesion_free=1)
    write_dataset(raw, CEL, shape=(28, 32, 30), channels=("CE-T1w",), seed=1)
    work.call(
        "nnUNetv2_plan_and_preprocess",
        *("-d", "501", "502", "-pl", "FCADensePlanner", "-c", "2d"),
        *("--verify_dataset_integrity", "-np", "1", "-npfp", "1"),
    )
    for dataset in ("Dataset501_WMH", CEL):
        work.shorten(dataset, "FCADensePlans")
    work.call("nnUNetv2_train", "501", "2d", "0", *TRAIN, "--npz")
    weights = ("-pretrained_weights", best_of_wmh(work))
    work.call("nnUNetv2_train", "502", "2d", "0", *TRAIN, "--npz", *weights)
    options = ("-i", IMAGES, "-o", "predicted", "--save_probabilities")
    work.call("nnUNetv2_predict", *PREDICTION, *MODEL, *options)
    return work


def best_of_wmh(work: Workspace) -> str:
    """Return the checkpoint that the user hands on."""
    return work.call("nnunet-cel", "best-fold", "501", "-c", "2d").strip()


def read(path: Path) -> np.ndarray:
    """Return the voxels of a label map."""
    return np.asarray(nibabel.load(path).dataobj)


def test_training_leaves_a_complete_model(workspace: Workspace) -> None:
    """Checkpoints, validation with probabilities, and nothing half written."""
    folder = workspace.fold("Dataset501_WMH", "2d", "FCADensePlans", 0)

    assert best_of_wmh(workspace) == str(folder / "checkpoint_final.pth")
    assert (folder / "checkpoint_final.pth").is_file()
    assert (folder / "checkpoint_best.pth").is_file()
    assert not list(folder.rglob("*.partial"))
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
    validated = {file.stem for file in (folder / "validation").glob("*.npz")}
    splits = workspace.root / "preprocessed/Dataset501_WMH/splits_final.json"
    assert validated == set(json.loads(splits.read_text())[0]["val"])


def test_prediction(workspace: Workspace) -> None:
    """A label map on the grid of the image, and probabilities that are its softmax."""
    image = nibabel.load(workspace.root / IMAGES / "case_00_0000.nii.gz")
    predicted = nibabel.load(workspace.root / "predicted/case_00.nii.gz")
    with np.load(workspace.root / "predicted/case_00.npz") as file:
        probabilities = file["probabilities"]

    assert predicted.shape == image.shape
    np.testing.assert_allclose(predicted.affine, image.affine)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
    labels = np.asarray(predicted.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(labels, probabilities[1] > 0.5)


def test_evaluate_folder(workspace: Workspace) -> None:
    """nnU-Net measures our validation as its own."""
    folder = workspace.fold(CEL, "2d", "FCADensePlans", 0)
    dataset = workspace.root / "raw" / CEL
    references = workspace.root / "references"
    references.mkdir()
    for file in (folder / "validation").glob("*.nii.gz"):
        shutil.copy(dataset / "labelsTr" / file.name, references)

    workspace.call(
        "nnUNetv2_evaluate_folder",
        *(str(references), str(folder / "validation"), "-np", "1"),
        *("-djfile", str(dataset / "dataset.json")),
        *("-pfile", str(folder.parent / "plans.json"), "-o", "summary.json"),
    )

    summary = json.loads((workspace.root / "summary.json").read_text())
    original = json.loads((folder / "validation" / "summary.json").read_text())
    assert summary["foreground_mean"] == original["foreground_mean"]


@pytest.mark.campaign
def test_finished_training_can_be_continued(workspace: Workspace) -> None:
    """--c on a finished training repeats the validation and trains nothing."""
    output = workspace.call("nnUNetv2_train", "502", "2d", "0", *TRAIN, "--c")

    assert "Epoch 2" not in output
    assert "Validation complete" in output


@pytest.mark.campaign
def test_find_best_configuration_and_postprocessing(workspace: Workspace) -> None:
    """Models with one and two pairs of neighbors are compared and ensembled.

    The same preprocessed data serve both; the result is postprocessed.
    """
    workspace.call("nnUNetv2_train", "502", "2d_n2", "0", *TRAIN, "--npz")

    output = workspace.call(
        "nnUNetv2_find_best_configuration",
        *("502", "-c", "2d", "2d_n2", *MODEL, "-f", "0", "-np", "1"),
    )

    assert "FCADenseTrainer__FCADensePlans__2d_n2" in output
    assert "ensemble___" in output
    file = workspace.root / "results" / CEL / "inference_information.json"
    information = json.loads(file.read_text())["best_model_or_ensemble"]
    assert pickle.loads(Path(information["postprocessing_file"]).read_bytes())
    workspace.call(
        "nnUNetv2_apply_postprocessing",
        *("-i", "predicted", "-o", "postprocessed", "-np", "1"),
        *("-pp_pkl_file", information["postprocessing_file"]),
        *("-plans_json", information["some_plans_file"]),
    )
    assert (workspace.root / "postprocessed/case_00.nii.gz").is_file()


@pytest.mark.campaign
def test_exported_model_predicts_the_same_elsewhere(workspace: Workspace) -> None:
    """A zip installed into another results folder gives the same label map."""
    options = ("-d", "502", "-o", "model.zip", "-c", "2d", *MODEL, "-f", "0")
    workspace.call("nnUNetv2_export_model_to_zip", *options)
    elsewhere = workspace.root / "elsewhere"
    elsewhere.mkdir()
    there = {"nnUNet_results": str(elsewhere)}
    workspace.call("nnUNetv2_install_pretrained_model_from_zip", "model.zip", **there)

    options = (*PREDICTION, *MODEL, "-i", IMAGES, "-o", "again")
    workspace.call("nnUNetv2_predict", *options, **there)

    first, second = (workspace.root / name for name in ("predicted", "again"))
    np.testing.assert_array_equal(
        read(first / "case_00.nii.gz"), read(second / "case_00.nii.gz")
    )


@pytest.mark.campaign
def test_plans_of_stock_nnunet(workspace: Workspace) -> None:
    """Without our planner: stock 2D plans are trained and predicted."""
    planning = ("-d", "502", "-c", "2d", "-np", "1", "-npfp", "1")
    workspace.call("nnUNetv2_plan_and_preprocess", *planning)
    workspace.shorten(CEL, "nnUNetPlans")
    trainer = ("-tr", "FCADenseTrainer")

    workspace.call("nnUNetv2_train", "502", "2d", "0", *trainer, "-device", "cpu")
    options = (*PREDICTION, *trainer, "-i", IMAGES, "-o", "stock")
    workspace.call("nnUNetv2_predict", *options)

    assert (workspace.root / "stock/case_00.nii.gz").is_file()
    folder = workspace.fold(CEL, "2d", "nnUNetPlans", 0)
    entry = json.loads((folder.parent / "plans.json").read_text())["configurations"]
    assert entry["2d"]["patch_size"] == [32, 32, 32]
    assert entry["2d"]["architecture"]["network_class_name"].endswith("FCADenseNet")


@pytest.mark.campaign
def test_what_does_not_fit_is_refused(workspace: Workspace) -> None:
    """Weights of other inputs, unknown channels, images of zeros, no place to write.

    nnU-Net's error names what does not fit, and nothing is trained or predicted.
    """
    root = workspace.root
    zeros, channels, occupied = (root / name for name in ("zeros", "two", "occupied"))
    zeros.mkdir()
    channels.mkdir()
    occupied.write_text("a file where the folder should be")
    nothing = nibabel.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4))
    nibabel.save(nothing, zeros / "void_0000.nii.gz")
    for channel in ("0000", "0001"):
        source = root / IMAGES / "case_00_0000.nii.gz"
        shutil.copy(source, channels / f"case_00_{channel}.nii.gz")

    def fail(command: str, *options: str, **env: str) -> str:
        return workspace.call(command, *options, expect=1, **env)

    weights = ("-pretrained_weights", best_of_wmh(workspace))
    said = fail("nnUNetv2_train", "502", "2d_n3", "0", *TRAIN, *weights)
    assert "key network.stem.weight is not the same" in said
    folder = workspace.fold(CEL, "2d_n3", "FCADensePlans", 0)
    assert not list(folder.glob("*.pth"))

    there = {"nnUNet_results": str(occupied)}
    said = fail("nnUNetv2_train", "502", "2d", "1", *TRAIN, **there)
    assert str(occupied) in said

    for images, message in (
        (channels, "Every case must have the 1 channel(s)"),
        (zeros, "void_0000.nii.gz: KDE normalization must get"),
    ):
        options = ("-i", str(images), "-o", "refused")
        assert message in fail("nnUNetv2_predict", *PREDICTION, *MODEL, *options)
        assert not list((root / "refused").glob("*.nii.gz"))
