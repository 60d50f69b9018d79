"""Brings label maps from prepared images back to the original images.

PRED is a label map, or a folder of them such as nnUNetv2_predict writes. ORIGINAL is
the original image (NIfTI, NRRD, MetaImage or a folder with a DICOM series), or the JSON
file in `transforms` that `nnunet-cel prepare` wrote. For a folder of label maps it is a
folder of images, or the one that `nnunet-cel prepare` wrote. Names must be the same.

Cases of `nnunet-cel convert cel` have other names than the scans; its linking table
tells which is which.

    nnunet-cel restore predictions prepared -o restored
    nnunet-cel restore predictions prepared -o restored --linking-table TABLE.csv
    nnunet-cel restore predictions/CASE.nii.gz scans/CASE.nii.gz
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_cel.files import (
    new_folder,
    read_json,
    read_table,
    sha256,
    to_json,
    write_whole,
)
from nnunet_cel.resampling import Grid, grid_of, resample_image, resample_labels
from nnunet_cel.scans import find_images, is_single, refuse
from nnunet_cel.volumes import (
    Volume,
    read_label_map,
    read_volume,
    split_ending,
    write_volume,
)

__all__ = ["add_arguments", "read_grids", "run"]

_MARK = "restoration.json"  # by which a folder of restored label maps is known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "prediction", type=Path, metavar="PRED", help="label map, or folder of them"
    )
    parser.add_argument(
        "original",
        type=Path,
        metavar="ORIGINAL",
        help="original image or transform, or folder of images",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="OUT",
        help="file or folder to write (default for a file: PRED_restored.nii.gz beside "
        "it)",
    )
    parser.add_argument(
        "--linking-table",
        type=Path,
        metavar="FILE",
        help="table of `nnunet-cel convert cel`, for label maps named CEL_001 etc.",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    predictions = find_images(args.prediction)
    if args.linking_table is not None:
        predictions = _scans_of_cases(predictions, args.linking_table)
    originals = _find_originals(args.original)
    alone = is_single(args.prediction)
    if alone and is_single(args.original):  # whatever their names are
        originals = dict(zip(predictions, originals.values(), strict=True))
    refuse(
        [path for name, path in predictions.items() if name not in originals],
        f"Each label map must have an original of the same name in {args.original}. "
        "Got none for",
        f"There are originals for {', '.join([*originals][:5])}.",
    )
    if alone:
        ((name, path),) = predictions.items()
        out = args.out or path.with_name(f"{split_ending(path)[0]}_restored.nii.gz")
        read = [os.path.realpath(file) for file in (path, originals[name])]
        if (
            not out.name.endswith((".nii.gz", ".nii"))
            or os.path.realpath(out) in read
            or (out.exists() and not args.overwrite)
        ):
            raise ValueError(
                "The restored label map must be a new file (or --overwrite) that ends "
                f"in .nii.gz or .nii, and none that is read. Got {out} instead."
            )
        restored = _restored(path, originals[name])
        write_volume(out, restored)
        print(f"Restored 1 label map to {out}")
        return 0
    if args.out is None:
        raise ValueError(
            "Where the restored label maps go must be said if there is a folder of "
            "them: add -o OUT."
        )
    with new_folder(
        args.out,
        what="restoration",
        mark=_MARK,
        inputs=[args.prediction, args.original],
        overwrite=args.overwrite,
    ) as folder:
        for name, path in tqdm(predictions.items(), "Restoring", unit="case"):
            restored = _restored(path, originals[name])
            write_volume(folder / f"{name}.nii.gz", restored)
        record = {name: {"sha256": sha256(path)} for name, path in predictions.items()}
        write_whole(folder / _MARK, to_json({"predictions": record}))
    count = len(predictions)
    print(f"Restored {count} label map{'s' * (count > 1)} to {args.out}")
    return 0


def _scans_of_cases(predictions: dict[str, Path], table: Path) -> dict[str, Path]:
    """Return the label maps by the names of the scans."""
    rows = read_table(table, required=("source",))
    scans = {row.get("case", ""): row["source"] for row in rows}
    unknown = sorted(set(predictions) - set(scans))
    if unknown:
        raise ValueError(
            f"The linking table {table} must name each case. Got no line for "
            f"{', '.join(unknown[:5])}: is it that of another data set?"
        )
    return {scans[name]: path for name, path in predictions.items()}


def _find_originals(path: Path) -> dict[str, Path]:
    """Return original images or transforms by the names of their cases."""
    if path.suffix == ".json":
        return {path.stem: path}
    folder = path if path.name == "transforms" else path / "transforms"
    records = sorted(folder.glob("[!.]*.json"))
    return {record.stem: record for record in records} or find_images(path)


def read_grids(path: Path) -> tuple[Grid, Grid]:
    """Return the grids of the original and the prepared image from a transform.

    Raises:
        ValueError: If the file is none that `nnunet-cel prepare` wrote.
    """
    try:
        content = read_json(path)
        grids = []
        for key in ("original", "prepared"):
            x, y, z = map(int, content[key]["shape"])
            affine = np.array(content[key]["affine"], dtype=float).reshape(4, 4)
            grids.append(Grid((x, y, z), affine))
        return grids[0], grids[1]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"The file {path} must be a transform that nnunet-cel prepare wrote. It "
            "has no grids of the images: name the original image itself."
        ) from error


def _restored(prediction: Path, original: Path) -> Volume:
    """Return a label map on the grid of its original."""
    label = read_label_map(prediction)
    own = grid_of(label)
    if original.suffix == ".json":
        grid, prepared = read_grids(original)
        if own.shape != prepared.shape or not np.allclose(
            own.affine, prepared.affine, atol=1e-3, rtol=0
        ):
            raise ValueError(
                f"The label map {prediction} must be on the grid of the prepared image "
                f"of {original}, with the shape {prepared.shape}. Got {own.shape}, or "
                "another affine: it is of another image or patient."
            )
    else:
        grid = grid_of(read_volume(original))
    everywhere = Volume(np.ones(own.shape, np.float32), own.affine)
    if not resample_image(everywhere, grid).voxels.any():
        raise ValueError(
            f"The label map {prediction} must lie where its original {original} lies. "
            "They have no part of the world in common: is it the right one?"
        )
    return resample_labels(label, grid)
