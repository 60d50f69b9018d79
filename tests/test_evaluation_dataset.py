"""Tests of the evaluation of a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.dataset import evaluate_folders, write_evaluation
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
    predictions.mkdir()
    references.mkdir()
    for name in ("A", "B", "C", "free"):
        probabilities = rng.random(SHAPE, dtype=np.float32) ** 4
        reference = (rng.random(SHAPE) < 0.1) & (name != "free")
        save(predictions, name, probabilities > 0.5)
        save(references, name, reference)
        both = np.stack([1 - probabilities, probabilities])
        np.savez(predictions / f"{name}.npz", probabilities=both.transpose(0, 3, 2, 1))
    return predictions, references


def save(
    folder: Path, name: str, mask: np.ndarray, affine: np.ndarray = AFFINE
) -> None:
    """Write a label map."""
    write_volume(folder / f"{name}.nii.gz", Volume(mask.astype(np.uint8), affine))


def test_rows_are_those_of_the_cases(folders: tuple[Path, Path]) -> None:
    """The table has what each case gives by itself, in the order of names."""
    predictions, references = folders

    evaluation = evaluate_folders(*folders, PAPER)

    assert list(evaluation.tables["cases"]["case"]) == ["A", "B", "C", "free"]
    for row in evaluation.tables["cases"].to_dict("records"):
        alone = evaluate_case(
            read_label_map(predictions / f"{row['case']}.nii.gz"),
            read_label_map(references / f"{row['case']}.nii.gz"),
            PAPER,
            labels=Labels(),
        )
        lesions = evaluation.tables["lesions"]
        of_case = lesions[lesions["case"] == row.pop("case")]
        assert row == pytest.approx(alone.row, nan_ok=True)
        assert len(of_case) == len(alone.lesions)
    summary = json.loads(json.dumps(plain(evaluation.summary), allow_nan=False))
    assert summary["protocol"] == plain(PAPER.to_dict())
    assert [summary["metrics"][name]["n"] for name in ("DSC", "PPV")] == [3, 4]
    for name in METRICS:
        mean = evaluation.tables["cases"][name].mean()
        assert summary["metrics"][name]["mean"] == pytest.approx(mean)
    assert set(summary["sha256"]["A"]) == {"prediction", "reference"}


def test_probabilities_are_used(folders: tuple[Path, Path]) -> None:
    """At threshold 0.5 the curve has the numbers of the evaluation."""
    evaluation = evaluate_folders(
        *folders, PAPER, probabilities=True, wanted_lfdr=[1.0]
    )

    half = evaluation.tables["froc"].set_index("threshold").loc[0.5]
    assert half["DSC"] == pytest.approx(evaluation.tables["cases"]["DSC"].mean())
    assert half["L-sens"] == pytest.approx(evaluation.tables["cases"]["L-sens"].mean())
    cases = evaluation.tables["cases"]
    assert half["sensitivity"] == pytest.approx(
        cases["reference_hit"].sum() / cases["reference_lesions"].sum()
    )
    assert evaluation.tables["lesions"]["mean_probability"].between(0, 1).all()
    assert set(evaluation.tables["calibration"]["level"]) == {"voxels", "lesions"}
    thresholds = evaluation.summary["thresholds"]
    assert 0 <= thresholds["average_precision"] <= 1
    assert [entry["wanted"] for entry in thresholds["for_lfdr"]] == [1.0]


def test_data_set_without_any_lesion(tmp_path: Path) -> None:
    """Lesion-free scans alone are evaluated, with probabilities too."""
    for name in ("p", "r"):
        (tmp_path / name).mkdir()
        for case in ("a", "b"):
            save(tmp_path / name, case, np.zeros(SHAPE))
            np.savez(
                tmp_path / name / f"{case}.npz",
                probabilities=np.zeros((2, *SHAPE[::-1]), dtype=np.float32),
            )

    evaluation = evaluate_folders(
        tmp_path / "p", tmp_path / "r", PAPER, probabilities=True
    )
    write_evaluation(evaluation, tmp_path)

    assert evaluation.summary["scans"]["specificity"]["value"] == 1
    assert evaluation.summary["metrics"]["DSC"]["n"] == 0
    assert list(read_table(tmp_path / "lesions.csv")["case"]) == []


def test_ignore_label_of_the_data_set_is_used(
    folders: tuple[Path, Path], rng: np.random.Generator
) -> None:
    """A dataset.json above labelsTs names the label to leave out."""
    _, references = folders
    part = np.zeros(SHAPE, dtype=bool)
    part[5:] = True
    for path in references.iterdir():
        volume = read_label_map(path)
        write_volume(path, volume._replace(voxels=np.where(part, 2, volume.voxels)))
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
        (lambda p, r: np.savez(p / "A.npz", a=np.ones(1)), "cannot be read"),
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


def test_probabilities_of_another_orientation_are_refused(
    folders: tuple[Path, Path],
) -> None:
    """Probabilities that were saved with turned axes are not used silently."""
    predictions, _ = folders
    with np.load(predictions / "A.npz") as content:
        turned = content["probabilities"][:, ::-1]
    np.savez(predictions / "A.npz", probabilities=turned)

    with pytest.raises(ValueError, match=r"probabilities \S+A.npz must be high"):
        evaluate_folders(*folders, PAPER, probabilities=True)


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
