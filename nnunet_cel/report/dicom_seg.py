"""Writes a predicted label map as a DICOM segmentation of the series it belongs to.

Words:

- *series*: the DICOM files of one scan, one for each slice.
- *frame*: the lesion mask on one slice of the series.

All identifiers are derived from series, prediction and algorithm, and all dates are
those of the prediction's file: who exports the same prediction twice gets the same
object, which an archive recognizes.
"""

from __future__ import annotations

import datetime
import io
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_cel.dicom import dicom_files
from nnunet_cel.files import sha256
from nnunet_cel.volumes import Volume, check_same_grid, read_label_map, read_volume

__all__ = ["make_segmentation"]

Array = npt.NDArray[Any]

_LABEL = "Contrast-enhancing lesion"
# SNOMED CT: value, name.
_CATEGORY = ("49755003", "Morphologically Abnormal Structure")
_TYPE = ("52988006", "Lesion")
_REGION = ("12738006", "Brain")
_RED = (230, 26, 26)
_SERIES_NUMBER = 1000  # added to that of the scan, to stand behind all scans


def make_segmentation(
    prediction: Path,
    series: Path,
    *,
    label: int = 1,
    algorithm: str = "nnunet-cel",
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
        from pydicom.sr.coding import Code
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
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=_LABEL,
        segmented_property_category=Code(_CATEGORY[0], "SCT", _CATEGORY[1]),
        segmented_property_type=Code(_TYPE[0], "SCT", _TYPE[1]),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm,
            version=version,
            family=Code("123110", "DCM", "Artificial Intelligence"),
        ),
        tracking_uid=identifier("tracking"),
        tracking_id=_LABEL,
        anatomic_regions=[Code(_REGION[0], "SCT", _REGION[1])],
        display_color=hd.color.CIELabColor.from_rgb(*_RED),
    )
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
