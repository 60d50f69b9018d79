"""Tests of the evaluation of a data set, and of counting lesions without references."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.dataset import (
    count_lesions,
    evaluate_folders,
    write_evaluation,
)
from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.tables import plain, read_table
from nnunet_cel.volumes import Volume, read_label_map, write_volume

PAPER = load_protocol("paper")
SHAPE = (10, 9, 8)
AFFINE = np.diag([1.0, 2.0, 1.0, 1.0])


@pytest.fixture
def folders(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Predictions with probabilities, and references; the last has no lesion."""
    predictions, references = tmp_path / "predictions", tmp_path / "label maps"
    for name in ("A", "B", "C", "free"):
        probabilities = rng.random(SHAPE, dtype=np.float32) ** 4
        reference = (rng.random(SHAPE) < 0.1) & (name != "free")
        save(predictions, name, probabilities > 0.5)
        save(references, name, reference)
        both = np.stack([1 - probabilities, probabilities])
        np.savez(predictions / f"{name}.npz", probabilities=both.transpose(0, 3, 2, 1))
    return predictions, references


def save(folder: Path, name: str, voxels: np.ndarray) -> None:
    """Write a label map."""
    folder.mkdir(exist_ok=True)
    volume = Volume(voxels.astype(np.uint8), AFFINE)
    write_volume(folder / f"{name}.nii.gz", volume)


def test_rows_are_those_of_the_cases(folders: tuple[Path, Path]) -> None:
    """The tables have what each case gives by itself, in the order of names."""
    predictions, references = folders

    evaluation = evaluate_folders(*folders, PAPER)

    cases, lesions = (evaluation.tables[name] for name in ("cases", "lesions"))
    assert list(cases["case"]) == ["A", "B", "C", "free"]
    for row in cases.to_dict("records"):
        alone = evaluate_case(
            read_label_map(predictions / f"{row['case']}.nii.gz"),
            read_label_map(references / f"{row['case']}.nii.gz"),
            PAPER,
            labels=Labels(),
        )
        assert (lesions["case"] == row.pop("case")).sum() == len(alone["lesions"])
        expected = alone["cases"].to_dict("records")[0]
        assert row == pytest.approx(expected, nan_ok=True)
    summary = json.loads(json.dumps(plain(evaluation.summary), allow_nan=False))
    assert summary["protocol"] == plain(PAPER.to_dict())
    assert [summary["metrics"][name]["n"] for name in ("DSC", "PPV")] == [3, 4]
    for name in METRICS:
        mean = summary["metrics"][name]["mean"]
        assert mean == pytest.approx(cases[name].mean())
    assert set(summary["sha256"]["A"]) == {"prediction", "reference"}


def test_probabilities_are_used(folders: tuple[Path, Path]) -> None:
    """At threshold 0.5 the curve has the numbers of the evaluation."""
    evaluation = evaluate_folders(
        *folders, PAPER, probabilities=True, wanted_lfdr=[1.0]
    )

    cases, lesions = (evaluation.tables[name] for name in ("cases", "lesions"))
    half = evaluation.tables["froc"].set_index("threshold").loc[0.5]
    expected = cases["reference_hit"].sum() / cases["reference_lesions"].sum()
    assert half["DSC"] == pytest.approx(cases["DSC"].mean())
    assert half["sensitivity"] == pytest.approx(expected)
    assert lesions["mean_probability"].between(0, 1).all()
    calibration = evaluation.tables["calibration"]
    assert set(calibration["level"]) == {"voxels", "lesions"}
    voxels = calibration[calibration["level"] == "voxels"]
    assert (voxels["count"] * voxels["observed"]).sum() == pytest.approx(
        sum(
            ((np.load(p)["probabilities"][1].T > 0.01) & truth).sum()
            for p in folders[0].glob("*.npz")
            for truth in [read_label_map(folders[1] / f"{p.stem}.nii.gz").voxels]
        )
    )
    thresholds = evaluation.summary["thresholds"]
    assert 0 <= thresholds["average_precision"] <= 1
    assert [entry["wanted"] for entry in thresholds["for_lfdr"]] == [1.0]


def test_data_set_without_any_lesion(tmp_path: Path) -> None:
    """Lesion-free scans alone are evaluated, with probabilities too."""
    empty = np.zeros((2, *SHAPE[::-1]), dtype=np.float32)
    folders = tmp_path / "p", tmp_path / "r"
    for folder in folders:
        for case in ("a", "b"):
            save(folder, case, np.zeros(SHAPE))
            np.savez(folder / f"{case}.npz", probabilities=empty)

    evaluation = evaluate_folders(*folders, PAPER, probabilities=True)
    write_evaluation(evaluation, tmp_path)

    assert evaluation.summary["scans"]["specificity"]["value"] == 1
    assert evaluation.summary["metrics"]["DSC"]["n"] == 0
    assert list(read_table(tmp_path / "lesions.csv")["case"]) == []


