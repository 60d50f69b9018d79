"""Writes label maps for other programs.

Agreement maps open in color in ITK-SNAP and 3D Slicer. Beside one label map for each
case there are ``labels.txt``, ITK-SNAP's label descriptions, and ``labels.ctbl``, the
same as a color table of 3D Slicer.

A DICOM segmentation belongs to the *series* that was predicted, the DICOM files of one
scan, one for each slice. All its identifiers are derived from series, prediction and
algorithm, and all dates are those of the prediction's file: who exports the same
prediction twice gets the same object, which an archive recognizes.
"""

from __future__ import annotations

import datetime
import io
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_cel.dicom import dicom_files
from nnunet_cel.files import sha256, write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.pictures import AGREEMENT_COLORS, AGREEMENT_NAMES
from nnunet_cel.report.results import TP, LabelMaps, read_agreement
from nnunet_cel.volumes import (
    Volume,
    check_same_grid,
    read_label_map,
    read_volume,
    write_volume,
)

__all__ = ["itksnap_labels", "make_segmentation", "slicer_colors", "write_maps"]

Array = npt.NDArray[Any]

_HEADER = """\
# ITK-SnAP Label Description File
# Index, red, green, blue, opacity, shown, shown as mesh, name
    0     0    0    0        0  0  0    "Clear Label"
"""
_KINDS = [
    (value, AGREEMENT_NAMES[kind], *bytes.fromhex(color.removeprefix("#")))
    for value, (kind, color) in enumerate(AGREEMENT_COLORS.items(), start=TP)
]
_LABEL = "Contrast-enhancing lesion"
# SNOMED CT: value, name.
_CATEGORY = ("49755003", "Morphologically Abnormal Structure")
_TYPE = ("52988006", "Lesion")
_REGION = ("12738006", "Brain")
_RED = (230, 26, 26)
_SERIES_NUMBER = 1000  # added to that of the scan, to stand behind all scans


def itksnap_labels() -> str:
    """Return the content of ITK-SNAP's label description file."""
    return _HEADER + "".join(
        f"{value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "
        f'"{name.capitalize()}"\n'
        for value, name, red, green, blue in _KINDS
    )


def slicer_colors() -> str:
    """Return the content of a color table of 3D Slicer."""
    return "0 Background 0 0 0 0\n" + "".join(
        f"{value} {name.capitalize().replace(' ', '_')} {red} {green} {blue} 255\n"
        for value, name, red, green, blue in _KINDS
    )


def write_maps(
    folder: Path,
    maps: Mapping[str, LabelMaps],
    *,
    label: int,
    ignore: int | None,
    processes: int = 1,
    description: str | None = None,
) -> None:
    """Write the agreement map of every case, and the files that give them color.

    Args:
        folder: Folder to write to, which exists.
        maps: The label maps of each case.
        label: Value of lesion voxels.
        ignore: Value of reference voxels that are left out.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Raises:
        ValueError: If label maps were changed since they were evaluated, or cannot be
            read; the message lists all of them.
    """
    try_cases(
        partial(_write_map, folder, label, ignore),
        maps.values(),
        processes=processes,
        description=description,
    )
    write_whole(folder / "labels.txt", itksnap_labels())
    write_whole(folder / "labels.ctbl", slicer_colors())


def _write_map(folder: Path, label: int, ignore: int | None, maps: LabelMaps) -> None:
    """Write the agreement map of a case."""
    volume = read_agreement(maps, label=label, ignore=ignore)
    write_volume(folder / f"{maps.case}.nii.gz", volume)


