"""Writes files and folders whole or not at all.

What is unfinished has a hidden name beside its place, and is locked by the process that
writes it. A process that is killed leaves it behind; the next one that writes to the
same place finds it without a lock, and clears it away.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import filelock

__all__ = [
    "check_replaceable",
    "file_beforehand",
    "locked",
    "new_file",
    "new_folder",
    "read_json",
    "settle_file",
    "settle_folder",
    "sha256",
    "to_csv",
    "to_json",
    "write_whole",
]

_FORMULA = tuple("=+-@\t\r")
_CAN_LOCK = os.name == "posix"  # elsewhere, what a killed process left stays


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
    folder = Path(os.path.realpath(folder))
    settle_folder(folder)
    check_replaceable(folder, what=what, mark=mark, inputs=inputs, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    old = _hidden(folder, "old", token)
    with _hidden_folder(folder, "partial", token) as partial:
        try:
            yield partial
            os.utime(partial)  # later than what was written for it beforehand
            if overwrite and folder.exists():
                folder.rename(old)
            try:
                partial.rename(folder)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                raise FileExistsError(
                    f"The {what} {folder} is there by now, written by another command, "
                    "and is not replaced. Choose another folder."
                ) from error
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
    shutil.rmtree(old, ignore_errors=True)


def settle_folder(folder: Path | str) -> None:
    """Clear away what a killed process left of :func:`new_folder`.

    What stood at the folder comes back if the process died while replacing it.
    """
    folder = Path(os.path.realpath(folder))
    left = [path for path in _hidden_of(folder, "partial") if _is_abandoned(path)]
    for old in _hidden_of(folder, "old"):
        # Its process still works if the partial folder of the same name is locked.
        at_work = old.with_name(old.name.replace(".old-", ".partial-"))
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif at_work in left or not at_work.exists():
            old.rename(folder)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def check_replaceable(
    folder: Path | str,
    *,
    what: str,
    mark: str | None = None,
    inputs: Iterable[Path | str] = (),
    overwrite: bool = False,
) -> None:
    """Refuse a place for a folder as :func:`new_folder` does, before any work."""
    folder = Path(os.path.realpath(folder))
    for path in inputs:
        if Path(os.path.realpath(path)).is_relative_to(folder):
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
    content = content.encode() if isinstance(content, str) else content
    token = secrets.token_hex(4)
    old = _hidden(path, "old", token)
    had_one = path.exists()
    note = {"had_one": had_one, "sha256": hashlib.sha256(content).hexdigest()}
    with _hidden_file(path, "pending", token, mode=0o600) as (pending, file):
        file.write(json.dumps(note).encode())
        file.flush()
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
        pending.unlink()


def settle_file(path: Path | str, *, of: Path | str) -> None:
    """Settle what a killed process left of :func:`file_beforehand`.

    The new file stays if what the block made is there; otherwise the one before it
    comes back.

    Args:
        path: The file.
        of: Folder that the block made.
    """
    path, of = Path(path), Path(of)
    for pending in _hidden_of(path, "pending"):
        if not _is_abandoned(pending):
            continue
        old = pending.with_name(pending.name.replace(".pending-", ".old-"))
        try:
            note = json.loads(pending.read_bytes())
        except ValueError:  # it died at the very start
            note = {}
        made = of.exists() and of.stat().st_mtime_ns >= pending.stat().st_mtime_ns
        # Another file may have been put there since.
        is_ours = path.is_file() and sha256(path) == note.get("sha256")
        if not made and is_ours and (old.exists() or not note["had_one"]):
            path.unlink()
        if not path.exists() and old.exists():
            old.rename(path)
        if made:
            old.unlink(missing_ok=True)
        pending.unlink()


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
    _clear_abandoned(path)
    token = secrets.token_hex(4)
    try:
        with _hidden_file(path, "partial", token, mode=mode) as (partial, file):
            file.write(content)
            file.flush()
            partial.replace(path)
    except OSError as error:
        raise OSError(
            error.errno, f"Could not write {path}: {error.strerror}."
        ) from error


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a path to write to, of the same name; at the end it takes its place.

    For libraries that write to a path and go by its ending. The file lies in a hidden
    folder beside its place meanwhile. If the block raises, what stood there stays.

    Args:
        path: The file, replaced if it exists.

    Raises:
        OSError: If the folder cannot be made, or the file was not written.
    """
    path = Path(path)
    _clear_abandoned(path)
    with _hidden_folder(path, "partial", secrets.token_hex(4)) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


def _clear_abandoned(path: Path) -> None:
    """Remove what killed processes left of a file."""
    for left in _hidden_of(path, "partial"):
        if not _is_abandoned(left):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _hidden(path: Path, kind: str, token: str) -> Path:
    """Return the hidden name of something beside a path."""
    return path.with_name(f".{path.name}.{kind}-{token}")


def _hidden_of(path: Path, kind: str) -> list[Path]:
    """Return what has such a hidden name beside a path."""
    if not path.parent.is_dir():
        return []
    name = re.compile(re.escape(f".{path.name}.{kind}-") + "[0-9a-f]{8}")
    return sorted(
        p
        for p in path.parent.iterdir()
        if name.fullmatch(p.name) and not p.is_symlink()
    )


@contextmanager
def _hidden_file(
    path: Path, kind: str, token: str, *, mode: int
) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield a new locked file beside a path, and remove it if it is still there."""
    hidden = _hidden(path, kind, token)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(hidden, flags, mode), "wb") as file:
            _lock(file.fileno())
            yield hidden, file
    finally:
        hidden.unlink(missing_ok=True)


@contextmanager
def _hidden_folder(path: Path, kind: str, token: str) -> Iterator[Path]:
    """Yield a new locked folder beside a path, and remove it if it is still there."""
    hidden = _hidden(path, kind, token)
    lock = None
    try:
        hidden.mkdir()
        lock = os.open(hidden, os.O_RDONLY) if _CAN_LOCK else None
        _lock(lock)
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(descriptor: int | None) -> bool:
    """Lock a file or folder for this process; return False if that cannot be done."""
    if descriptor is None or not _CAN_LOCK:
        return False
    import fcntl  # Windows has none

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system knows no locks
        return False
    return True


def _is_abandoned(path: Path) -> bool:
    """Return whether no process works on a hidden file or folder any more."""
    if not _CAN_LOCK:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


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
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(message) from None
    except NotImplementedError:  # some network file systems have no locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


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


def to_json(content: Any) -> str:
    """Return indented JSON with a line break at its end."""
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def read_json(path: Path | str) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


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
