"""Prepares images of heads for training and prediction.

For each image the brain is found, on request the bias field is corrected (N4) and noise
removed, the rest is set to 0, and the image is cropped to the brain and resampled to
voxels of 1 mm. OUT gets

    images/CASE_0000.nii.gz   the prepared image
    labels/CASE.nii.gz        its label map, with --labels
    masks/CASE.nii.gz         the brain mask, on the grid of the original image
    qc/CASE.png               a picture to check the brain mask
    transforms/CASE.json      what `nnunet-cel restore` needs to bring predictions back
    preparation.json          settings, versions, brain volumes and warnings
    cases.csv                 subject, files and diagnosis, if IN tells the subjects

IN is one of

- a table (CSV) with the columns subject,image,label and, if known, session,diagnosis,
  a BIDS data set, or a folder with two patterns, as for `nnunet-cel convert cel`, which
  goes on with OUT/cases.csv;
- an image (NIfTI, NRRD, MetaImage), a folder with a DICOM series, or a folder of
  these. A case is named after its file or series folder, with the names of the folders
  between IN and it in front.

    nnunet-cel prepare cases.csv prepared --n4
    nnunet-cel prepare clinic prepared --images '{subject}/T1.nii' --labels '*/les.nii'
    nnunet-cel prepare scans prepared --labels outlines --brain-mask masks
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_cel import parallel
from nnunet_cel.files import new_folder, sha256, to_csv, to_json, write_whole
from nnunet_cel.preparation.brain_extraction import (
    add_brain_arguments,
    brain_extraction,
)
from nnunet_cel.preparation.picture import draw_picture
from nnunet_cel.preparation.pipeline import MARGIN, Settings, prepare_volume
from nnunet_cel.scans import (
    PREPARED,
    Scan,
    find_described_scans,
    find_images,
    is_bids,
    is_single,
    refuse,
)
from nnunet_cel.volumes import (
    Volume,
    check_same_grid,
    read_label_map,
    read_volume,
    write_volume,
)

__all__ = ["add_arguments", "run"]

_USEFUL = ("diagnosis", "split")  # what `nnunet-cel convert cel` reads


class _Case(NamedTuple):
    """One image on its way, and the file of its label map if there is one."""

    name: str
    image: Path
    label: Path | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help="table of scans, BIDS data set, image, DICOM folder, or folder of these",
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--images",
        metavar="PATTERN",
        help="where the images are, below IN, with {subject} for the patient and, if "
        "need be, {session} for the visit",
    )
    parser.add_argument(
        "--labels",
        metavar="DIR|PATTERN",
        help="label maps on the grids of the images, to be carried along: a folder "
        "with files named like the images or, with --images, a pattern",
    )
    add_brain_arguments(parser)
    parser.add_argument("--n4", action="store_true", help="correct the bias field")
    parser.add_argument(
        "--denoise", action="store_true", help="remove noise by non-local means"
    )
    spacing = parser.add_mutually_exclusive_group()
    spacing.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        default=[1.0, 1.0, 1.0],
        metavar=("X", "Y", "Z"),
        help="mm between voxels from left to right, back to front, foot to head "
        "(default: 1 1 1)",
    )
    spacing.add_argument(
        "--keep-spacing", action="store_true", help="crop, but do not resample"
    )
    parallel.add_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    spacing = None if args.keep_spacing else args.spacing
    settings = Settings(brain_extraction(args), args.n4, args.denoise, spacing)
    source, labels = args.source, args.labels
    scans: list[Scan] = []
    if args.images or source.suffix.lower() in (".csv", ".tsv") or is_bids(source):
        scans = find_described_scans(source, args.images, labels, labeled=False)
        cases = [_Case(scan.name, scan.image, scan.label) for scan in scans]
    else:
        cases = _find_cases(source, None if labels is None else Path(labels))
    paths = [path for case in cases for path in (case.image, case.label)]
    with new_folder(
        args.folder,
        what="preparation",
        mark=PREPARED,
        inputs=filter(None, [source, *paths, settings.extraction.mask_folder]),
        overwrite=args.overwrite,
    ) as folder:
        parallel.mapper(args, "Checking")(partial(_check, settings), cases)
        for part in ("images", "labels", "masks", "qc", "transforms"):
            if part != "labels" or any(case.label for case in cases):
                (folder / part).mkdir()
        prepare = partial(_prepare_case, folder, settings)
        records = parallel.mapper(args, "Preparing")(prepare, cases)
        by_case = dict(zip([case.name for case in cases], records, strict=True))
        content = {**_circumstances(settings), "cases": by_case}
        write_whole(folder / PREPARED, to_json(content))
        if scans:
            table = _scan_table(scans, labeled=cases[0].label is not None)
            write_whole(folder / "cases.csv", table)
    for name, record in by_case.items():
        for warning in record["warnings"]:
            print(f"Warning: {name}: {warning}")
    print(f"Prepared {len(cases)} case{'s' * (len(cases) > 1)} in {args.folder}")
    print(f"Look at the pictures in {args.folder / 'qc'} before you use the images.")
    return 0


def _scan_table(scans: Sequence[Scan], *, labeled: bool) -> str:
    """Return the CSV table of prepared scans, for `nnunet-cel convert cel`."""
    # Other columns may say more about a patient than anybody needs.
    useful = [name for name in _USEFUL if any(scan.row.get(name) for scan in scans)]
    rows = [["subject", "session", *("image", "label")[: 1 + labeled], *useful]]
    for scan in scans:
        files = [f"images/{scan.name}_0000.nii.gz", f"labels/{scan.name}.nii.gz"]
        del files[1 + labeled :]
        rest = [scan.row.get(column, "") for column in useful]
        rows.append([scan.subject, scan.session, *files, *rest])
    return to_csv(rows)


def _find_cases(source: Path, labels: Path | None) -> list[_Case]:
    """Return the images with their label maps, in the order of their names."""
    images = find_images(source)
    if labels is None:
        return [_Case(name, path) for name, path in images.items()]
    found = find_images(labels)
    if is_single(source) and is_single(labels):  # whatever their names are
        found = dict(zip(images, found.values(), strict=True))
    refuse(
        [path for name, path in images.items() if name not in found],
        f"Each image must have a label map of the same name in {labels}. Got none for",
        "Add an empty one for an image without lesion, or mend its name.",
    )
    return [_Case(name, path, found[name]) for name, path in images.items()]


def _check(settings: Settings, case: _Case) -> None:
    """Refuse what is wrong with a case, before the slow work."""
    image, _ = _read(case)
    if settings.extraction.method == "mask":
        settings.extraction.mask([case.name], image)


def _read(case: _Case) -> tuple[Volume, Volume | None]:
    """Return image and label map of a case."""
    image = read_volume(case.image)
    if case.label is None:
        return image, None
    label = read_label_map(case.label)
    check_same_grid(f"The label map {case.label}", label, image)
    return image, Volume(label.voxels, image.affine)


def _prepare_case(folder: Path, settings: Settings, case: _Case) -> dict[str, Any]:
    """Write all files of a case, and return what `preparation.json` says about it."""
    image, label = _read(case)
    prepared = prepare_volume(case.name, image, settings, label)
    write_volume(folder / "images" / f"{case.name}_0000.nii.gz", prepared.image)
    mask = Volume(prepared.mask, image.affine)
    write_volume(folder / "masks" / f"{case.name}.nii.gz", mask)
    if prepared.label is not None:
        write_volume(folder / "labels" / f"{case.name}.nii.gz", prepared.label)
    picture = draw_picture(case.name, image, label, prepared)
    write_whole(folder / "qc" / f"{case.name}.png", picture)
    digest = sha256(case.image)
    record = {
        "case": case.name,
        "source_sha256": digest,
        "original": _as_json(image),
        "crop": {
            "first": [part.start for part in prepared.box],
            "stop": [part.stop for part in prepared.box],
        },
        "prepared": _as_json(prepared.image),
        **_circumstances(settings),
    }
    write_whole(folder / "transforms" / f"{case.name}.json", to_json(record))
    return {
        "source_sha256": digest,
        "brain_volume_ml": round(prepared.brain_volume, 1),
        "warnings": prepared.warnings,
    }


def _as_json(volume: Volume) -> dict[str, Any]:
    """Return what a transform says of the grid of a volume."""
    return {"shape": list(volume.voxels.shape), "affine": volume.affine.tolist()}


def _circumstances(settings: Settings) -> dict[str, Any]:
    """Return settings, without paths, and versions of all that voxels depend on."""
    packages = ("nnunet-cel", "nibabel", "numpy", "SimpleITK", "scikit-image")
    return {
        "settings": {
            "brain_extraction": settings.extraction.method,
            "n4": settings.n4,
            "denoise": settings.denoise,
            "spacing_mm": settings.spacing,
            "margin_mm": MARGIN,
        },
        "versions": settings.extraction.versions(*packages),
    }
