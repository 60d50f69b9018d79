"""Reading an evaluation back, and the label maps it was made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.evaluation.dataset import evaluate_folders, write_evaluation
from nnunet_cel.evaluation.protocol import load_protocol
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
    for folder in ("p", "r", "out"):
        (tmp_path / folder).mkdir()
    for case, voxels in (("=A", lesion), ("B", lesion * 0)):
        for folder in ("p", "r"):
            write_volume(
                tmp_path / folder / f"{case}.nii.gz", Volume(voxels, np.eye(4))
            )
    evaluation = evaluate_folders(tmp_path / "p", tmp_path / "r", load_protocol())
    write_evaluation(evaluation, tmp_path / "out")
    return tmp_path / "out"


def test_what_was_written_is_read(out: Path, tmp_path: Path) -> None:
    """Cases, lesions and summary are those of the evaluation."""
    results = read_results(out)

    assert results.maps is not None
    assert results.maps["B"].prediction == tmp_path / "p" / "B.nii.gz"
    assert results.cases["case"].tolist() == ["=A", "B"]
    assert results.lesions["case"].tolist() == ["=A", "=A"]
    assert results.lesions["voxels"].tolist() == [27, 27]
    assert results.froc is None
    assert results.calibration is None


def test_files_that_do_not_belong_together_are_refused(out: Path) -> None:
    """A missing case, a missing column and a missing entry are told."""
    cases, summary = out / "cases.csv", out / "summary.json"
    whole = cases.read_text()
    cases.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match="belong together"):
        read_results(out)
    cases.write_text(whole)
    content = json.loads(summary.read_text())
    del content["scans"]
    summary.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="lacks scans"):
        read_results(out)


def test_a_folder_without_evaluation_is_refused(tmp_path: Path) -> None:
    """It is named, with the command that makes one."""
    with pytest.raises(FileNotFoundError, match="nnunet-cel evaluate"):
        read_results(tmp_path)


def test_label_maps_that_were_moved(out: Path) -> None:
    """They are missing until somebody says where they are."""
    (out.parent / "p").rename(out.parent / "q")

    assert read_results(out).maps is None
    maps = read_results(out, predictions=out.parent / "q").maps
    assert maps is not None
    assert maps["B"].prediction.parent.name == "q"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_results(out, predictions=out.parent / "nowhere")


def test_missing_label_maps_are_all_listed(out: Path) -> None:
    """A folder that lacks cases is refused with the names of all of them."""
    for case in ("=A", "B"):
        path = out.parent / "p" / f"{case}.nii.gz"
        path.rename(path.with_name(f"old {case}.nii.gz"))

    with pytest.raises(ValueError, match=r"lacks =A, B: .*--predictions"):
        read_results(out)


@pytest.mark.parametrize(("ignore", "last"), [(None, FP), (3, 0)])
def test_every_pair_of_labels(tmp_path: Path, ignore: int | None, last: int) -> None:
    """Hit, false, missed and nothing; other labels are background."""
    values = {"p": [1, 1, 0, 0, 2, 1, 1], "r": [1, 0, 1, 0, 1, 2, 3]}
    files = {name: tmp_path / f"{name}.nii.gz" for name in values}
    for name, row in values.items():
        voxels = np.array(row, dtype=np.uint8).reshape(7, 1, 1)
        write_volume(files[name], Volume(voxels, np.eye(4)))
    hashes = {"prediction": sha256(files["p"]), "reference": sha256(files["r"])}

    maps = LabelMaps("a", files["p"], files["r"], hashes, label=1, ignore=ignore)

    expected = [TP, FP, FN, 0, FN, FP, last]
    assert read_agreement(maps).voxels.ravel().tolist() == expected


def test_changed_files_are_refused(out: Path) -> None:
    """A label map that is not the one that was evaluated makes no picture."""
    maps = read_results(out).maps
    assert maps is not None

    marked = read_agreement(maps["=A"]).voxels
    assert (marked == TP).sum() == 27
    write_volume(maps["=A"].reference, Volume(marked * 0, np.eye(4)))
    with pytest.raises(ValueError, match=r"reference .*=A\.nii\.gz .* changed"):
        read_agreement(maps["=A"])
