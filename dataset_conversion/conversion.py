"""Turns source cases into a raw data set: checks all of them first, then writes.

1. :func:`inspect_cases` reads every image and label map, and raises one error that
   names everything that is wrong, before anything is written.
2. :func:`select_cases` leaves out cases without lesion where the source allows it.
3. :func:`write_cases` removes skulls where there are any, and writes the data set with
   folds and ``conversion.json``.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cc3d
import numpy as np

from nnunet_cel.dataset_conversion.raw_dataset import RawCase, write_raw_dataset
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.dataset_conversion.splits import split_into_folds
from nnunet_cel.dataset_conversion.terms import Terms
from nnunet_cel.files import sha256
from nnunet_cel.parallel import map_cases
from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.volumes import (
    Volume,
    check_same_grid,
    read_label_map,
    read_volume,
)

__all__ = [
    "Inspection",
    "inspect_cases",
    "read_case",
    "select_cases",
    "write_cases",
]

LESION = 1
_CONNECTIVITY = 26  # voxels that touch at a corner belong to one lesion


@dataclass(frozen=True)
class Inspection:
    """What is known about a source case after reading it once.

    Args:
        files: SHA-256 of each file, by its path.
        lesion_voxels: Number of lesion voxels.
        largest_lesion: Number of voxels of the largest lesion.
        lesion_volume: Volume of all lesions in ml.
        problem: What is wrong with the case, None if nothing is.
    """

    files: Mapping[Path, str]
    lesion_voxels: int = 0
    largest_lesion: int = 0
    lesion_volume: float = 0.0
    problem: str | None = None


def read_case(case: SourceCase) -> tuple[Volume, Volume]:
    """Return image and label map of a case, with the labels of the data set.

    Raises:
        ValueError: If a file cannot be read, a label map is not on the grid of the
            image, or it has a value that its source does not know.
    """
    image = read_volume(case.image)
    marked = []
    for file in case.labels:
        label = read_label_map(file)
        check_same_grid(f"The label map {file}", label, image)
        values = np.unique(label.voxels).tolist()
        strange = [str(value) for value in values if value not in case.values]
        if strange:
            raise ValueError(
                f"The label map {file} must have no values but "
                f"{', '.join(map(str, case.values))}. Got {', '.join(strange)} too: "
                f"{case.other_values_cure}"
            )
        table = np.zeros(256, dtype=np.uint8)
        table[list(case.values)] = list(case.values.values())
        marked.append(table[label.voxels])
    combine = np.maximum if case.combine == "union" else np.minimum
    return image, Volume(combine.reduce(marked), image.affine)


def inspect_cases(
    cases: Sequence[SourceCase],
    *,
    extraction: BrainExtraction | None = None,
    processes: int = 1,
    progress: bool = False,
) -> list[Inspection]:
    """Read all cases and return what is found.

    Args:
        cases: The cases.
        extraction: How brains are extracted; the user's own masks are read, too.
        processes: Number of processes.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If anything is wrong with any of them; the message has a line for
            each.
    """
    own_masks = extraction if extraction and extraction.method == "mask" else None
    inspections = map_cases(
        partial(_inspect, own_masks),
        cases,
        processes=processes,
        description="Checking" if progress else None,
    )
    problems = [found.problem for found in inspections if found.problem]
    problems += _same_images(cases, inspections)
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(cases)} cases cannot be converted. Nothing was "
            "written.\n" + "\n".join(problems)
        )
    return inspections


def select_cases(
    cases: Sequence[SourceCase], inspections: Sequence[Inspection]
) -> tuple[list[tuple[SourceCase, Inspection]], dict[str, str]]:
    """Return the cases that stay, and the reason for each that does not.

    Raises:
        ValueError: If none stays.
    """
    kept, excluded = [], {}
    for case, found in zip(cases, inspections, strict=True):
        lacks_lesion = found.largest_lesion < case.min_lesion_voxels
        if lacks_lesion and case.without_lesion == "exclude":
            excluded[case.identifier] = _without_lesion(case)
        else:
            kept.append((case, found))
    if not kept:
        raise ValueError(
            f"At least one case must have a lesion. None of the {len(cases)} has: "
            "check that the label maps are the right files."
        )
    return kept, excluded


def write_cases(
    folder: Path,
    selected: Sequence[tuple[SourceCase, Inspection]],
    *,
    channel: str,
    terms: Sequence[Terms] = (),
    description: str,
    choices: Mapping[str, Any],
    excluded: Mapping[str, str] | Collection[str],
    extraction: BrainExtraction | None = None,
    inputs: Iterable[Path] = (),
    name_sources: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> Path:
    """Write a data set of cases that were inspected.

    Args:
        folder: Folder of the data set, for example ``nnUNet_raw/Dataset501_WMH``.
        selected: Cases, and what was found when they were inspected.
        channel: Name of the image's channel.
        terms: Terms of use of the sources.
        description: One line for ``dataset.json``.
        choices: Options that decided about the contents.
        excluded: Names of the cases that were left out, with the reason.
        extraction: How brains are extracted from images that have a skull.
        inputs: Files and folders that are read, and must not be in the folder.
        name_sources: Whether paths and subjects of the sources are recorded; not for
            a clinic's own scans, whose names may be patients' names.
        seed: Seed of the folds.
        overwrite: Whether an existing data set is replaced.
        processes: Number of processes.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the data set exists and ``overwrite`` is False.
        ValueError: If an image has voxels that are NaN or infinite, or a brain cannot
            be extracted.
    """
    cases = [case for case, _ in selected]
    labels = {"background": 0, "lesion": LESION}
    if any(max(case.values.values()) > LESION for case in cases):
        labels["ignore"] = LESION + 1
    training = [case for case in cases if case.split == "train"]
    header: dict[str, Any] = {"name": folder.name, "description": description}
    if terms:
        header |= {
            "reference": "; ".join(term.reference for term in terms),
            "release": "; ".join(f"{term.name}: {term.release}" for term in terms),
            "licence": "; ".join(f"{term.name}: {term.license}" for term in terms),
            "citation": [citation for term in terms for citation in term.citations],
        }
    readers = [
        partial(_read_and_strip, case, found, extraction, name_sources)
        for case, found in selected
    ]
    written: Path = write_raw_dataset(
        folder,
        readers,
        channel_names=[channel],
        labels=labels,
        splits=split_into_folds(training, seed),
        extra=header,
        conversion={
            "converter": f"nnunet-cel {importlib.metadata.version('nnunet-cel')}",
            "versions": _versions(extraction),
            "choices": {**choices, "seed": seed},
            "excluded": excluded if isinstance(excluded, Mapping) else list(excluded),
        },
        inputs=inputs,
        overwrite=overwrite,
        processes=processes,
        description="Writing" if progress else None,
    )
    return written


def _inspect(own_masks: BrainExtraction | None, case: SourceCase) -> Inspection:
    """Read a case and return what is found, errors included."""
    try:
        image, label = read_case(case)
        files = {path: sha256(path) for path in _files(case)}
        if case.strip_on is not None:
            _read_guide(case, image)
        if own_masks is not None:
            _brain(case, image, own_masks)
        finite = np.isfinite(image.voxels)
        if case.strip_on is None and not finite.all():
            raise ValueError(
                f"The image {case.image} must have finite voxels. Got "
                f"{int((~finite).sum())} that are NaN or infinite: replace them, or "
                "remove the skull if they lie outside the brain."
            )
        lesion = label.voxels == LESION
        # cc3d fails on some booleans, never on bytes.
        lesions = cc3d.connected_components(
            lesion.view(np.uint8), connectivity=_CONNECTIVITY
        )
        sizes = cc3d.statistics(lesions)["voxel_counts"]
        largest = int(sizes[1:].max(initial=0))
        if largest < case.min_lesion_voxels and case.without_lesion == "refuse":
            raise ValueError(
                f"The label map {' or '.join(map(str, case.labels))} must hold a "
                f"lesion. It has {_without_lesion(case)}: is it the right file?"
            )
    except (ValueError, OSError) as error:
        return Inspection(files={}, problem=str(error))
    voxels = int(lesion.sum())
    volume = round(voxels * image.voxel_volume / 1000, 6)
    return Inspection(files, voxels, largest, volume)


def _same_images(
    cases: Sequence[SourceCase], inspections: Sequence[Inspection]
) -> list[str]:
    """Return a message for each image that another case has, too."""
    first: dict[str, SourceCase] = {}
    messages = []
    for case, found in zip(cases, inspections, strict=True):
        digest = found.files.get(case.image, "")
        other = first.get(digest)
        if other is not None:
            messages.append(
                f"Each case must have an image of its own. {case.image} of "
                f"{case.identifier} and {other.image} of {other.identifier} are the "
                "same: remove one, or it would be in training and validation."
            )
        elif digest:
            first[digest] = case
    return messages


def _without_lesion(case: SourceCase) -> str:
    if case.min_lesion_voxels > 1:
        return f"no lesion of {case.min_lesion_voxels} voxels or more"
    return "no lesion"


def _files(case: SourceCase) -> list[Path]:
    """Return all files and series of a case."""
    return [case.image, *case.labels, *([case.strip_on] if case.strip_on else [])]


def _read_and_strip(
    case: SourceCase,
    found: Inspection,
    extraction: BrainExtraction | None,
    name_sources: bool,
) -> RawCase:
    """Return a case as it goes into the data set."""
    image, label = read_case(case)
    notes: dict[str, Any] = {
        "source": case.source,
        "files": [
            {"path": path.relative_to(case.root).as_posix(), "sha256": digest}
            if name_sources
            else {"sha256": digest}
            for path, digest in found.files.items()
        ],
        "lesion_voxels": found.lesion_voxels,
        "lesion_volume_ml": found.lesion_volume,
        **case.facts,
    }
    brain = _brain(case, image, extraction)
    if brain is not None:
        outside = int(((label.voxels == LESION) & ~brain).sum())
        # A lesion at the rim of the mask keeps the intensities that make it one.
        brain = brain | (label.voxels == LESION)
        image = Volume(np.where(brain, image.voxels, 0), image.affine)
        notes["brain_volume_ml"] = round(float(brain.sum()) * image.voxel_volume / 1e3)
        notes["lesion_voxels_outside_brain_mask"] = outside
    return RawCase(case.identifier, [image], label, split=case.split, notes=notes)


def _brain(
    case: SourceCase, image: Volume, extraction: BrainExtraction | None
) -> np.ndarray | None:
    """Return the brain mask of a case, None if its image has no skull."""
    if case.strip_on is None or extraction is None:
        return None
    guide = _read_guide(case, image)
    return extraction.mask((case.identifier, *case.mask_names), guide)


def _read_guide(case: SourceCase, image: Volume) -> Volume:
    """Return the image on which the brain of a case is found."""
    guide = read_volume(case.strip_on or case.image)
    check_same_grid(f"The image {case.strip_on}", guide, image)
    return guide


def _versions(extraction: BrainExtraction | None) -> dict[str, str]:
    """Return the versions of everything that the contents may depend on."""
    packages = ["nibabel", "numpy", "SimpleITK"]
    if extraction is not None and extraction.method == "bet":
        packages.append("brainextractor")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}
