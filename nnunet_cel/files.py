"""Writes files and folders whole or not at all.

What is unfinished has a hidden name beside its place. A process that is killed leaves
it behind; it is in nobody's way, and may be removed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import filelock
import yaml

__all__ = [
    "locked",
    "new_folder",
    "read_json",
    "read_table",
    "read_yaml",
    "sha256",
    "to_csv",
    "to_json",
    "write_whole",
]

_FORMULA = tuple("=+-@\t\r")


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
        FileExistsError: If the folder exists and ``overwrite`` is False.
        OSError: If it appeared in the meantime.
        ValueError: If it holds something else, or what is read.
    """
    folder = Path(os.path.realpath(folder))
    for path in inputs:
        if Path(os.path.realpath(path)).is_relative_to(folder):
            raise ValueError(
                f"The {what} must be written to a folder of its own. Got {folder}, "
                f"which is or holds {path}, which is read: choose another one."
            )
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not overwrite and not empty:
        raise FileExistsError(
            f"The {what} {folder} exists and is not replaced without being told so. "
            f"Choose another folder{', or add --overwrite' if mark else ''}."
        )
    known = folder.is_dir() and (mark is None or (folder / mark).is_file())
    if not known and not empty:
        raise ValueError(
            f"Only an earlier {what} is replaced. Got {folder}, which has no {mark}: "
            "choose another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _hidden(folder, "partial"), _hidden(folder, "old")
    partial.mkdir()
    try:
        yield partial
        if overwrite and folder.exists():
            folder.rename(old)
        partial.rename(folder)  # fails if another command wrote it by now
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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
    content = content.encode() if isinstance(content, str) else content
    partial = _hidden(path, "partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(partial, flags, mode), "wb") as file:
            file.write(content)
        partial.replace(path)
    except OSError as error:
        raise OSError(
            error.errno, f"Could not write {path}: {error.strerror}."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _hidden(path: Path, kind: str) -> Path:
    """Return a new hidden name beside a path."""
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(4)}")


@contextmanager
def locked(path: Path | str, message: str) -> Iterator[None]:
    """Hold a lock for the length of a block; the system lets go of dead processes'.

    Args:
        path: File of the lock, made if need be. It stays there, empty.
        message: What to say where another process holds it, with the cure.

    Raises:
        ValueError: If another process holds the lock.
        OSError: If the file cannot be made.
    """
    lock: AbstractContextManager[Any]
    try:
        lock = filelock.FileLock(path).acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(message) from None
    except NotImplementedError:  # some network file systems have no locks
        lock = nullcontext()
    with lock:
        yield


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV text, for names of patients and files as well.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [f"'{c}" if isinstance(c, str) and c[:1] in _FORMULA else c for c in row]
        for row in rows
    )
    return stream.getvalue()


def read_table(file: Path, *, required: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table, separated by comma, semicolon or tab.

    Names of columns are in lower case, and blanks around cells are removed.

    Raises:
        ValueError: If it is not CSV or TSV in UTF-8, or a required column is missing or
            has an empty cell.
    """
    try:
        text = unicodedata.normalize("NFC", file.read_text(encoding="utf-8-sig"))
        separator = max(",;\t", key=text.lstrip().partition("\n")[0].count)
        read = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header, *lines = [cells for cells in map(_cleaned, read) if cells] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"The table {file} must be CSV or TSV in UTF-8. It cannot be read: "
            f'{error}. Save it anew, as "CSV UTF-8".'
        ) from error
    columns = [name.lower() for name in header]
    rows: list[dict[str, str]] = []
    for number, cells in enumerate([header, *lines], start=1):
        row = dict(zip(columns, cells + [""] * len(columns), strict=False))
        twice_or_beyond = len(row) < max(len(columns), len(cells))
        if twice_or_beyond or not all(map(row.get, required)):
            raise ValueError(
                f"The table {file} must have the columns {', '.join(required)}, each "
                "once and without an empty cell, and no cell beyond the columns. Got "
                f"{', '.join(cells) or 'nothing'} in row {number}."
            )
        rows.append(row)
    return rows[1:]


def _cleaned(cells: list[str]) -> list[str]:
    """Return the cells of a row without blanks, and without empty ones at the end."""
    # An apostrophe before a formula was put there by `to_csv`.
    row = [re.sub(r"^'(?=[=+@\t\r-])", "", " ".join(cell.split())) for cell in cells]
    while row and not row[-1]:
        row.pop()
    return row


def to_json(content: Any) -> str:
    """Return indented JSON with a line break at its end."""
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def read_json(path: Path | str) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The file {path} must be JSON. It is not: {error}."
        ) from error


class _YamlLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"it has the key {twice!r} twice{node.start_mark}")
        return node


def read_yaml(path: Path | str, what: str) -> Any:
    """Return the content of a YAML file; nothing in it is run.

    Args:
        path: The file.
        what: What to call it in messages, for example ``"study"``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not YAML, or has a key twice; the message names it.
    """
    try:
        return yaml.load(Path(path).read_bytes(), _YamlLoader)
    # The others come from dates, numbers and nesting that Python cannot hold.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ValueError(f"The {what} {path} is not YAML: {reason}.") from error


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' in name order.

    Hidden files and what Windows leaves in folders do not count.
    """
    path = Path(path)
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith((".", "Thumbs.db")):
            digest.update(bytes.fromhex(sha256(file)))
    return digest.hexdigest()
