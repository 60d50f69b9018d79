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


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two planned data sets; a model of the first, transferred to the second."""
    work = Workspace(tmp_path_factory.mktemp("stock"))
    raw = work.root / "raw"
    write_dataset(raw, "Dataset501_WMH", shape=(30, 32, 28), lesion_free=1)
    write_dataset(
        raw, "Dataset502_CEL", shape=(28, 32, 30), channels=("CE-T1w",), seed=1
    )
    work.call(
        "nnUNetv2_plan_and_preprocess",
        *("-d", "501", "502", "-pl", "FCADensePlanner", "-c", "2d"),
        *("--verify_dataset_integrity", "-np", "1", "-npfp", "1"),
    )
    for dataset in ("Dataset501_WMH", "Dataset502_CEL"):
        work.shorten(dataset, "FCADensePlans")
    work.call("nnUNetv2_train", "501", "2d", "0", *TRAIN, "--npz")
    best = work.call("nnunet-cel", "best-fold", "501", "-c", "2d").strip()
    work.call("nnUNetv2_train", "502", "2d", "0", *TRAIN, "--npz")
    shutil.rmtree(work.fold("Dataset502_CEL", "2d", "FCADensePlans", 0))
    work.call(
        "nnUNetv2_train",
        *("502", "2d", "0", *TRAIN, "--npz", "-pretrained_weights", best),
    )
    work.call(
        "nnUNetv2_predict",
        *("-d", "502", "-c", "2d", *MODEL, "-f", "0", *PREDICT),
        *("-i", str(raw / "Dataset502_CEL" / "imagesTs")),
        *("-o", str(work.root / "predicted"), "--save_probabilities"),
    )
    return work


def test_training_leaves_a_complete_model(workspace: Workspace) -> None:
    """Checkpoints, validation with probabilities, and nothing half written."""
    folder = workspace.fold("Dataset501_WMH", "2d", "FCADensePlans", 0)

    assert (folder / "checkpoint_final.pth").is_file()
    assert (folder / "checkpoint_best.pth").is_file()
    assert not list(folder.rglob("*.partial"))
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
    validated = {file.stem for file in (folder / "validation").glob("*.npz")}
    splits = folder.parents[3] / "preprocessed/Dataset501_WMH/splits_final.json"
    assert validated == set(json.loads(splits.read_text())[0]["val"])


def test_transfer_starts_from_the_pretrained_weights(workspace: Workspace) -> None:
    """The only trained fold is the best; its checkpoint is what was handed on."""
    best = workspace.call("nnunet-cel", "best-fold", "501", "-c", "2d").strip()

    assert best.endswith("fold_0/checkpoint_final.pth")
    assert Path(best).is_file()


def test_finished_training_can_be_continued(workspace: Workspace) -> None:
    """--c on a finished training repeats the validation and trains nothing."""
    folder = workspace.fold("Dataset502_CEL", "2d", "FCADensePlans", 0)

    output = workspace.call("nnUNetv2_train", "502", "2d", "0", *TRAIN, "--c")

    assert "Epoch 2" not in output
    assert "Validation complete" in output
    assert (folder / "checkpoint_final.pth").is_file()


def test_prediction(workspace: Workspace) -> None:
    """A label map on the grid of the image, and probabilities that are its softmax."""
    image = nibabel.load(
        workspace.root / "raw/Dataset502_CEL/imagesTs/case_00_0000.nii.gz"
    )
    predicted = nibabel.load(workspace.root / "predicted" / "case_00.nii.gz")
    with np.load(workspace.root / "predicted" / "case_00.npz") as file:
        probabilities = file["probabilities"]

    assert predicted.shape == image.shape
    np.testing.assert_allclose(predicted.affine, image.affine)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
    labels = np.asarray(predicted.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(labels, probabilities[1] > 0.5)


def test_any_configuration_can_be_trained(workspace: Workspace) -> None:
    """Two pairs of neighbors: another network input on the same preprocessed data."""
    output = workspace.call("nnUNetv2_train", "502", "2d_n2", "0", *TRAIN)

    assert "Validation complete" in output


def test_weights_of_another_configuration_do_not_fit(workspace: Workspace) -> None:
    """nnU-Net names the parameter that does not fit, and trains nothing."""
    best = workspace.call("nnunet-cel", "best-fold", "501", "-c", "2d").strip()

    output = workspace.call(
        "nnUNetv2_train",
        *("502", "2d_n3", "0", *TRAIN, "-pretrained_weights", best),
        expect=1,
    )

    assert "key network.stem.weight is not the same" in output
    assert not list(
        workspace.fold("Dataset502_CEL", "2d_n3", "FCADensePlans", 0).glob("*.pth")
    )


def test_find_best_configuration_and_postprocessing(workspace: Workspace) -> None:
    """Models are compared and ensembled, and the result is postprocessed."""
    workspace.call("nnUNetv2_train", "502", "2d_ce", "0", *TRAIN, "--npz")

    output = workspace.call(
        "nnUNetv2_find_best_configuration",
        *("502", "-c", "2d", "2d_ce", *MODEL, "-f", "0", "-np", "1"),
    )

    assert "FCADenseTrainer__FCADensePlans__2d_ce" in output
    assert "ensemble___" in output
    information = json.loads(
        (
            workspace.root / "results/Dataset502_CEL/inference_information.json"
        ).read_text()
    )["best_model_or_ensemble"]
    assert pickle.loads(Path(information["postprocessing_file"]).read_bytes())
    workspace.call(
        "nnUNetv2_apply_postprocessing",
        *("-i", "predicted", "-o", "postprocessed", "-np", "1"),
        *("-pp_pkl_file", information["postprocessing_file"]),
        *("-plans_json", information["some_plans_file"]),
    )
    assert (workspace.root / "postprocessed" / "case_00.nii.gz").is_file()


def test_evaluate_folder(workspace: Workspace) -> None:
    """nnU-Net measures our validation as its own."""
    folder = workspace.fold("Dataset502_CEL", "2d", "FCADensePlans", 0)
    dataset = workspace.root / "raw" / "Dataset502_CEL"
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


def test_exported_model_predicts_the_same_elsewhere(workspace: Workspace) -> None:
    """A zip installed into another results folder gives the same label map."""
    workspace.call(
        "nnUNetv2_export_model_to_zip",
        *("-d", "502", "-o", "model.zip", "-c", "2d", *MODEL, "-f", "0"),
    )
    elsewhere = workspace.root / "elsewhere"
    elsewhere.mkdir()
    there = {"nnUNet_results": str(elsewhere)}
    workspace.call("nnUNetv2_install_pretrained_model_from_zip", "model.zip", **there)

    workspace.call(
        "nnUNetv2_predict",
        *("-d", "502", "-c", "2d", *MODEL, "-f", "0", *PREDICT),
        *("-i", str(workspace.root / "raw/Dataset502_CEL/imagesTs"), "-o", "again"),
        **there,
    )

    first, second = (
        np.asarray(nibabel.load(workspace.root / name / "case_00.nii.gz").dataobj)
        for name in ("predicted", "again")
    )
    np.testing.assert_array_equal(first, second)


def test_wrong_number_of_channels_is_refused(workspace: Workspace) -> None:
    """An image with a channel that the model does not know ends in an error."""
    images = workspace.root / "two_channels"
    images.mkdir()
    source = workspace.root / "raw/Dataset502_CEL/imagesTs/case_00_0000.nii.gz"
    for channel in ("0000", "0001"):
        shutil.copy(source, images / f"case_00_{channel}.nii.gz")

    output = workspace.call(
        "nnUNetv2_predict",
        *("-d", "502", "-c", "2d", *MODEL, "-f", "0", *PREDICT),
        *("-i", str(images), "-o", "refused"),
        expect=1,
    )

    assert "Every case must have the 1 channel(s)" in output
    assert not list((workspace.root / "refused").glob("*.nii.gz"))


def test_image_of_zeros_is_refused_by_name(workspace: Workspace) -> None:
    """A case of zeros cannot be normalized: the error names its file."""
    images = workspace.root / "zeros"
    images.mkdir()
    nothing = nibabel.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4))
    nibabel.save(nothing, images / "void_0000.nii.gz")

    output = workspace.call(
        "nnUNetv2_predict",
        *("-d", "502", "-c", "2d", *MODEL, "-f", "0", *PREDICT),
        *("-i", str(images), "-o", "void"),
        expect=1,
    )

    assert "void_0000.nii.gz: KDE normalization must get" in output


def test_plans_without_the_configuration_are_refused(workspace: Workspace) -> None:
    """The error lists the configurations that there are."""
    output = workspace.call("nnUNetv2_train", "502", "2d_n9", "0", *TRAIN, expect=1)

    assert "Requested configuration 2d_n9 not found in plans" in output
    assert "'2d_n3'" in output


def test_missing_results_folder_is_refused(workspace: Workspace) -> None:
    """Without nnUNet_results nnU-Net says which variable to set."""
    environment = dict(workspace.environment)
    del workspace.environment["nnUNet_results"]
    try:
        output = workspace.call("nnUNetv2_train", "502", "2d", "1", *TRAIN, expect=1)
    finally:
        workspace.environment = environment

    assert "nnUNet_results is not defined" in output


def test_plans_of_stock_nnunet(workspace: Workspace) -> None:
    """Without our planner: stock 2D plans are trained and predicted."""
    workspace.call(
        "nnUNetv2_plan_and_preprocess",
        *("-d", "502", "-c", "2d", "-np", "1", "-npfp", "1"),
    )
    workspace.shorten("Dataset502_CEL", "nnUNetPlans")

    workspace.call(
        "nnUNetv2_train", "502", "2d", "0", "-tr", "FCADenseTrainer", "-device", "cpu"
    )
    workspace.call(
        "nnUNetv2_predict",
        *("-d", "502", "-c", "2d", "-tr", "FCADenseTrainer", "-f", "0", *PREDICT),
        *("-i", str(workspace.root / "raw/Dataset502_CEL/imagesTs"), "-o", "stock"),
    )

    assert (workspace.root / "stock" / "case_00.nii.gz").is_file()
    folder = workspace.fold("Dataset502_CEL", "2d", "nnUNetPlans", 0)
    entry = json.loads((folder.parent / "plans.json").read_text())["configurations"]
    assert entry["2d"]["patch_size"] == [32, 32, 32]
    assert entry["2d"]["architecture"]["network_class_name"].endswith("FCADenseNet")


def test_results_that_cannot_be_written_are_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    """A results folder that cannot be made ends in an error that names it."""
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where the folder should be")

    output = workspace.call(
        "nnUNetv2_train",
        *("502", "2d", "1", *TRAIN),
        expect=1,
        nnUNet_results=str(occupied),
    )

    assert str(occupied) in output
    assert occupied.read_text() == "a file where the folder should be"
