"""Agreement maps, and DICOM segmentations read back with pydicom and highdicom."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from reports import evaluate, run
from source_layouts import write_tree

from nnunet_cel.report.exports import (
    itksnap_labels,
    make_segmentation,
    slicer_colors,
)
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

hd = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pydicom = pytest.importorskip("pydicom")

MADE_BY = {"label": 1, "algorithm": "FCA-DenseNet", "version": "2.1"}

# Directions of rows, columns and slices in DICOM order (to the left, back and head).
GEOMETRIES = {
    "axial": ((1, 0, 0), (0, 1, 0), 1),
    "axial, from the head down": ((1, 0, 0), (0, 1, 0), -1),
    "sagittal": ((0, 1, 0), (0, 0, -1), 1),
    "sagittal, from left to right": ((0, 1, 0), (0, 0, -1), -1),
    "coronal, oblique": ((0.8, 0.6, 0), (0, 0, -1), 1),
}


def write_series(folder: Path, geometry: str = "axial") -> Path:
    """Write a series of five slices of 4 x 6 pixels from pydicom's example."""
    rows, columns, sign = GEOMETRIES[geometry]
    normal = sign * np.cross(rows, columns)
    folder.mkdir()
    for i in range(5):
        dataset = pydicom.examples.mr  # read anew each time
        dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{i + 1}"
        dataset.SOPInstanceUID = f"1.2.3.{i + 1}"
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
        dataset.FrameOfReferenceUID, dataset.SeriesNumber = "1.2.6", 7
        dataset.PatientName = "MÜLLER^JÜRGEN"
        # Numbers and names of files do not follow the slices.
        dataset.InstanceNumber = 5 - i
        dataset.ImagePositionPatient = list(np.array([-10, 5, 3]) + 2 * i * normal)
        dataset.ImageOrientationPatient = [*rows, *columns]
        dataset.PixelSpacing, dataset.SliceThickness = [1.5, 0.5], 2
        dataset.Rows, dataset.Columns = 4, 6
        pixels = np.arange(24, dtype=np.uint16).reshape(4, 6) + 100 * i
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / f"{(i * 3) % 5}.dcm", enforce_file_format=True)
    return folder


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


def check(segmentation: Any, series: Path, prediction: Volume) -> None:
    """Compare a segmentation with a prediction, voxel by voxel, through the world."""
    masks = masks_of(segmentation)
    to_voxels = np.linalg.inv(prediction.affine)
    count = 0
    for path in sorted(series.iterdir()):
        dataset = pydicom.dcmread(path)
        mask = masks.get(str(dataset.SOPInstanceUID))
        row, column = np.array(dataset.ImageOrientationPatient).reshape(2, 3)
        dy, dx = dataset.PixelSpacing
        for i, j in np.ndindex(dataset.Rows, dataset.Columns):
            place = dataset.ImagePositionPatient + j * dx * row + i * dy * column
            voxel = np.rint((to_voxels @ [-place[0], -place[1], place[2], 1])[:3])
            value = prediction.voxels[tuple(voxel.astype(int))]
            assert (mask is not None and mask[i, j]) == (value == 1)
            count += value == 1
    assert count == (prediction.voxels == 1).sum() > 0


def predict(
    series: Path, path: Path, rng: np.random.Generator, axes: str | None = None
) -> Volume:
    """Write a random prediction of a series, its axes in another order if wanted."""
    scan = read_volume(series)
    voxels = (rng.random(scan.voxels.shape) > 0.6).astype(np.uint8)
    voxels[:, :, 3] = 0  # a slice without lesion has no frame
    voxels[0, 0, 0] = 2
    affine = scan.affine
    if axes is not None:
        turn = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(affine),
            nib.orientations.axcodes2ornt(axes),
        )
        affine = affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)
        voxels = nib.orientations.apply_orientation(voxels, turn)
    prediction = Volume(np.ascontiguousarray(voxels), affine)
    write_volume(path, prediction)
    return prediction


@pytest.mark.parametrize(
    ("geometry", "axes"),
    [*((name, None) for name in GEOMETRIES), ("axial", "IPL"), ("sagittal", "RAS")],
)
def test_every_voxel_is_on_its_slice(
    tmp_path: Path, rng: np.random.Generator, geometry: str, axes: str | None
) -> None:
    """In any direction of slices and of axes, the mask lies where it was predicted."""
    series = write_series(tmp_path / "series", geometry)
    prediction = predict(series, tmp_path / "p.nii.gz", rng, axes)

    content = make_segmentation(tmp_path / "p.nii.gz", series, **MADE_BY)

    check(read_back(content), series, prediction)


def test_what_it_says_of_itself(tmp_path: Path, rng: np.random.Generator) -> None:
    """Patient and study are the scan's; the same prediction gives the same bytes."""
    series, prediction = write_series(tmp_path / "series"), tmp_path / "p.nii.gz"
    predict(series, prediction, rng)
    os.utime(prediction, (1.6e9, 1.6e9))

    content = make_segmentation(prediction, series, **MADE_BY)

    segmentation = read_back(content)
    assert str(segmentation.PatientName) == "MÜLLER^JÜRGEN"
    assert segmentation.StudyInstanceUID == "1.2.4"
    assert segmentation.SeriesInstanceUID != "1.2.5"
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
    predict(series, prediction, rng)
    other = read_back(make_segmentation(prediction, series, **MADE_BY))
    assert other.SOPInstanceUID != segmentation.SOPInstanceUID


def test_what_does_not_fit_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    """Other grids, with their cure, and slices that only a guess takes for DICOM."""
    series, prediction = write_series(tmp_path / "series"), tmp_path / "p.nii.gz"
    scan = read_volume(series)
    for shape, affine in (
        ((9, 9, 9), scan.affine),
        (scan.voxels.shape, scan.affine + np.eye(4) / 9),
    ):
        write_volume(prediction, Volume(np.zeros(shape, dtype=np.uint8), affine))
        with pytest.raises(ValueError, match=r"p\.nii\.gz[\s\S]*nnunet-cel restore"):
            make_segmentation(prediction, series, **MADE_BY)
    predict(series, prediction, rng)
    dataset = pydicom.dcmread(series / "0.dcm")
    (series / "0.dcm").unlink()
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
    voxels = predict(series, prediction, rng).voxels
    command = ("export", "dicom-seg", prediction, "--dicom", series, "-o")

    assert run(*command, target) == 0
    assert list(target.parent.iterdir()) == [target]
    segmentation = read_back(target.read_bytes())
    assert segmentation.FrameOfReferenceUID.startswith("2.25.")
    total = sum(int(mask.sum()) for mask in masks_of(segmentation).values())
    assert total == (voxels == 1).sum()
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
    line = re.compile(
        r'^ +(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+) +([01]) +([01]) +"(.*)"$', re.M
    )
    snap = [match.groups() for match in line.finditer(itksnap_labels())]
    slicer = [text.split(" ") for text in slicer_colors().splitlines()]

    assert [entry[0] for entry in snap] == ["0", "1", "2", "3"]
    assert [entry[7] for entry in snap[1:]] == [
        "True positive",
        "False positive",
        "False negative",
    ]
    for (number, *color, _, _, _, name), (index, label, *rgba) in zip(
        snap[1:], slicer[1:], strict=True
    ):
        assert (number, name.replace(" ", "_")) == (index, label)
        assert [*color, "255"] == rgba
