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
from source_layouts import write_tree

from nnunet_cel.report.exports import (
    export_segmentation,
    itksnap_labels,
    slicer_colors,
)
from nnunet_cel.volumes import Volume, read_volume, write_volume

hd = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pydicom = pytest.importorskip("pydicom")


def make_segmentation(
    prediction: Path, series: Path, algorithm: str = "nnunet-cel", version: str = "1"
) -> bytes:
    """Return the segmentation that is written of a prediction."""
    out = prediction.with_name("lesions.dcm")
    export_segmentation(
        prediction,
        series,
        out,
        label=1,
        algorithm=algorithm,
        version=version,
        overwrite=True,
    )
    return out.read_bytes()


# Directions of rows, columns and slices in DICOM order (to the left, back and head).
GEOMETRIES = {
    "axial": ((1, 0, 0), (0, 1, 0), 1),
    "axial, from the head down": ((1, 0, 0), (0, 1, 0), -1),
    "sagittal": ((0, 1, 0), (0, 0, -1), 1),
    "sagittal, from left to right": ((0, 1, 0), (0, 0, -1), -1),
    "coronal, oblique": ((0.8, 0.6, 0), (0, 0, -1), 1),
}


def write_series(
    folder: Path, geometry: str, *, name: str = "DOE^JANE", tilt: float = 0
) -> Path:
    """Write a series of five slices of 4 x 6 pixels with pydicom alone.

    Each slice is moved by `tilt` of their distance along its rows.
    """
    rows, columns, sign = GEOMETRIES[geometry]
    normal = sign * np.cross(rows, columns) + tilt * np.array(rows)
    folder.mkdir()
    for i in range(5):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{i + 1}"
        dataset = pydicom.Dataset()
        dataset.file_meta = meta
        dataset.SOPClassUID = pydicom.uid.MRImageStorage
        dataset.SOPInstanceUID = f"1.2.3.{i + 1}"
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
        dataset.FrameOfReferenceUID = "1.2.6"
        dataset.PatientName, dataset.PatientID = name, "17"
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200102", "0830", ""
        dataset.PatientBirthDate, dataset.PatientSex = "", ""
        dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
        dataset.Modality, dataset.SeriesNumber = "MR", 7
        # Numbers and names of files do not follow the slices.
        dataset.InstanceNumber = 5 - i
        dataset.ImagePositionPatient = list(np.array([-10, 5, 3]) + 2 * i * normal)
        dataset.ImageOrientationPatient = [*rows, *columns]
        dataset.PixelSpacing, dataset.SliceThickness = [1.5, 0.5], 2
        dataset.Rows, dataset.Columns = 4, 6
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
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
        if path.name.startswith("."):
            continue
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


@pytest.mark.parametrize("axes", [None, "RAS", "IPL"])
@pytest.mark.parametrize("geometry", list(GEOMETRIES))
def test_every_voxel_is_on_its_slice(
    tmp_path: Path, rng: np.random.Generator, geometry: str, axes: str | None
) -> None:
    """In any direction of slices and of axes, the mask lies where it was predicted."""
    series = write_series(tmp_path / "series", geometry)
    prediction = predict(series, tmp_path / "p.nii.gz", rng, axes)

    content = make_segmentation(tmp_path / "p.nii.gz", series)

    check(read_back(content), series, prediction)


