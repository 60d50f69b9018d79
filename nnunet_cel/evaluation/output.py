"""The folder that a command writes its results to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_cel.files import new_folder

__all__ = ["new_results"]


@contextmanager
def new_results(
    folder: Path,
    *,
    what: str,
    mark: str,
    inputs: Sequence[Path],
    overwrite: bool = False,
) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` at the end.

    A folder is replaced only if it holds earlier results or nothing, so that a slip of
    the pen costs nobody their data.

    Args:
        folder: Where the results are to be.
        what: What to call them in messages.
        mark: File that tells that a folder holds such results.
        inputs: Files and folders that are read.
        overwrite: Whether earlier results are replaced.

    Raises:
        FileExistsError: If the folder exists and ``overwrite`` is False.
        ValueError: If it holds something else, or what is read.
    """
    for path in inputs:
        if path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"The {what} must be written to a folder of its own. Got {folder}, "
                f"which is or holds {path}: choose another one."
            )
    if overwrite and folder.exists():
        ours = folder.is_dir() and (
            (folder / mark).is_file() or not any(folder.iterdir())
        )
        if not ours:
            raise ValueError(
                f"Only an earlier {what} is replaced. Got {folder}, which has no "
                f"{mark}: choose another folder."
            )
    cure = "Choose another folder, or replace it with --overwrite."
    with new_folder(folder, what=what, cure=cure, overwrite=overwrite) as partial:
        yield partial
