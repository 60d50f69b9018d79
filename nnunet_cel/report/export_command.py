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
from nnunet_cel.report.command import add_places

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    maps = kinds.add_parser("itksnap", help="where predictions agree with references")
    maps.add_argument("evaluation", type=Path, metavar="OUT")
    maps.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="folder to write"
    )
    add_places(maps)
    parallel.add_arguments(maps)
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
        "-o", "--out", type=Path, required=True, metavar="FILE", help="file to write"
    )
    seg.add_argument(
        "--label",
        type=int,
        default=1,
        metavar="N",
        help="value of lesion voxels (default: %(default)s)",
    )
    seg.add_argument(
        "--algorithm",
        default="nnunet-cel",
        metavar="NAME",
        help="name of the model that predicted (default: %(default)s)",
    )
    seg.add_argument(
        "--algorithm-version",
        metavar="TEXT",
        help="its version (default: that of nnunet-cel)",
    )
    for kind in (maps, seg):
        kind.add_argument(
            "--overwrite", action="store_true", help="replace what exists"
        )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if args.kind == "itksnap":
        _export_maps(args)
    else:
        _export_segmentation(args)
    print(f"Wrote {args.out}")
    return 0


def _export_maps(args: argparse.Namespace) -> None:
    """Write the agreement maps of an evaluation."""
    from nnunet_cel.files import new_folder
    from nnunet_cel.report.exports import write_maps
    from nnunet_cel.report.results import find_maps, read_results

    results = read_results(args.evaluation)
    maps = find_maps(results, args.predictions, args.references)
    if maps is None:
        raise FileNotFoundError(
            "Predictions or references are no longer where they were evaluated"
            f"{''.join(f', {path}' for path in results.folders.values())}. Say where "
            "they are with --predictions and --references."
        )
    sources = (args.evaluation, args.predictions, args.references)
    inputs = [path for path in sources if path is not None]
    inputs += [
        path for entry in maps.values() for path in (entry.prediction, entry.reference)
    ]
    with new_folder(
        args.out,
        what="folder of maps",
        mark="labels.ctbl",
        inputs=inputs,
        overwrite=args.overwrite,
    ) as folder:
        write_maps(
            folder,
            maps,
            label=results.summary["label"],
            ignore=results.summary["ignore_label"],
            processes=args.processes,
            description=None if args.no_progress else "Exporting",
        )


def _export_segmentation(args: argparse.Namespace) -> None:
    """Write a DICOM segmentation."""
    from nnunet_cel.files import write_whole
    from nnunet_cel.report.exports import make_segmentation

    if args.out.suffix.lower() != ".dcm":
        raise ValueError(
            f"The segmentation must be a file that ends in .dcm. Got {args.out} "
            "instead: choose another name."
        )
    if args.out.is_dir() or (args.out.exists() and not args.overwrite):
        raise FileExistsError(
            f"The file {args.out} exists and is not replaced without being told so. "
            "Choose another name, or replace it with --overwrite."
        )
    if args.out.resolve().is_relative_to(args.dicom.resolve()):
        raise ValueError(
            "The segmentation must be written to another folder than that of the "
            f"series. Got {args.out}: choose another one."
        )
    version = args.algorithm_version or importlib.metadata.version("nnunet-cel")
    content = make_segmentation(
        args.prediction,
        args.dicom,
        label=args.label,
        algorithm=args.algorithm,
        version=version,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, content)
