"""Reading an evaluation back, and the label maps it was made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reports import AFFINE, evaluate

from nnunet_cel.files import sha256
from nnunet_cel.report.results import (
    FN,
    FP,
    TP,
    LabelMaps,
    read_agreement,
    read_results,
)
from nnunet_cel.volumes import Volume, write_volume


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An evaluation of two cases, one without a lesion, and its label maps."""
    lesion = np.zeros((8, 8, 8), dtype=np.uint8)
    lesion[2:5, 2:5, 2:5] = 1
    maps = {"=A": lesion, "B": lesion * 0}
    return evaluate(tmp_path, maps, maps, probabilities=True)


def test_what_was_written_is_read(out: Path, tmp_path: Path) -> None:
    """Cases, lesions and summary are those of the evaluation."""
    results, maps = read_results(out)

    assert maps is not None
    assert maps["B"].prediction == tmp_path / "p" / "B.nii.gz"
    assert results["cases.csv"]["case"].tolist() == ["=A", "B"]
    assert results["lesions.csv"]["case"].tolist() == ["=A", "=A"]
    assert results["lesions.csv"]["voxels"].tolist() == [27, 27]
    assert results["froc.csv"]["volume_ratio"].notna().any()
    assert len(results["calibration.csv"])


def test_files_that_do_not_belong_together_are_refused(out: Path) -> None:
    """A missing case, a missing column and a missing entry are told."""
    cases, summary = out / "cases.csv", out / "summary.json"
    whole = cases.read_text()
    cases.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match="belong together"):
        read_results(out)
    cases.write_text(whole)
    for table, column in (
        ("cases", "predicted_ml"),
        ("lesions", "box_z_last"),
        ("froc", "volume_ratio"),
        ("calibration", "observed"),
    ):
        path = out / f"{table}.csv"
        before = path.read_text()
        path.write_text(before.replace(column, "other"))
        with pytest.raises(ValueError, match=rf"{table}\.csv .* lacks {column}"):
            read_results(out)
        path.write_text(before)
    content = json.loads(summary.read_text())
    del content["scans"]
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"summary\.json .* lacks scans"):
        read_results(out)


def test_label_maps_that_were_moved(out: Path) -> None:
    """They are missing until somebody says where all of them are."""
    moved = (out.parent / "p").rename(out.parent / "q")

    assert read_results(out)[1] is None
    _, maps = read_results(out, predictions=moved)
    assert maps is not None
    assert maps["B"].prediction == moved / "B.nii.gz"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_results(out, predictions=out.parent / "nowhere")
    for case in maps:
        (moved / f"{case}.nii.gz").rename(moved / f"old {case}.nii.gz")
    with pytest.raises(ValueError, match=r"lacks =A, B: .*--predictions"):
        read_results(out, predictions=moved)


@pytest.mark.parametrize(("ignore", "last"), [(None, FP), (3, 0)])
def test_every_pair_of_labels(tmp_path: Path, ignore: int | None, last: int) -> None:
    """Hit, false, missed and nothing; other labels are background."""
    files = (tmp_path / "p.nii.gz", tmp_path / "r.nii.gz")
    rows = ([1, 1, 0, 0, 2, 1, 1], [1, 0, 1, 0, 1, 2, 3])
    for path, row in zip(files, rows, strict=True):
        voxels = np.array(row, dtype=np.uint8).reshape(7, 1, 1)
        write_volume(path, Volume(voxels, AFFINE))
    hashes = {"prediction": sha256(files[0]), "reference": sha256(files[1])}

    voxels = read_agreement(LabelMaps("a", *files, hashes, 1, ignore)).voxels
    assert voxels.ravel().tolist() == [TP, FP, FN, 0, FN, FP, last]

    write_volume(files[1], Volume(voxels * 0, AFFINE))
    with pytest.raises(ValueError, match=r"reference .*r\.nii\.gz .* changed"):
        read_agreement(LabelMaps("a", *files, hashes, 1, ignore))
