r"""Writes label maps for other programs.

'itksnap' takes a folder that 'nnunet-cel evaluate' wrote. For each case it writes a
label map of true positive, false positive and false negative voxels, and their colors
for ITK-SNAP and 3D Slicer.

    nnunet-cel export itksnap OUT -o maps
    itksnap -g IMAGE -s maps/CASE.nii.gz -l maps/labels.txt

'dicom-seg' writes one prediction as a DICOM segmentation of the series that it was made
from, for the archive of the clinic. It needs: pip install 'nnunet-cel[dicom]'

    nnunet-cel export dicom-seg CASE.nii.gz --dicom SERIES -o lesions.dcm
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import io
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nnunet_cel import parallel
from nnunet_cel.dicom import dicom_files
from nnunet_cel.files import new_folder, sha256, write_whole
from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.report.results import (
    TP,
    LabelMaps,
    add_evaluation,
    read_agreement,
    read_results,
)
from nnunet_cel.volumes import (
    Array,
    Volume,
    read_label_map,
    read_volume,
    same_grid,
    write_volume,
)

__all__ = [
    "add_arguments",
    "itksnap_labels",
    "make_segmentation",
    "run",
    "slicer_colors",
]

_HEADER = """\
# ITK-SnAP Label Description File
# Index, red, green, blue, opacity, shown, shown as mesh, name
    0     0    0    0        0  0  0    "Clear Label"
"""
_KINDS = [
    (value, kind.capitalize(), *bytes.fromhex(color.removeprefix("#")))
    for value, (kind, color) in enumerate(AGREEMENT_COLORS.items(), start=TP)
]
_COLORS = "labels.ctbl"  # the last file of a folder, by which it is known
_LABEL = "Contrast-enhancing lesion"
_SERIES_NUMBER = 1000  # added to that of the scan, to stand behind all scans


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    maps = kinds.add_parser("itksnap", help="where predictions agree with references")
    add_evaluation(maps)
    seg = kinds.add_parser("dicom-seg", help="a prediction as DICOM segmentation")
    seg.add_argument("prediction", type=Path, metavar="PREDICTION")
    seg.add_argument(
        "--dicom",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with the series that the prediction was made from",
    )
    seg.add_argument(
        "--label", type=int, default=1, metavar="N", help="value of lesion voxels"
    )
    seg.add_argument(
        "--algorithm",
        default="nnunet-cel",
        metavar="NAME",
        help="name of the model that predicted (default: %(default)s)",
    )
    seg.add_argument(
        "--algorithm-version",
        default=importlib.metadata.version("nnunet-cel"),
        metavar="TEXT",
        help="its version (default: that of nnunet-cel)",
    )
    for kind, out, text in (
        (maps, "DIR", "folder to write"),
        (seg, "FILE", "file to write, such as lesions.dcm"),
    ):
        kind.add_argument(
            "-o", "--out", type=Path, required=True, metavar=out, help=text
        )
        kind.add_argument(
            "--overwrite", action="store_true", help="replace an earlier one"
        )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if args.kind == "itksnap":
        _write_maps(args)
    else:
        _write_segmentation(args)
    print(f"Wrote {args.out}")
    return 0


def _write_maps(args: argparse.Namespace) -> None:
    """Write the agreement map of every case, and the files that give them color."""
    _, maps = read_results(args.evaluation, args.predictions, args.references)
    if maps is None:
        raise FileNotFoundError(
            "Predictions or references are no longer where they were evaluated. Say "
            "where they are with --predictions and --references."
        )
    with new_folder(
        args.out,
        what="folder of maps",
        mark=_COLORS,
        inputs=[path for case in maps.values() for path in case[1:3]],
        overwrite=args.overwrite,
    ) as folder:
        write = partial(_write_map, folder)
        parallel.mapper(args, "Exporting")(write, maps.values())
        write_whole(folder / "labels.txt", itksnap_labels())
        write_whole(folder / _COLORS, slicer_colors())


def _write_map(folder: Path, maps: LabelMaps) -> None:
    write_volume(folder / f"{maps.case}.nii.gz", read_agreement(maps))


def itksnap_labels() -> str:
    """Return the content of ITK-SNAP's label description file."""
    return _HEADER + "".join(
        f'{value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{name}"\n'
        for value, name, red, green, blue in _KINDS
    )


def slicer_colors() -> str:
    """Return the content of a color table of 3D Slicer."""
    return "0 Background 0 0 0 0\n" + "".join(
        f"{value} {name.replace(' ', '_')} {red} {green} {blue} 255\n"
        for value, name, red, green, blue in _KINDS
    )


