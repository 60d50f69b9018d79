"""The folder of a study: what it is a study of, and whether it can go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_cel.files import read_json, to_json, write_whole
from nnunet_cel.study.study import Study, parse_study

__all__ = ["RECORD", "begin", "continued_study", "refuse_other_study"]

RECORD = "study.json"
"""File in the folder of a study that says what it is."""

# What trained models depend on; the rest may change while a study goes on.
_FROZEN = {"data", "planning", "training", "seed"}
_SHOWN = 5


def refuse_other_study(study: Study, out: Path) -> None:
    """Refuse a folder of other things, or of a study that was begun differently.

    Raises:
        FileExistsError: If the folder holds other things.
        ValueError: If trained models of the folder would not be of this study.
    """
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise FileExistsError(
            f"The folder of a study must be empty or an earlier run's. {out} is "
            "neither: name another one with 'out' or --out."
        )
    if not (out / "done").is_dir():
        return
    before, now = continued_study(out), study
    changes = list(
        _differences(
            before.model_dump(mode="json", include=_FROZEN),
            now.model_dump(mode="json", include=_FROZEN),
        )
    )
    if changes:
        more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise ValueError(
            f"The study in {out} was begun with other settings, which its models "
            f"depend on: {'; '.join(changes[:_SHOWN])}{more}. Put them back, or name "
            "another folder with 'out' or --out."
        )


def begin(study: Study, out: Path, *, run: Mapping[str, Any]) -> None:
    """Make the folder of a study, with its record and links to existing data sets.

    Args:
        study: The study.
        out: Its folder.
        run: What else the workflow has to know.
    """
    for name in ("raw", "linking_tables"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for data in (study.data.wmh, study.data.cel):
        if data.dataset:
            link = out / "raw" / Path(data.dataset).name
            link.unlink(missing_ok=True)
            link.symlink_to(data.dataset, target_is_directory=True)
    record = {"study": study.model_dump(mode="json", exclude_unset=True), **run}
    write_whole(out / RECORD, to_json(record))


def continued_study(out: Path) -> Study:
    """Return the study of a folder.

    Raises:
        FileNotFoundError: If the folder is no study's.
    """
    path = out / RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no study in {out}. 'nnunet-cel protocol run' begins one."
        )
    return parse_study(read_json(path)["study"], folder=out)


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Name every value that changed."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            inner = f"{name}.{key}" if name else key
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{name} was {before!r} and is {now!r}"
