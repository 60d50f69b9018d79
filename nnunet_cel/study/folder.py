"""The folder of a study: begins it, continues it, and keeps two runs apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_cel.files import read_json, to_json, write_whole
from nnunet_cel.study.study import Study, parse_study

__all__ = ["RECORD", "begin", "continued_study", "only_run", "refuse_other_study"]

RECORD = "study.json"
"""File in the folder of a study that says what it is."""

# What trained models depend on; the rest may change while a study goes on.
_FROZEN = ("data", "planning", "training", "seed")
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
    before, now = _read(out)["study"], study.to_dict()
    changes = [
        change
        for key in _FROZEN
        for change in _differences(before.get(key), now.get(key), key)
    ]
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
    for data in (study.wmh, study.cel):
        if data.dataset:
            link = out / "raw" / Path(data.dataset).name
            if link.is_symlink():
                link.unlink()
            link.symlink_to(data.dataset, target_is_directory=True)
    write_whole(out / RECORD, to_json({"study": study.to_dict(), **run}))


def continued_study(out: Path) -> Study:
    """Return the study of a folder.

    Raises:
        FileNotFoundError: If the folder is no study's.
    """
    if not (out / RECORD).is_file():
        raise FileNotFoundError(
            f"There is no study in {out}. 'nnunet-cel protocol run' begins one."
        )
    return parse_study(_read(out)["study"], folder=out)


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[int | None]:
    """Hold the folder of a study, so that no second run works in it.

    The system itself lets go when the process ends, however it ends. Hand the number on
    to a child process, and the folder is held until that ends as well.

    Args:
        out: The folder.

    Yields:
        Number of the open file that holds the folder; None if the file system cannot.

    Raises:
        ValueError: If another run holds it.
    """
    import fcntl  # not on Windows

    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another run of the study in {out} is at work. Wait for it to end, or "
                "stop it."
            ) from None
        except OSError:  # some network file systems have no locks
            yield None
            return
        yield file.fileno()


def _read(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(out / RECORD)
    return content


def _differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """Name every value that changed."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted(set(before) | set(now)):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield f"{name} was {before!r} and is {now!r}"