def _write_segmentation(args: argparse.Namespace) -> None:
    """Write the DICOM file of a prediction, outside of the series."""
    out, series = args.out, args.dicom
    if out.suffix.lower() != ".dcm" or out.resolve().is_relative_to(series.resolve()):
        raise ValueError(
            "The segmentation must be a file that ends in .dcm, in another folder than "
            f"the series. Got {out} instead: choose another name."
        )
    if out.exists() and not args.overwrite:
        raise FileExistsError(
            f"The file {out} exists and is not replaced without being told so. "
            "Choose another name, or replace it with --overwrite."
        )
    content = make_segmentation(
        args.prediction,
        series,
        label=args.label,
        algorithm=args.algorithm,
        version=args.algorithm_version,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, content)


def make_segmentation(
    prediction: Path, series: Path, *, label: int, algorithm: str, version: str
) -> bytes:
    """Return the DICOM file of a prediction.

    All its identifiers are derived from series, prediction and algorithm, and all dates
    are those of the prediction's file: the same prediction gives the same object, which
    an archive recognizes.

    Args:
        prediction: Label map on the grid of the series, its axes in any order.
        series: Folder with the DICOM series, a file for each slice.
        label: Value of lesion voxels.
        algorithm: Name of the algorithm or model that predicted.
        version: Its version.

    Raises:
        FileNotFoundError: If prediction or folder are missing.
        ImportError: If highdicom is not installed; the message says how to get it.
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
    mask = _on_grid(prediction, scan) == label
    slices = _read_slices(series, scan)
    uid = str(slices[0].SeriesInstanceUID)
    identifier = partial(
        _identifier, uid, sha256(prediction), str(label), algorithm, version
    )
    for source in slices:
        # Some series lack it, and highdicom needs one that all slices share.
        source.setdefault("FrameOfReferenceUID", _identifier(uid, "frame of reference"))
    written = datetime.datetime.fromtimestamp(int(prediction.stat().st_mtime))
    segmentation = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=np.ascontiguousarray(mask.transpose(2, 1, 0)).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(algorithm, version, identifier("tracking"))],
        series_instance_uid=identifier("series"),
        series_number=_SERIES_NUMBER + int(slices[0].get("SeriesNumber") or 0),
        series_description="Contrast-enhancing lesions, automatic",
        sop_instance_uid=identifier("instance"),
        instance_number=1,
        manufacturer="nnunet-cel",
        manufacturer_model_name=algorithm,
        software_versions=version,
        device_serial_number="none",
        content_label="LESIONS",
        content_description="Contrast-enhancing lesions, not reviewed",
        specific_character_set=slices[0].get("SpecificCharacterSet"),
        content_date=written.date(),
        content_time=written.time(),
    )
    _make_repeatable(segmentation, identifier("dimensions"), written)
    stream = io.BytesIO()
    segmentation.save_as(stream)
    return stream.getvalue()


def _make_repeatable(
    segmentation: Any, identifier: str, written: datetime.datetime
) -> None:
    """Replace what highdicom draws at random or takes from the clock."""
    segmentation.InstanceCreationDate = segmentation.ContentDate
    segmentation.InstanceCreationTime = segmentation.ContentTime
    for element in segmentation.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = identifier
        elif element.keyword == "ContributionDateTime":
            element.value = f"{written:%Y%m%d%H%M%S}"


def _describe(algorithm: str, version: str, identifier: str) -> Any:
    """Return what the segmentation says of its one segment."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=_LABEL,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            algorithm, codes.DCM.ArtificialIntelligence, version
        ),
        tracking_uid=identifier,
        tracking_id=_LABEL,
        anatomic_regions=[codes.SCT.Brain],
        display_color=hd.color.CIELabColor.from_rgb(230, 26, 26),
    )


def _identifier(*parts: str) -> str:
    """Return a DICOM identifier that is derived from texts."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(parts)).int}"


def _on_grid(path: Path, scan: Volume) -> Array:
    """Return a prediction with its axes in the order of the scan's."""
    prediction = read_label_map(path)
    image = nib.Nifti1Image(prediction.voxels, prediction.affine)
    axes, wanted = map(
        nib.orientations.io_orientation, (prediction.affine, scan.affine)
    )
    image = image.as_reoriented(nib.orientations.ornt_transform(axes, wanted))
    turned = Volume(np.asarray(image.dataobj), image.affine)
    if not same_grid(turned, scan):
        raise ValueError(
            f"The prediction {path} must be on the grid of the series. Predictions of "
            "prepared images are brought back to it with 'nnunet-cel restore'."
        )
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
