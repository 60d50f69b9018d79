"""Turns source cases into a raw data set that is not yet at its place.

1. :func:`store_cases` reads every image and label map once, removes skulls where there
   are any, and writes what is good to a new folder under numbers. At the end it raises
   one error that names everything that was wrong.
2. :func:`finish_dataset` gives the cases their names, and writes all that a data set
   holds beside them: ``dataset.json``, folds and ``conversion.json``.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import cc3d
import numpy as np

from nnunet_cel.dataset_conversion.raw_dataset import (
    RawCase,
    rename_case,
    write_case,
    write_header,
)
from nnunet_cel.dataset_conversion.source import SourceCase, Terms
from nnunet_cel.dataset_conversion.splits import split_into_folds
from nnunet_cel.files import sha256, to_json, write_whole
from nnunet_cel.parallel import map_cases, raise_together
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
        lesion_voxels: Number of lesion voxels.
        notes: What else ``conversion.json`` tells.
        excluded: Why the case is left out, empty if it is not.
        problem: What is wrong with the case, empty if nothing is.
    """

    number: int
    files: Mapping[Path, str] = field(default_factory=dict)
    lesion_voxels: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    excluded: str = ""
    problem: str = ""


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
        values = np.unique(label.voxels).tolist()
        strange = [str(value) for value in values if value not in case.values]
        if strange:
            raise ValueError(
                f"The label map {file} must have no values but "
                f"{', '.join(map(str, case.values))}. Got {', '.join(strange)} too: "
                f"{case.other_values_cure}"
            )
        marked.append(table[label.voxels])
    combine = np.maximum if case.combine == "union" else np.minimum
    return image, Volume(combine.reduce(marked), image.affine)


def store_cases(
    folder: Path,
    cases: Sequence[SourceCase],
    *,
    extraction: BrainExtraction | None = None,
    processes: int = 1,
    progress: bool = False,
) -> tuple[list[Kept], dict[str, str]]:
    """Read, check and write all cases, and return those that stay.

    Args:
        folder: The folder of the data set while it grows.
        cases: The cases.
        extraction: How brains are extracted from images that have a skull.
        processes: Number of processes.
        progress: Whether to show a progress bar.

    Returns:
        The cases in the data set, and the reason for each that is left out.

    Raises:
        ValueError: If anything is wrong with any of them; the message names all of it.
            Or if none stays.
    """
    findings = map_cases(
        partial(_store, folder, extraction),
        list(enumerate(cases)),
        processes=processes,
        description="Converting" if progress else None,
    )
    problems = [found.problem for found in findings if found.problem]
    raise_together(problems + _same_images(cases, findings))
    found_by_case = list(zip(cases, findings, strict=True))
    kept = [(case, found) for case, found in found_by_case if not found.excluded]
    if not kept:
        raise ValueError(
            f"At least one case must have a lesion. None of the {len(cases)} has: "
            "check that the label maps are the right files."
        )
    return kept, {c.identifier: f.excluded for c, f in found_by_case if f.excluded}


def finish_dataset(
    folder: Path,
    kept: Sequence[Kept],
    *,
    name: str,
    channel: str,
    description: str,
    choices: Mapping[str, Any],
    excluded: Mapping[str, str] | Collection[str],
    terms: Sequence[Terms] = (),
    extraction: BrainExtraction | None = None,
    name_sources: bool = True,
) -> None:
    """Name the stored cases, and write all that a data set holds beside them.

    Args:
        folder: The folder of the data set while it grows.
        kept: Cases with their final names, and what was found.
        name: Name of the data set.
        channel: Name of the image's channel.
        description: One line for ``dataset.json``.
        choices: Options that decided about the contents, the seed of the folds too.
        excluded: Names of the cases that were left out, with the reason.
        terms: Terms of use of the sources.
        extraction: How brains were extracted.
        name_sources: Whether paths and subjects of the sources are recorded; not for
            a clinic's own scans, whose names may be patients' names.

    Raises:
        ValueError: If two cases have the same name, or none is for training.
    """
    for case, found in kept:
        rename_case(folder, str(found.number), case.identifier, case.split)
    labels = {"background": 0, "lesion": LESION}
    if any(max(case.values.values()) > LESION for case, _ in kept):
        labels["ignore"] = LESION + 1
    header: dict[str, Any] = {"name": name, "description": description}
    if terms:
        header |= {
            "reference": "; ".join(term.reference for term in terms),
            "release": "; ".join(f"{term.name}: {term.release}" for term in terms),
            "licence": "; ".join(f"{term.name}: {term.license}" for term in terms),
            "citation": [citation for term in terms for citation in term.citations],
        }
    write_header(folder, [channel], labels, header)
    training = [case for case, _ in kept if case.split == "train"]
    folds = split_into_folds(training, choices["seed"])
    if folds is not None:
        write_whole(folder / "splits_final.json", to_json(folds))
    notes = {case.identifier: _notes(case, found, name_sources) for case, found in kept}
    record = {
        "converter": f"nnunet-cel {importlib.metadata.version('nnunet-cel')}",
        "versions": _versions(extraction),
        "choices": dict(choices),
        "excluded": excluded if isinstance(excluded, Mapping) else list(excluded),
        "cases": dict(sorted(notes.items())),
    }
    write_whole(folder / "conversion.json", to_json(record))


