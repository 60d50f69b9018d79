"""Agreement maps, and DICOM segmentations read back with pydicom and highdicom."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from reports import evaluate, run
from scipy.spatial.transform import Rotation
from source_layouts import write_tree

from nnunet_cel.phantom.layouts import write_dicom
from nnunet_cel.report.exports import (
    itksnap_labels,
    make_segmentation,
    slicer_colors,
)
from nnunet_cel.resampling import to_ras
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

hd = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pydicom = pytest.importorskip("pydicom")

MADE_BY = {"label": 1, "algorithm": "FCA-DenseNet", "version": "2.1"}

VOXELS = np.arange(6 * 4 * 5, dtype=np.int16).reshape(6, 4, 5)  # which one each is
TILT = Rotation.from_euler("xz", [17, -9], degrees=True).as_matrix()


def write_series(folder: Path, axes: str = "LPS") -> Volume:
    """Write a tilted series of five slices and return its volume."""
    affine = np.eye(4)
    for k, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(axes)):
        affine[:3, k] = sign * TILT[:, int(axis)] * (0.5, 1.5, 2)[k]
    affine[:3, 3] = (-10, 5, 3)
    write_dicom(folder, Volume(VOXELS, affine), "Doe_Jane")
    return Volume(VOXELS, affine)


def read_back(content: bytes) -> Any:
    """Return a segmentation as highdicom reads it."""
    return hd.seg.segread(io.BytesIO(content))


def masks_of(segmentation: Any) -> dict[str, np.ndarray]:
    """Return the mask on every slice of the series that is not empty, by its UID."""
    frames = segmentation.pixel_array.reshape(-1, *segmentation.pixel_array.shape[-2:])
    found = {}
    for groups, frame in zip(
        segmentation.PerFrameFunctionalGroupsSequence, frames, strict=True
    ):
        (derivation,) = groups.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        found[str(source.ReferencedSOPInstanceUID)] = frame
    return found


def predict(scan: Volume, path: Path, rng: np.random.Generator) -> np.ndarray:
    """Write a random prediction with its axes in another order, return its lesions."""
    voxels = (rng.random(scan.voxels.shape) > 0.6).astype(np.uint8)
    voxels[:, :, 3] = 0  # a slice without lesion has no frame
    voxels[0, 0, 0] = 2
    write_volume(path, to_ras(Volume(voxels, scan.affine)))
    return voxels == 1


@pytest.mark.parametrize("axes", ["LPS", "LPI", "PIL", "PIR", "LIP"])
def test_every_voxel_is_on_its_slice(
    tmp_path: Path, rng: np.random.Generator, axes: str
) -> None:
    """In any direction of slices and of axes, the mask lies where it was predicted."""
    series, prediction = tmp_path / "series", tmp_path / "p.nii.gz"
    lesions = predict(write_series(series, axes), prediction, rng)

    masks = masks_of(read_back(make_segmentation(prediction, series, **MADE_BY)))

    assert len(masks) == 4
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        mask = masks.get(str(dataset.SOPInstanceUID), np.zeros((4, 6)))
        np.testing.assert_array_equal(mask, lesions.ravel()[dataset.pixel_array])


def test_what_it_says_of_itself(tmp_path: Path, rng: np.random.Generator) -> None:
    """Patient and study are the scan's; the same prediction gives the same bytes."""
    series, prediction = tmp_path / "series", tmp_path / "p.nii.gz"
    scan = write_series(series)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "MÜLLER^JÜRGEN"
        dataset.FrameOfReferenceUID, dataset.SeriesNumber = "1.2.6", 7
        dataset.save_as(path)
    predict(scan, prediction, rng)
    os.utime(prediction, (1.6e9, 1.6e9))

    content = make_segmentation(prediction, series, **MADE_BY)

    segmentation = read_back(content)
    assert str(segmentation.PatientName) == "MÜLLER^JÜRGEN"
    assert segmentation.StudyInstanceUID == dataset.StudyInstanceUID
    assert segmentation.SeriesInstanceUID != dataset.SeriesInstanceUID
    assert segmentation.FrameOfReferenceUID == "1.2.6"
    assert segmentation.SegmentationType == "BINARY"
    assert segmentation.SeriesNumber == 1007
    segment = segmentation.get_segment_description(1)
    assert segment.segment_label == "Contrast-enhancing lesion"
    assert segment.segmented_property_type.value == "52988006"
    assert segment.segmented_property_type.scheme_designator == "SCT"
    assert segment.segmented_property_category.value == "49755003"
    assert segment.anatomic_regions[0].value == "12738006"
    assert segment.algorithm_identification.name == "FCA-DenseNet"
    assert segment.algorithm_identification.version == "2.1"
    assert segment.tracking_uid.startswith("2.25.")
    assert make_segmentation(prediction, series, **MADE_BY) == content
    predict(scan, prediction, rng)
    other = read_back(make_segmentation(prediction, series, **MADE_BY))
    assert other.SOPInstanceUID != segmentation.SOPInstanceUID


