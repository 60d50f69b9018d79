"""Damaged files meet every command: a message, no harm, no waiting."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from damaged_workspace import FOLDERS, Use, corpus, make_workspace

from nnunet_cel import cli
from nnunet_cel.doctor import check_folder

LIMIT = 20  # seconds for one command, on machines that do other work as well
LONGEST = 3000  # letters of a message
HARMLESS = 170  # damages at most that a command does not notice or need not mind


class TooLate(BaseException):
    """A command that does not end; no ``except Exception`` catches it."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace in which every command works."""
    root = tmp_path_factory.mktemp("damaged") / "my work; $(exit 1) 'x'"
    with pytest.MonkeyPatch.context() as patch:
        for folder in FOLDERS:
            patch.setenv(f"nnUNet_{folder}", str(root / folder))
        make_workspace(root)
        yield root


def contents(root: Path) -> dict[Path, bytes]:
    """Return the bytes of every file below a folder."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def put_back(before: dict[Path, bytes], after: dict[Path, bytes]) -> None:
    """Undo what a command that succeeded has changed."""
    for path in set(after) - set(before):
        path.unlink()
    for path, content in before.items():
        if after.get(path) != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def run(arguments: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its status and what it said of errors."""

    def fail(*_: object) -> None:
        raise TooLate

    said = io.StringIO()
    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LIMIT)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            status = cli.main(arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return status, said.getvalue()


def meet(root: Path, use: Use, content: bytes, whole: dict[Path, bytes]) -> str:
    """Run a command on a damaged file; return what is wrong with how it took it."""
    path = use.path(root)
    path.write_bytes(content)
    try:
        status, said = run(use.arguments(root))
    except TooLate:
        return "it did not end"
    except BaseException as error:
        return f"a traceback: {error!r}"
    finally:
        path.write_bytes(whole[path])
    after = contents(root)
    if status == 0:
        put_back(whole, after)
        return "harmless"
    changed = sorted(
        str(p.relative_to(root))
        for p in {*whole, *after}
        if whole.get(p) != after.get(p)
    )
    put_back(whole, after)
    if changed:
        return f"it failed and changed {changed}"
    # Training logs are named by their model, folds by theirs.
    model = path.parents[2 if path.parent.name == "validation" else 1]
    if not any(str(name) in said for name in (path, path.parent, model)):
        return f"the message names no file: {said}"
    if status != 1 or not said.strip() or len(said) > LONGEST or "Traceback" in said:
        return f"the message is no message: {status}, {said[:LONGEST]}"
    return ""


def meet_all(root: Path, every: int) -> tuple[int, int]:
    """Return how many damages were tried and were harmless; raise for the others."""
    whole = contents(root)
    number = harmless = 0
    wrong = []
    for name, use, content in list(corpus(root))[::every]:
        if content == whole[use.path(root)]:
            continue
        number += 1
        result = meet(root, use, content, whole)
        if result == "harmless":
            harmless += 1
        elif result:
            wrong.append(f"{use.arguments(root)[0]}, {use.file}, {name}: {result}")
    assert not wrong, "\n".join(wrong)
    return number, harmless


def test_some_damaged_files(workspace: Path) -> None:
    """A sample of all damages ends in a message that names the file, or does no harm.

    What was there before stays as it was, to the byte, and nothing is added.
    """
    number, harmless = meet_all(workspace, every=9)

    assert number > 40
    assert harmless < number / 3


@pytest.mark.campaign
def test_all_damaged_files(workspace: Path) -> None:
    """All damages do so."""
    number, harmless = meet_all(workspace, every=1)

    assert number > 400
    assert harmless < HARMLESS


def test_pickles_are_never_opened(workspace: Path, tmp_path: Path) -> None:
    """Neither the pickle beside probabilities nor one in place of them is run."""
    proof = tmp_path / "proof"
    evil = f"cposix\nsystem\n(S'touch \"{proof}\"'\ntR.".encode()
    (use,) = {
        (use.file, use.command): use
        for _, use, _ in corpus(workspace)
        if use.file.endswith(".npz")
    }.values()
    whole = contents(workspace)
    beside = workspace / "p/B.pkl"
    beside.write_bytes(evil)

    status, said = run(use.arguments(workspace))
    assert (status, said) == (0, "")
    beside.unlink()
    put_back(whole, contents(workspace))
    assert meet(workspace, use, evil, whole) == ""
    assert meet(workspace, use, b"\x93NUMPY\1\0" + evil, whole) == ""
    assert not proof.exists()


def test_a_folder_in_place_of_a_file(workspace: Path) -> None:
    """It is refused as any other damage, and so is a link that leads to itself."""
    whole = contents(workspace)
    uses = {use.file: use for _, use, _ in corpus(workspace)}
    wrong = []
    for file, use in uses.items():
        path = use.path(workspace)
        content = path.read_bytes()
        for make in (path.mkdir, lambda path=path: path.symlink_to(path)):
            path.unlink()
            make()
            try:
                status, said = run(use.arguments(workspace))
                if status not in (0, 1) or "Traceback" in said:
                    wrong.append(f"{file}: {status}, {said}")
            except (TooLate, Exception) as error:
                wrong.append(f"{file}: {error!r}")
            path.unlink() if path.is_symlink() else path.rmdir()
            path.write_bytes(content)
            put_back(whole, contents(workspace))
    assert not wrong, "\n".join(wrong)


def test_environment_of_doctor(tmp_path: Path) -> None:
    """Files, absent folders and nonsense in place of nnU-Net's folders are named."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "absent", "loop", "x" * 5000, "\n", "a b; exit 7"):
        check = check_folder("nnUNet_raw", str(tmp_path / name))
        assert check.status == "WRONG"
        assert name in check.found
        assert check.cure
