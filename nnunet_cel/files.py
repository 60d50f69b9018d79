"""Writes files and folders whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "check_replaceable",
    "file_beforehand",
    "new_folder",
    "sha256",
    "to_json",
    "write_whole",
]


@contextmanager
def new_folder(
    folder: Path | str,
    *,
    what: str,
    mark: str | None = None,
    inputs: Iterable[Path | str] = (),
    overwrite: bool = False,
) -> Iterator[Path]:
    """Yield an empty folder to write to; at the end it takes the place of ``folder``.

    It is a hidden sibling until the block ends. If the block raises, it is removed, and
    what stood at ``folder`` stays. A folder is replaced only if it holds an earlier
    result or nothing, so that a slip of the pen costs nobody their data.

    Args:
        folder: Where the folder is to be.
        what: What to call it in messages, for example ``"data set"``.
        mark: File by which an earlier result is known; None if any may be replaced.
        inputs: Files and folders that are read, and must not be in the folder.
        overwrite: Whether an earlier result is replaced.

    Raises:
        FileExistsError: If the folder exists and ``overwrite`` is False, or if it
            appeared in the meantime.
        ValueError: If it holds something else, or what is read.
    """
    folder = Path(folder).resolve()
    check_replaceable(folder, what=what, mark=mark, inputs=inputs, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    partial = folder.with_name(f".{folder.name}.partial-{token}")
    old = folder.with_name(f".{folder.name}.old-{token}")
    try:
        partial.mkdir()
        yield partial
        if overwrite and folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            raise FileExistsError(
                f"The {what} {folder} is there by now, written by another command, and "
                "is not replaced. Choose another folder."
            ) from error
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def check_replaceable(
    folder: Path | str,
    *,
    what: str,
    mark: str | None = None,
    inputs: Iterable[Path | str] = (),
    overwrite: bool = False,
) -> None:
    """Refuse a place for a folder as :func:`new_folder` does, before any work."""
    folder = Path(folder).resolve()
    for path in inputs:
        if Path(path).resolve().is_relative_to(folder):
            raise ValueError(
                f"The {what} must be written to a folder of its own. Got {folder}, "
                f"which is or holds {path}, which is read: choose another one."
            )
    if not folder.exists():
        return
    empty = folder.is_dir() and not any(folder.iterdir())
    if not overwrite and not empty:
        raise FileExistsError(
            f"The {what} {folder} exists and is not replaced without being told so. "
            "Choose another folder, or add --overwrite."
        )
    known = mark is None or (folder / mark).is_file()
    if not folder.is_dir() or not (known or empty):
        raise ValueError(
            f"Only an earlier {what} is replaced. Got {folder}, which has no {mark}: "
            "choose another folder."
        )


@contextmanager
def file_beforehand(
    path: Path | str, content: str | bytes, *, mode: int = 0o666
) -> Iterator[None]:
    """Write a file before the block begins, and take it back if the block raises.

    Args:
        path: The file; what stood there comes back if the block raises.
        content: Text, written as UTF-8, or bytes.
        mode: Permissions of the file, of which the umask is taken.

    Raises:
        OSError: If the file cannot be written; the message names it.
    """
    path = Path(path)
    old = path.with_name(f".{path.name}.old-{secrets.token_hex(4)}")
    had_one = path.exists()
    if had_one:
        path.rename(old)
    try:
        write_whole(path, content, mode=mode)
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        if had_one:
            old.rename(path)
        raise
    old.unlink(missing_ok=True)


def write_whole(path: Path | str, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file under a temporary name and rename it when it is complete.

    Args:
        path: The file, replaced if it exists.
        content: Text, written as UTF-8, or bytes.
        mode: Permissions of the file, of which the umask is taken.

    Raises:
        OSError: If the file cannot be written; the message names it.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    content = content.encode() if isinstance(content, str) else content
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(partial, flags, mode), "wb") as file:
            file.write(content)
        partial.replace(path)
    except OSError as error:
        raise OSError(
            error.errno, f"Could not write {path}: {error.strerror}."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def to_json(content: Any) -> str:
    """Return indented JSON with a line break at its end."""
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' in name order.

    Hidden files and what Windows leaves in folders do not count.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.iterdir()):
            hidden = file.name.startswith(".") or file.name == "Thumbs.db"
            if file.is_file() and not hidden:
                digest.update(bytes.fromhex(sha256(file)))
    else:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
