"""Finds the label maps of folders, and which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_cel.volumes import split_ending

__all__ = ["find_label_maps", "pair_cases", "pair_images", "raise_together"]


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Return the label map of each case in a folder, in the order of their names.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no label map, or two of one case.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        name, ending = split_ending(path)
        if not ending or not path.is_file() or name.startswith("."):
            continue
        if name in found:
            twice.append(f"{found[name].name} and {path.name}")
        found[name] = path
    if twice:
        raise ValueError(
            f"The folder {folder} must have one label map for each case. Got "
            f"{', '.join(twice)}: move one away."
        )
    if not found:
        raise ValueError(
            f"The folder {folder} must have label maps, such as CASE.nii.gz. It has "
            "none: name the folder that nnUNetv2_predict wrote, or labelsTs."
        )
    return dict(sorted(found.items()))


def pair_images(folder: Path, cases: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Return the images of each case by channel, such as ``0000``.

    The channel of an image without a number, ``CASE.nii.gz``, is empty.

    Args:
        folder: Folder of the images, of other cases, too.
        cases: Names of the cases.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a case has no image; the message lists all of them.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[str, dict[str, Path]] = {case: {} for case in cases}
    for path in sorted(folder.iterdir()):
        name, ending = split_ending(path)
        if not ending:
            continue
        numbered = re.fullmatch(r"(.*)_(\d{4})", name)
        if name in found:
            found[name][""] = path
        elif numbered and numbered[1] in found:
            found[numbered[1]][numbered[2]] = path
    missing = [case for case, images in found.items() if not images]
    if missing:
        raise ValueError(
            f"The folder {folder} must have an image of each case, such as "
            f"{missing[0]}_0000.nii.gz. It has none of {', '.join(missing)}."
        )
    return found


def pair_cases(
    predictions: Path, references: Path, *, subset: bool = False
) -> dict[str, tuple[Path, Path]]:
    """Return prediction and reference of each case.

    Args:
        predictions: Folder of the predictions.
        references: Folder of the references.
        subset: Whether references without a prediction are left out.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a file has no partner; the message lists all of them.
    """
    predicted, true = find_label_maps(predictions), find_label_maps(references)
    problems = []
    missing = sorted(set(true) - set(predicted))
    if missing and not subset:
        problems.append(
            f"{len(missing)} of {len(true)} references have no prediction: "
            f"{', '.join(missing)}. Predict them, or allow it with --subset."
        )
    surplus = sorted(set(predicted) - set(true))
    if surplus:
        problems.append(
            f"{len(surplus)} of {len(predicted)} predictions have no reference: "
            f"{', '.join(surplus)}. Move them away, or add the references."
        )
    if problems:
        raise ValueError(
            "Predictions and references must be of the same cases, with the same "
            f"names. {' '.join(problems)}"
        )
    return {name: (predicted[name], true[name]) for name in predicted}


def raise_together(messages: Iterable[str]) -> None:
    """Raise one error that lists all messages, if there are any.

    Raises:
        ValueError: If there is a message.
    """
    problems = list(messages)
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"{len(problems)} cases have problems:\n{listed}")