def make_segmentation(
    prediction: Path,
    series: Path,
    *,
    label: int,
    algorithm: str,
    version: str,
) -> bytes:
    """Return the DICOM file of a prediction.

    Args:
        prediction: Label map on the grid of the series; the order of its axes does not
            matter.
        series: Folder with the DICOM series.
        label: Value of lesion voxels.
        algorithm: Name of the algorithm or model that predicted.
        version: Its version.

    Raises:
        ImportError: If highdicom is not installed; the message says how to get it.
        FileNotFoundError: If prediction or folder are missing.
        ValueError: If the folder does not hold exactly one series of single slices, or
            the prediction is not on its grid.
    """
    try:
        import highdicom as hd
    except ImportError as error:
        raise ImportError(
            "DICOM segmentations need the package highdicom. Install it with: "
            "pip install 'nnunet-cel[dicom]'"
        ) from error

    scan = read_volume(series)
    mask = _on_grid(prediction, read_label_map(prediction), scan) == label
    slices = _read_slices(series, scan)
    first = slices[0]
    uid = str(first.SeriesInstanceUID)
    identifier = partial(
        _identifier, uid, sha256(prediction), str(label), algorithm, version
    )
    for source in slices:
        if "FrameOfReferenceUID" not in source:
            # Some series lack it, and highdicom needs one that all slices share.
            source.FrameOfReferenceUID = _identifier(uid, "frame of reference")
    segment = _describe_segment(algorithm, version, identifier("tracking"))
    written = datetime.datetime.fromtimestamp(int(prediction.stat().st_mtime))
    segmentation = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=np.ascontiguousarray(mask.transpose(2, 1, 0)).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=identifier("series"),
        series_number=_SERIES_NUMBER + int(first.get("SeriesNumber") or 0),
        series_description="Contrast-enhancing lesions, automatic",
        sop_instance_uid=identifier("instance"),
        instance_number=1,
        manufacturer="nnunet-cel",
        manufacturer_model_name=algorithm,
        software_versions=version,
        device_serial_number="none",
        content_label="LESIONS",
        content_description="Contrast-enhancing lesions, not reviewed",
        specific_character_set=first.get("SpecificCharacterSet"),
        content_date=written.date(),
        content_time=written.time(),
    )
    segmentation.InstanceCreationDate = segmentation.ContentDate
    segmentation.InstanceCreationTime = segmentation.ContentTime
    for element in segmentation.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = identifier("dimensions")
        elif element.keyword == "ContributionDateTime":
            element.value = f"{written:%Y%m%d%H%M%S}"
    stream = io.BytesIO()
    segmentation.save_as(stream)
    return stream.getvalue()


def _describe_segment(algorithm: str, version: str, identifier: str) -> Any:
    """Return what the segmentation says of its one segment."""
    import highdicom as hd
    from pydicom.sr.coding import Code

    category, kind, region = (
        Code(value, "SCT", name) for value, name in (_CATEGORY, _TYPE, _REGION)
    )
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=_LABEL,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm,
            version=version,
            family=Code("123110", "DCM", "Artificial Intelligence"),
        ),
        tracking_uid=identifier,
        tracking_id=_LABEL,
        anatomic_regions=[region],
        display_color=hd.color.CIELabColor.from_rgb(*_RED),
    )


def _identifier(*parts: str) -> str:
    """Return a DICOM identifier that is derived from texts."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(parts)).int}"


def _on_grid(path: Path, prediction: Volume, scan: Volume) -> Array:
    """Return the prediction with its axes in the order of the scan's."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(prediction.affine),
        nib.orientations.io_orientation(scan.affine),
    )
    turned = Volume(
        nib.orientations.apply_orientation(prediction.voxels, turn),
        prediction.affine
        @ nib.orientations.inv_ornt_aff(turn, prediction.voxels.shape),
    )
    try:
        check_same_grid(f"The prediction {path}", turned, scan)
    except ValueError as error:
        raise ValueError(
            f"{error} Predictions of prepared images are brought back to the scan with "
            "'nnunet-cel restore'."
        ) from error
    return turned.voxels


def _read_slices(folder: Path, scan: Volume) -> list[Any]:
    """Return the slices of a series in the order of the scan's third axis."""
    import pydicom

    upward = np.linalg.inv(scan.affine)[2]

    def height(dataset: Any) -> float:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        return float(upward @ [-x, -y, z, 1])  # DICOM counts to the left and back

    # Reading the scan has shown that its slices are complete and equally far apart.
    slices = [pydicom.dcmread(path, force=True) for path in dicom_files(folder)]
    if len(slices) != scan.voxels.shape[2]:
        raise ValueError(
            f"The folder {folder} must have a DICOM file for each of the "
            f"{scan.voxels.shape[2]} slices. Got {len(slices)} that end in .dcm or "
            "begin as DICOM files do: rename the others."
        )
    return sorted(slices, key=height)
