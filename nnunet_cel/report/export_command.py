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
import importlib.metadata
from pathlib import Path

from nnunet_cel import parallel
from nnunet_cel.report.command import add_evaluation, add_output

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    maps = kinds.add_parser("itksnap", help="where predictions agree with references")
    add_evaluation(maps)
    add_output(maps, "DIR", "folder to write")
    seg = kinds.add_parser("dicom-seg", help="a prediction as DICOM segmentation")
    seg.add_argument("prediction", type=Path, metavar="PREDICTION")
    seg.add_argument(
        "--dicom",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with the series that the prediction was made from",
    )
    add_output(seg, "FILE", "file to write, such as lesions.dcm")
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


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from nnunet_cel.report.exports import export_maps, export_segmentation
    from nnunet_cel.report.results import read_results

    if args.kind == "itksnap":
        results = read_results(args.evaluation, args.predictions, args.references)
        each = parallel.mapper(args, "Exporting")
        export_maps(results, args.out, overwrite=args.overwrite, each=each)
    else:
        export_segmentation(
            args.prediction,
            args.dicom,
            args.out,
            label=args.label,
            algorithm=args.algorithm,
            version=args.algorithm_version,
            overwrite=args.overwrite,
        )
    print(f"Wrote {args.out}")
    return 0