def test_ignore_label_of_the_data_set_is_used(folders: tuple[Path, Path]) -> None:
    """A dataset.json above labelsTs names the label to leave out."""
    _, references = folders
    for path in references.iterdir():
        volume = read_label_map(path)
        volume.voxels[5:] = 2
        write_volume(path, volume)
    with pytest.raises(ValueError, match="4 cases have problems"):
        evaluate_folders(*folders, PAPER)
    labels = {"background": 0, "lesion": 1, "ignore": 2}
    (references.parent / "dataset.json").write_text(json.dumps({"labels": labels}))

    evaluation = evaluate_folders(*folders, PAPER, probabilities=True)

    assert evaluation.summary["ignore_label"] == 2
    assert (evaluation.tables["lesions"]["box_x_last"] < 5).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, r: save(p, "A", np.zeros((2, 2, 2))), "shape"),
        (lambda p, r: save(p, "A", np.full(SHAPE, 7)), "must have no values but 0, 1"),
        (lambda p, r: (r / "A.nii.gz").write_bytes(b"no image"), "cannot be read"),
        (lambda p, r: (p / "A.npz").unlink(), "There are no probabilities"),
    ],
)
def test_every_bad_case_is_listed(
    folders: tuple[Path, Path],
    spoil: Callable[[Path, Path], Any],
    message: str,
) -> None:
    """What is wrong with one case is told together with what is with another."""
    predictions, references = folders
    spoil(predictions, references)
    save(predictions, "B", np.full(SHAPE, 9))

    with pytest.raises(ValueError, match="2 cases have problems") as caught:
        evaluate_folders(*folders, PAPER, probabilities=True)

    first, second = str(caught.value).split("\n- ")[1:]
    assert message in first
    assert "A.n" in first
    assert "B.nii.gz" in second


def test_export_of_nnunet_has_the_axes_that_are_read(
    planned_folders: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """What nnU-Net's own export writes is read as the label map beside it."""
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset = planned_folders / "preprocessed" / "Dataset501_Tiny"
    plans = PlansManager(str(dataset / "FCADensePlans.json"))
    images = planned_folders / "raw" / "Dataset501_Tiny" / "imagesTr"
    reader = plans.image_reader_writer_class()
    _, properties = reader.read_images([str(images / "case_00_0000.nii.gz")])
    shape = (9, 11, 13)  # Z, Y, X
    properties |= {
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, size] for size in shape],
    }
    logits = torch.from_numpy(rng.normal(0, 3, (2, *shape)).astype(np.float32))
    for name in ("p", "r"):
        (tmp_path / name).mkdir()
        export_prediction_from_logits(
            logits,
            properties,
            plans.get_configuration("2d"),
            plans,
            json.loads((dataset / "dataset.json").read_text()),
            str(tmp_path / name / "case"),
            save_probabilities=True,
        )

    evaluation = evaluate_folders(
        tmp_path / "p", tmp_path / "r", PAPER, probabilities=True
    )

    assert read_label_map(tmp_path / "p" / "case.nii.gz").voxels.shape == (13, 11, 9)
    half = evaluation.tables["froc"].set_index("threshold").loc[0.5]
    assert (half["DSC"], half["L-sens"], half["volume_ratio"]) == (1, 1, 1)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Label maps with lesions of 4 and 3 voxels and a speck, and without lesions."""
    voxels = np.zeros((3, 8, 6), dtype=np.uint8)
    voxels[0, 0:3, 0] = voxels[1, 4:8, 4] = voxels[2, 0, 5] = 1
    save(tmp_path / "predictions", "A_01", voxels)
    save(tmp_path / "predictions", "B_02", voxels * 0)
    return tmp_path / "predictions"


def write_image(folder: Path, name: str, scale: float) -> None:
    """Write an image whose intensity grows along y."""
    folder.mkdir(exist_ok=True)
    voxels = scale * np.broadcast_to(np.arange(8.0)[:, None], (3, 8, 6))
    write_volume(folder / name, Volume(voxels.astype(np.float32), AFFINE))


def test_lesions_and_volumes_by_hand(predictions: Path) -> None:
    """The largest lesion comes first, the speck is dropped, voxels have 2 mm3."""
    lesions, cases = count_lesions(predictions, PAPER)

    columns = ["case", "lesion", "voxels", "volume_mm3", "centroid_x_mm"]
    assert lesions[columns].to_numpy().tolist() == [
        ["A_01", 1, 4, 8, 1],
        ["A_01", 2, 3, 6, 0],
    ]
    assert list(lesions["centroid_y_mm"]) == [11, 2]
    assert cases.to_dict("list") == {
        "case": ["A_01", "B_02"],
        "lesions": [2, 0],
        "volume_ml": [0.014, 0],
        "dropped": [1, 0],
        "dropped_ml": [0.002, 0],
    }
    _, cases = count_lesions(predictions, PAPER, label=3)
    assert list(cases["lesions"]) == [0, 0]


def test_intensities_of_all_channels(predictions: Path, tmp_path: Path) -> None:
    """Each channel has a column with the mean over the lesion; no number will do."""
    for case in ("A_01", "B_02"):
        write_image(tmp_path / "a", f"{case}_0000.nii.gz", 1)
        write_image(tmp_path / "a", f"{case}_0001.nii.gz", 10)
        write_image(tmp_path / "b", f"{case}.nii", 1)

    lesions, _ = count_lesions(predictions, PAPER, images=tmp_path / "a")

    assert list(lesions["intensity_0000"]) == [5.5, 1]
    assert list(lesions["intensity_0001"]) == [55, 10]
    lesions, _ = count_lesions(predictions, PAPER, images=tmp_path / "b")
    assert list(lesions["intensity"]) == [5.5, 1]


def test_all_bad_images_are_listed(predictions: Path, tmp_path: Path) -> None:
    """A damaged label map and an image on another grid are told together."""
    save(tmp_path / "images", "A_01_0000", np.zeros((2, 2, 2)))
    write_image(tmp_path / "images", "B_02_0000.nii.gz", 1)
    (predictions / "B_02.nii.gz").write_bytes(b"no image")

    problems = "2 cases have problems(?s:.*)A_01_0000(?s:.*)B_02.nii.gz cannot be read"
    with pytest.raises(ValueError, match=problems):
        count_lesions(predictions, PAPER, images=tmp_path / "images")