def _store(
    folder: Path,
    extraction: BrainExtraction | None,
    numbered: tuple[int, SourceCase],
) -> Finding:
    """Write a case, and return what was found, errors included."""
    number, case = numbered
    try:
        image, label = read_case(case)
        lesion = label.voxels == LESION
        lacking = _lacks_lesion(case, lesion)
        notes: dict[str, Any] = {
            "lesion_voxels": int(lesion.sum()),
            "lesion_volume_ml": round(lesion.sum() * image.voxel_volume / 1000, 6),
            **case.facts,
        }
        if case.strip_on is not None and extraction is not None:
            image = _strip(case, image, lesion, extraction, notes)
        if not np.isfinite(image.voxels).all():
            raise ValueError(
                f"The image {case.image} must have finite voxels. Got "
                f"{int((~np.isfinite(image.voxels)).sum())} that are NaN or infinite: "
                "replace them, or remove the skull if they lie outside the brain."
            )
        paths = [case.image, *case.labels, *([case.strip_on] if case.strip_on else [])]
        files = {path: sha256(path) for path in paths}
    except (ValueError, OSError) as error:
        return Finding(number, problem=str(error))
    if not lacking:
        write_case(folder, RawCase(str(number), [image], label))
    return Finding(number, files, notes["lesion_voxels"], notes, excluded=lacking)


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


def _strip(
    case: SourceCase,
    image: Volume,
    lesion: np.ndarray,
    extraction: BrainExtraction,
    notes: dict[str, Any],
) -> Volume:
    """Return the image with nothing but brain, and note how much that is."""
    guide = read_volume(case.strip_on or case.image)
    check_same_grid(f"The image {case.strip_on}", guide, image)
    brain = extraction.mask((case.identifier, *case.mask_names), guide)
    outside = int((lesion & ~brain).sum())
    # A lesion at the rim of the mask keeps the intensities that make it one.
    brain = brain | lesion
    notes["brain_volume_ml"] = round(float(brain.sum()) * image.voxel_volume / 1e3)
    notes["lesion_voxels_outside_brain_mask"] = outside
    return Volume(np.where(brain, image.voxels, 0), image.affine)


def _same_images(cases: Sequence[SourceCase], findings: Sequence[Finding]) -> list[str]:
    """Return a message for each image that another case has, too."""
    first: dict[str, SourceCase] = {}
    messages = []
    for case, found in zip(cases, findings, strict=True):
        if found.problem:
            continue
        other = first.setdefault(found.files[case.image], case)
        if other is not case:
            messages.append(
                f"Each case must have an image of its own. {case.image} of "
                f"{case.identifier} and {other.image} of {other.identifier} are the "
                "same: remove one, or it would be in training and validation."
            )
    return messages


def _notes(case: SourceCase, found: Finding, name_sources: bool) -> dict[str, Any]:
    """Return what ``conversion.json`` tells of a case."""
    files = [
        {"path": path.relative_to(case.root).as_posix(), "sha256": digest}
        if name_sources
        else {"sha256": digest}
        for path, digest in found.files.items()
    ]
    return {"source": case.source, "files": files} | {
        **found.notes,
        "split": case.split,
    }


def _versions(extraction: BrainExtraction | None) -> dict[str, str]:
    """Return the versions of everything that the contents may depend on."""
    packages = ["nibabel", "numpy", "SimpleITK"]
    if extraction is not None and extraction.method == "bet":
        packages.append("brainextractor")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}