def test_rounded_places_of_slices_do_not_matter(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Slices that drift sideways as far as reading allows keep their masks."""
    series = write_series(tmp_path / "series", "axial", tilt=0.009)
    prediction = predict(series, tmp_path / "p.nii.gz", rng)

    segmentation = read_back(make_segmentation(tmp_path / "p.nii.gz", series))

    masks = masks_of(segmentation)
    for k in range(5):
        assert np.array_equal(
            masks.get(f"1.2.3.{k + 1}", np.zeros((4, 6))).T,
            prediction.voxels[:, :, k] == 1,
        )


def test_files_without_the_mark_of_dicom_are_told(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A slice that only a guess could take for DICOM is not left out silently."""
    series = write_series(tmp_path / "series", "axial")
    predict(series, tmp_path / "p.nii.gz", rng)
    dataset = pydicom.dcmread(series / "0.dcm")
    (series / "0.dcm").unlink()
    del dataset.file_meta, dataset.preamble
    dataset.save_as(series / "0", implicit_vr=True, little_endian=True)

    with pytest.raises(ValueError, match=r"each of the 5 slices\. Got 4"):
        make_segmentation(tmp_path / "p.nii.gz", series)


@pytest.mark.parametrize("number", [0, 1], ids=["axial", "sagittal"])
def test_series_of_a_clinic(
    tmp_path: Path, rng: np.random.Generator, number: int
) -> None:
    """Oblique series as scanners write them work, even without frame of reference."""
    write_tree(tmp_path / "tree", "cel-dicom", 2)
    folders = {path.parent for path in (tmp_path / "tree").rglob("IM0001.dcm")}
    series = sorted(path for path in folders if "__MACOSX" not in path.parts)[number]
    prediction = predict(series, tmp_path / "p.nii.gz", rng)

    segmentation = read_back(make_segmentation(tmp_path / "p.nii.gz", series))

    assert str(segmentation.FrameOfReferenceUID).startswith("2.25.")
    masks = masks_of(segmentation)
    frames = {
        str(pydicom.dcmread(path).SOPInstanceUID): pydicom.dcmread(path)
        for path in series.glob("IM*.dcm")
    }
    total = sum(int(mask.sum()) for mask in masks.values())
    assert set(masks) < set(frames)
    assert total == (prediction.voxels == 1).sum()
    to_voxels = np.linalg.inv(prediction.affine)
    for uid, mask in masks.items():
        x, y, z = frames[uid].ImagePositionPatient
        k = round(float((to_voxels @ [-x, -y, z, 1])[2]))
        assert np.array_equal(mask.T, prediction.voxels[:, :, k] == 1)


def test_what_it_says_of_itself(tmp_path: Path, rng: np.random.Generator) -> None:
    """Patient and study are those of the scan, and the segment says what it is."""
    series = write_series(tmp_path / "series", "axial", name="MÜLLER^JÜRGEN")
    predict(series, tmp_path / "p.nii.gz", rng)

    segmentation = read_back(
        make_segmentation(
            tmp_path / "p.nii.gz", series, algorithm="FCA-DenseNet", version="2.1"
        )
    )

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


def test_the_same_prediction_is_the_same_object(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Exported twice it has the same bytes; another prediction has other UIDs."""
    series = write_series(tmp_path / "series", "axial")
    prediction = tmp_path / "p.nii.gz"
    predict(series, prediction, rng)
    os.utime(prediction, (1.6e9, 1.6e9))

    first = make_segmentation(prediction, series)
    assert make_segmentation(prediction, series) == first
    predict(series, prediction, rng)
    second = make_segmentation(prediction, series)
    assert read_back(first).SOPInstanceUID != read_back(second).SOPInstanceUID


def test_predictions_without_lesion_are_written(tmp_path: Path) -> None:
    """That no lesion was found is a result, too."""
    series = write_series(tmp_path / "series", "axial")
    scan = read_volume(series)
    voxels = np.zeros(scan.voxels.shape, dtype=np.uint8)
    write_volume(tmp_path / "p.nii.gz", Volume(voxels, scan.affine))

    segmentation = read_back(make_segmentation(tmp_path / "p.nii.gz", series))

    assert not segmentation.pixel_array.any()


def test_other_grids_are_refused(tmp_path: Path) -> None:
    """The cure for a prediction of a prepared image is named."""
    series = write_series(tmp_path / "series", "axial")
    scan = read_volume(series)
    voxels = np.zeros((9, 9, 9), dtype=np.uint8)
    write_volume(tmp_path / "p.nii.gz", Volume(voxels, scan.affine))
    with pytest.raises(ValueError, match=r"p\.nii\.gz[\s\S]*nnunet-cel restore"):
        make_segmentation(tmp_path / "p.nii.gz", series)
    voxels = np.zeros(scan.voxels.shape, dtype=np.uint8)
    write_volume(tmp_path / "p.nii.gz", Volume(voxels, scan.affine + np.eye(4) / 9))
    with pytest.raises(ValueError, match=r"p\.nii\.gz[\s\S]*nnunet-cel restore"):
        make_segmentation(tmp_path / "p.nii.gz", series)


def test_the_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without highdicom the command that installs it is told."""
    monkeypatch.setitem(sys.modules, "highdicom", None)

    with pytest.raises(ImportError, match=r"pip install 'nnunet-cel\[dicom\]'"):
        make_segmentation(tmp_path / "p.nii.gz", tmp_path / "series")


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