def test_what_does_not_fit_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    """Other grids, with their cure, and slices that only a guess takes for DICOM."""
    series, prediction = tmp_path / "series", tmp_path / "p.nii.gz"
    scan = write_series(series)
    for shape, affine in (
        ((9, 9, 9), scan.affine),
        (scan.voxels.shape, scan.affine + np.eye(4, k=3)),
    ):
        write_volume(prediction, Volume(np.zeros(shape, dtype=np.uint8), affine))
        with pytest.raises(ValueError, match=r"p\.nii\.gz[\s\S]*nnunet-cel restore"):
            make_segmentation(prediction, series, **MADE_BY)
    predict(scan, prediction, rng)
    dataset = pydicom.dcmread(series / "IM0001.dcm")
    (series / "IM0001.dcm").unlink()
    del dataset.file_meta, dataset.preamble
    dataset.save_as(series / "0", implicit_vr=True, little_endian=True)
    with pytest.raises(ValueError, match=r"each of the 5 slices\. Got 4"):
        make_segmentation(prediction, series, **MADE_BY)


def test_the_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without highdicom the command that installs it is told."""
    monkeypatch.setitem(sys.modules, "highdicom", None)

    with pytest.raises(ImportError, match=r"pip install 'nnunet-cel\[dicom\]'"):
        make_segmentation(tmp_path / "p.nii.gz", tmp_path / "series", **MADE_BY)


def test_segmentation_of_a_clinics_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    """An oblique series without frame of reference; the file is beside it, once."""
    write_tree(tmp_path / "tree", "cel-dicom", 1)
    folders = sorted({path.parent for path in (tmp_path / "tree").rglob("IM0001.dcm")})
    series = next(path for path in folders if "__MACOSX" not in path.parts)
    prediction, target = tmp_path / "p.nii.gz", tmp_path / "segmentations" / "x.dcm"
    lesions = predict(read_volume(series), prediction, rng)
    command = ("export", "dicom-seg", prediction, "--dicom", series, "-o")

    assert run(*command, target) == 0
    assert list(target.parent.iterdir()) == [target]
    segmentation = read_back(target.read_bytes())
    assert segmentation.FrameOfReferenceUID.startswith("2.25.")
    total = sum(int(mask.sum()) for mask in masks_of(segmentation).values())
    assert total == lesions.sum()
    assert run(*command, target) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, target, "--overwrite") == 0
    before = prediction.read_bytes()
    assert run(*command, prediction, "--overwrite") == 1
    assert prediction.read_bytes() == before
    assert run(*command, series / "lesions.dcm") == 1
    assert "in another folder than the series" in capsys.readouterr().err
    assert run(*command, target, "--overwrite", "--dicom", tmp_path / "none") == 1


def test_maps_of_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Voxels are colored as they were counted; earlier maps are kept unless told so."""
    reference = np.zeros((10, 10, 10), dtype=np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    prediction = np.roll(reference, 1, axis=0)
    reference[5, 2, 2] = 2
    out = evaluate(tmp_path, {"a": reference}, {"a": prediction}, ignore_label=2)
    maps = tmp_path / "my maps"
    command = ("export", "itksnap", out, "-np", 1, "--no-progress", "-o")

    assert run(*command, maps) == 0
    voxels = read_label_map(maps / "a.nii.gz").voxels
    assert np.bincount(voxels.ravel())[1:].tolist() == [18, 8, 9]
    assert voxels[5, 2, 2] == 0
    assert run(*command, maps) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, maps, "--overwrite") == 0
    assert run(*command, tmp_path / "p", "--overwrite") == 1
    moved = (tmp_path / "p").rename(tmp_path / "q")
    assert (moved / "a.nii.gz").is_file()
    assert run(*command, tmp_path / "others") == 1
    assert "--predictions" in capsys.readouterr().err
    assert run(*command, tmp_path / "others", "--predictions", moved) == 0


def test_both_programs_get_the_same_labels() -> None:
    """ITK-SNAP's eight columns and 3D Slicer's six agree in number, color and name."""
    lines = [line for line in itksnap_labels().splitlines() if line[0] != "#"]
    snap = [line.split(maxsplit=7) for line in lines]
    slicer = [line.split() for line in slicer_colors().splitlines()]

    assert [(entry[0], entry[7]) for entry in snap] == [
        ("0", '"Clear Label"'),
        ("1", '"True positive"'),
        ("2", '"False positive"'),
        ("3", '"False negative"'),
    ]
    for (number, *color, _, _, _, name), (index, label, *rgba) in zip(
        snap[1:], slicer[1:], strict=True
    ):
        assert (number, name.replace(" ", "_")) == (index, f'"{label}"')
        assert [*color, "255"] == rgba
