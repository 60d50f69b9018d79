"""Turns source cases into a raw data set that is not yet at its place.

1. :func:`store_cases` reads every image and label map once, removes skulls where there
   are any, and writes the cases to a new folder under numbers. At the end it raises one
   error that names every bad file.
2. :func:`finish_dataset` gives the cases their names, and writes all that a data set
   holds beside them: ``dataset.json``, folds and ``conversion.json``.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import cc3d
import numpy as np

from nnunet_cel.dataset_conversion.raw_dataset import (
    rename_case,
    write_case,
    write_header,
)
from nnunet_cel.dataset_conversion.source import SourceCase, Terms
from nnunet_cel.dataset_conversion.splits import split_into_folds
from nnunet_cel.files import sha256, to_json, write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.volumes import (
    Volume,
    check_same_grid,
    read_label_map,
    read_volume,
)

__all__ = ["Finding", "Kept", "finish_dataset", "read_case", "store_cases"]

LESION = 1
_CONNECTIVITY = 26  # voxels that touch at a corner belong to one lesion


@dataclass(frozen=True)
class Finding:
    """What is known about a source case after reading it.

    Args:
        number: Under this number it is stored.
        files: SHA-256 of each file, by its path.
        notes: What else ``conversion.json`` tells.
        excluded: Why the case is left out, empty if it is not.
    """

    number: int
    files: Mapping[Path, str]
    notes: Mapping[str, Any] = field(default_factory=dict)
    excluded: str = ""


Kept: TypeAlias = tuple[SourceCase, Finding]
"""A case that is part of the data set, and what was found."""


def read_case(case: SourceCase) -> tuple[Volume, Volume]:
    """Return image and label map of a case, with the labels of the data set.

    Raises:
        ValueError: If a file cannot be read, a label map is not on the grid of the
            image, or it has a value that its source does not know.
    """
    image = read_volume(case.image)
    table = np.zeros(256, dtype=np.uint8)
    table[list(case.values)] = list(case.values.values())
    marked = []
    for file in case.labels:
        label = read_label_map(file)
        check_same_grid(f"The label map {file}", label, image)
        strange = sorted({*np.unique(label.voxels).tolist()} - {*case.values})
        if strange:
            raise ValueError(
                f"The label map {file} must have no values but "
                f"{', '.join(map(str, case.values))}. Got "
                f"{', '.join(map(str, strange))} too: {case.other_values_cure}"
            )
        marked.append(table[label.voxels])
    combine = np.maximum if case.combine == "union" else np.minimum
    return image, Volume(combine.reduce(marked), image.affine)


def store_cases(
    folder: Path,
    cases: Sequence[SourceCase],
    extraction: BrainExtraction,
    try_all: Callable[..., list[Finding]] = try_cases,
) -> tuple[list[Kept], dict[str, str]]:
    """Read, check and write all cases, and return those that stay.

    Args:
        folder: The folder of the data set while it grows.
        cases: The cases.
        extraction: How brains are extracted from images that have a skull.
        try_all: Works on the cases, as :func:`~nnunet_cel.parallel.try_cases` does.

    Returns:
        The cases in the data set, and the reason for each that is left out.

    Raises:
        ValueError: If anything is wrong with any of them; the message names all of it.
            Or if none stays.
    """
    findings = try_all(partial(_store, folder, extraction), list(enumerate(cases)))
    pairs = list(zip(cases, findings, strict=True))
    first: dict[str, SourceCase] = {}
    for case, found in pairs:
        other = first.setdefault(found.files[case.image], case)
        if other is not case:
            raise ValueError(
                f"Each case must have an image of its own. {case.image} of "
                f"{case.identifier} and {other.image} of {other.identifier} are the "
                "same: remove one, or it would be in training and validation."
            )
    kept = [(case, found) for case, found in pairs if not found.excluded]
    if not kept:
        raise ValueError(
            f"At least one case must have a lesion. None of the {len(cases)} has: "
            "check that the label maps are the right files."
        )
    return kept, {c.identifier: found.excluded for c, found in pairs if found.excluded}


def finish_dataset(
    folder: Path,
    kept: Sequence[Kept],
    *,
    name: str,
    choices: Mapping[str, Any],
    excluded: Mapping[str, str] | Collection[str],
    terms: Sequence[Terms],
    extraction: BrainExtraction,
) -> None:
    """Name the stored cases, and write all that a data set holds beside them.

    Without terms of use the scans are no public source but a clinic's own, and no path
    is recorded, which may hold patients' names.

    Args:
        folder: The folder of the data set while it grows.
        kept: Cases with their final names, and what was found.
        name: Name of the data set.
        choices: Options that decided about the contents, the seed of the folds too.
        excluded: Names of the cases that were left out, with the reason.
        terms: Terms of use of public sources, if there are any.
        extraction: How brains were extracted.

    Raises:
        ValueError: If two cases have the same name, or none is for training.
    """
    for case, found in kept:
        rename_case(folder, str(found.number), case.identifier, case.split)
    labels = {"background": 0, "lesion": LESION}
    if any(max(case.values.values()) > LESION for case, _ in kept):
        labels["ignore"] = LESION + 1
    channel, what = "CE-T1w", "Contrast-enhanced T1w images with enhancing lesions"
    origin: dict[str, Any] = {}
    if terms:
        channel = terms[0].channel
        names = ", ".join(term.name for term in terms)
        what = f"{channel} images with white matter lesions from {names}"
        origin = {
            "reference": "; ".join(term.reference for term in terms),
            "release": "; ".join(f"{term.name}: {term.release}" for term in terms),
            "licence": "; ".join(f"{term.name}: {term.license}" for term in terms),
            "citation": [citation for term in terms for citation in term.citations],
        }
    write_header(folder, channel, labels, {"name": name, "description": what, **origin})
    training = [case for case, _ in kept if case.split == "train"]
    folds = split_into_folds(training, choices["seed"])
    if folds is not None:
        write_whole(folder / "splits_final.json", to_json(folds))
    notes = {}
    for case, found in sorted(kept, key=lambda pair: pair[0].identifier):
        files = [
            ({"path": path.relative_to(case.root).as_posix()} if terms else {})
            | {"sha256": digest}
            for path, digest in found.files.items()
        ]
        note = {"source": case.source, "files": files, **found.notes}
        notes[case.identifier] = note | {"split": case.split}
    packages = ("nibabel", "numpy", "SimpleITK")
    record = {
        "converter": f"nnunet-cel {importlib.metadata.version('nnunet-cel')}",
        "versions": extraction.versions(*packages),
        "choices": choices,
        "excluded": excluded,
        "cases": notes,
    }
    write_whole(folder / "conversion.json", to_json(record))


def _store(
    folder: Path, extraction: BrainExtraction, numbered: tuple[int, SourceCase]
) -> Finding:
    """Write a case, and return what was found."""
    number, case = numbered
    image, label = read_case(case)
    lesion = label.voxels == LESION
    lacking = _lacks_lesion(case, lesion)
    notes: dict[str, Any] = {
        "lesion_voxels": int(lesion.sum()),
        "lesion_volume_ml": round(lesion.sum() * image.voxel_volume / 1000, 6),
        **case.facts,
    }
    paths = [case.image, *case.labels]
    if case.strip_on is not None:
        paths.append(case.strip_on)
        guide = read_volume(case.strip_on)
        check_same_grid(f"The image {case.strip_on}", guide, image)
        brain = extraction.mask((case.identifier, *case.mask_names), guide)
        outside = int((lesion & ~brain).sum())
        # A lesion at the rim of the mask keeps the intensities that make it one.
        brain = brain | lesion
        volume = float(brain.sum()) * image.voxel_volume / 1e3
        notes["brain_volume_ml"] = round(volume)
        notes["lesion_voxels_outside_brain_mask"] = outside
        image = Volume(np.where(brain, image.voxels, 0), image.affine)
    wrong = int((~np.isfinite(image.voxels)).sum())
    if wrong:
        raise ValueError(
            f"The image {case.image} must have finite voxels. Got {wrong} that are "
            "NaN or infinite: replace them, or remove the skull if they lie "
            "outside the brain."
        )
    files = {path: sha256(path) for path in paths}
    if not lacking:
        write_case(folder, str(number), image, label)
    return Finding(number, files, notes, excluded=lacking)


def _lacks_lesion(case: SourceCase, lesion: np.ndarray) -> str:
    """Return why a case is left out, empty if it stays.

    Raises:
        ValueError: If it must have a lesion.
    """
    # cc3d fails on some booleans, never on bytes.
    lesions = cc3d.connected_components(
        lesion.view(np.uint8), connectivity=_CONNECTIVITY
    )
    largest = cc3d.statistics(lesions)["voxel_counts"][1:].max(initial=0)
    if largest >= case.min_lesion_voxels or case.without_lesion == "keep":
        return ""
    lacking = "no lesion"
    if case.min_lesion_voxels > 1:
        lacking += f" of {case.min_lesion_voxels} voxels or more"
    if case.without_lesion == "refuse":
        raise ValueError(
            f"The label map {' or '.join(map(str, case.labels))} must hold a "
            f"lesion. It has {lacking}: is it the right file?"
        )
    return lacking
