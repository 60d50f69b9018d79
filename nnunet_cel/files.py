"""Writes files and folders whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["new_folder", "pending_file", "sha256", "to_json", "write_whole"]


@contextmanager
def new_folder(
    folder: Path | str, *, what: str, cure: str, overwrite: bool = False
) -> Iterator[Path]:
    """Yield an empty folder to write to; at the end it takes the place of ``folder``.

    It is a hidden sibling until the block ends. If the block raises, it is removed, and
    what stood at ``folder`` stays.

    Args:
        folder: Where the folder is to be.
        what: What to call it in the message, for example ``"data set"``.
        cure: What to do if it exists already, to end that message.
        overwrite: Whether an existing folder is replaced.

    Raises:
        FileExistsError: If the folder exists and ``overwrite`` is False.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(
            f"The {what} {folder} exists and is not replaced without being told so. "
            f"{cure}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def pending_file(
    path: Path | str, content: str | bytes, *, mode: int = 0o666
) -> Iterator[None]:
    """Write a file that appears when the block ends, and not if the block raises.

    Args:
        path: The file, replaced if it exists.
        content: Text, written as UTF-8, or bytes.
        mode: Permissions of the file, of which the umask is taken.

    Raises:
        OSError: If the file cannot be written; the message names it.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    content = content.encode() if isinstance(content, str) else content
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(os.open(partial, flags, mode), "wb") as file:
                file.write(content)
        except OSError as error:
            raise OSError(
                error.errno, f"Could not write {path}: {error.strerror}."
            ) from error
        yield
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it when it is complete.

    Args:
        path: The file, replaced if it exists.
        content: Text, written as UTF-8, or bytes.

    Raises:
        OSError: If the file cannot be written; the message names it.
    """
    with pending_file(path, content):
        pass


def to_json(content: Any) -> str:
    """Return indented JSON with a line break at its end."""
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' in name order."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.is_file():
                digest.update(bytes.fromhex(sha256(file)))
    else:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
