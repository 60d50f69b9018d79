"""Draws the lesions of every case, for the page and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel.files import write_whole
from nnunet_cel.parallel import map_cases
from nnunet_cel.report.agreement import read_agreement
from nnunet_cel.report.lesion_pictures import (
    STATUS_MARKS,
    describe_lesion,
    draw_png,
    draw_svg,
    panel_context,
)
from nnunet_cel.report.lesion_views import choose_lesions, cut_views
from nnunet_cel.report.results import LabelMaps, Results
from nnunet_cel.scans import pair_images, raise_together
from nnunet_cel.volumes import check_same_grid, read_volume

__all__ = [
    "CasePictures",
    "choose_channel",
    "draw_all_pictures",
    "pictures_per_case",
]

_PER_CASE = 6
_IN_ALL = 600  # pictures, so that the page can be sent by mail
_LEAST = 2


@dataclass(frozen=True)
class CasePictures:
    """The pictures of a case.

    Args:
        lesions: What the template needs for each lesion that is shown.
        more: What is said of those that are not shown, empty if all are.
    """

    lesions: Sequence[Mapping[str, Any]]
    more: str = ""


@dataclass(frozen=True)
class _Task:
    """What one case's pictures are drawn from."""

    maps: LabelMaps
    image: Path | None
    lesions: pd.DataFrame
    label: int
    ignore: int | None


def pictures_per_case(cases: int) -> int:
    """Return how many lesions of each case are shown where nobody says it.

    These are 6, and fewer where there are more than 100 cases, at least 2.
    """
    return min(_PER_CASE, max(_LEAST, _IN_ALL // cases))


def choose_channel(
    folder: Path, cases: Sequence[str], channel: int = 0
) -> dict[str, Path]:
    """Return the image of each case that is shown.

    Args:
        folder: Folder with ``CASE_0000.nii.gz`` and so on, or ``CASE.nii.gz``.
        cases: Names of the cases.
        channel: Number of the channel.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a case has no such image; the message lists all of them.
    """
    images = pair_images(folder, cases)
    number = f"{channel:04d}"
    missing = [case for case, found in images.items() if not {number, ""} & set(found)]
    if missing:
        raise ValueError(
            f"The folder {folder} must have the channel {number} of every case. It "
            f"lacks that of {', '.join(missing)}: choose another one with --channel."
        )
    return {case: found.get(number) or found[""] for case, found in images.items()}


def draw_all_pictures(
    results: Results,
    maps: Mapping[str, LabelMaps],
    images: Mapping[str, Path],
    folder: Path,
    *,
    per_case: int,
    processes: int = 1,
    description: str | None = None,
) -> dict[str, CasePictures]:
    """Draw lesions of all cases and write their files to a folder.

    Args:
        results: The results of the evaluation.
        maps: The label maps of each case.
        images: The image of each case, empty for pictures on black.
        folder: Folder to write to, which exists.
        per_case: Most lesions that are shown of a case.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Raises:
        ValueError: If files cannot be read, do not match or were changed; the message
            lists all of them.
    """
    summary, of_case = results.summary, dict(list(results.lesions.groupby("case")))
    nothing = results.lesions.iloc[:0]
    tasks = [
        _Task(
            maps=maps[case],
            image=images.get(case),
            lesions=choose_lesions(of_case.get(case, nothing), per_case),
            label=summary["label"],
            ignore=summary["ignore_label"],
        )
        for case in maps
    ]
    drawn = map_cases(
        partial(_draw_case, folder),
        tasks,
        processes=processes,
        description=description,
    )
    raise_together(result for result in drawn if isinstance(result, str))
    pictures = {}
    for task, lesions in zip(tasks, drawn, strict=True):
        everything = of_case.get(task.maps.case, nothing)
        shown = choose_lesions(everything, len(everything))
        pictures[task.maps.case] = CasePictures(
            [lesion for lesion in lesions if not isinstance(lesion, str)],
            _say_more(shown, task.lesions),
        )
    return pictures


def _say_more(everything: pd.DataFrame, shown: pd.DataFrame) -> str:
    """Return what is said of lesions that are not shown."""
    hidden = everything.drop(index=shown.index)
    if hidden.empty:
        return ""
    kinds = [
        f"{count} {status}"
        for status in ("missed", "false", "hit")
        if (count := int((hidden["status"] == status).sum()))
    ]
    return (
        f"{len(hidden)} more of {len(everything)} lesions are not shown: "
        f"{', '.join(kinds)}. All are in tables/lesions.csv."
    )


def _draw_case(folder: Path, task: _Task) -> list[dict[str, Any]] | str:
    """Draw the pictures of a case; return what the page needs, or what is wrong."""
    case = task.maps.case
    try:
        agreement = read_agreement(task.maps, label=task.label, ignore=task.ignore)
        image = None
        if task.image is not None:
            image = read_volume(task.image)
            check_same_grid(f"The image {task.image}", image, agreement)
    except (ValueError, OSError) as error:
        return str(error)
    lesions = []
    for view in cut_views(image, agreement, task.lesions):
        row = view.lesion
        title = f"{row['map']} {row['lesion']}, {row['status']}"
        text = describe_lesion(row)
        panels = [panel_context(panel) for panel in (*view.panels, view.locator)]
        heading = f"{case}: {title}, {text}"
        stem = f"{case}_{row['map']}_{row['lesion']}"
        write_whole(folder / f"{stem}.png", draw_png(view, heading))
        write_whole(folder / f"{stem}.svg", draw_svg(panels, heading))
        lesions.append(
            {
                "sign": STATUS_MARKS[row["status"]],
                "title": title.capitalize(),
                "text": text,
                "panels": panels,
            }
        )
    return lesions
