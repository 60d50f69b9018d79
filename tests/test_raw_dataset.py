"""Raw data sets of nnU-Net: layout, header, names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.dataset_conversion.raw_dataset import (
    dataset_folder,
    rename_case,
    write_case,
    write_header,
)
from nnunet_cel.volumes import Volume, read_volume

AFFINE = np.array(
    [[0.0, -1.5, 0.0, 10.0], [1.2, 0.0, 0.0, -4.0], [0.0, 0.0, 2.0, 3.0], [0, 0, 0, 1]]
)


def write(folder: Path, name: str, split: str = "train") -> tuple[Volume, Volume]:
    """Write a case, and return its image and label map."""
    rng = np.random.default_rng(sum(name.encode()))
    image = Volume(rng.normal(100, 10, (8, 9, 7)).astype(np.float32), AFFINE)
    label = Volume(rng.integers(0, 2, (8, 9, 7)).astype(np.uint8), AFFINE)
    write_case(folder, name, image, label, split)
    return image, label


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_layout_is_that_of_nnunet(tmp_path: Path) -> None:
    """Images, labels and the header lie where nnU-Net looks for them."""
    with pytest.raises(ValueError, match="at least one training case"):
        write_header(tmp_path, "FLAIR", {}, {})
    volumes = write(tmp_path, "case_01")
    write(tmp_path, "case_02")
    write(tmp_path, "case_03", "test")
    write_header(tmp_path, "FLAIR", {"background": 0, "lesion": 1}, {"licence": "CC0"})

    assert sorted(contents(tmp_path)) == [
        "dataset.json",
        *(f"imagesTr/case_{i}_0000.nii.gz" for i in ("01", "02")),
        "imagesTs/case_03_0000.nii.gz",
        *(f"labelsTr/case_{i}.nii.gz" for i in ("01", "02")),
        "labelsTs/case_03.nii.gz",
    ]
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "channel_names": {"0": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "licence": "CC0",
    }
    for kind, volume in zip(("images", "labels"), volumes, strict=True):
        written = read_volume(min((tmp_path / f"{kind}Tr").iterdir()))
        np.testing.assert_array_equal(written.voxels, volume.voxels)
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
        assert written.voxels.dtype == volume.voxels.dtype


def test_case_gets_its_name_later(tmp_path: Path) -> None:
    """Image and label map go to their part; no case takes the place of another."""
    write(tmp_path, "1")
    write(tmp_path, "2")
    before = contents(tmp_path)

    rename_case(tmp_path, "1", "CEL_1", "test")

    after = contents(tmp_path)
    assert after.pop("imagesTs/CEL_1_0000.nii.gz") == before["imagesTr/1_0000.nii.gz"]
    assert after.pop("labelsTs/CEL_1.nii.gz") == before["labelsTr/1.nii.gz"]
    assert sorted(after) == ["imagesTr/2_0000.nii.gz", "labelsTr/2.nii.gz"]
    with pytest.raises(ValueError, match="second case CEL_1"):
        rename_case(tmp_path, "2", "CEL_1", "test")


def test_folder_is_found_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One data set for each number, in nnU-Net's folder unless another is named."""
    (tmp_path / "Dataset002_A").mkdir()
    (tmp_path / "results" / "Dataset003_C").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))

    assert dataset_folder(tmp_path, 2, "A") == tmp_path / "Dataset002_A"
    for number, name, message in (
        (1000, "A", "from 1 to 999"),
        (1, "a/b", "letters, digits"),
        (2, "B", "must belong to one data set only"),
        (3, "B", "results.Dataset003_C has it"),
    ):
        with pytest.raises(ValueError, match=message):
            dataset_folder(tmp_path, number, name)
    monkeypatch.setenv("nnUNet_raw", "raw")
    assert dataset_folder(None, 7, "X") == Path("raw/Dataset007_X")
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(ValueError, match="nnUNet_raw"):
        dataset_folder(None, 7, "X")
