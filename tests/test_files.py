"""Files and folders appear whole or not at all."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from nnunet_cel.files import (
    locked,
    new_folder,
    read_json,
    read_table,
    sha256,
    to_csv,
    to_json,
    write_whole,
)

WORDS = {"what": "data set", "mark": "mark.json"}


def names(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def write_folder(place: Path, name: str = "mark.json", **options: Any) -> None:
    """Write a folder with one file."""
    with new_folder(place, **WORDS, **options) as unfinished:
        (unfinished / name).touch()


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    """Until the block ends, the folder is not there; an empty one is no loss."""
    place = tmp_path / "deep" / "out"

    with new_folder(place, **WORDS) as unfinished:
        (unfinished / "a.txt").write_text("a")
        assert not place.exists()

    assert names(place) == ["a.txt"]
    assert names(place.parent) == ["out"]
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty")
    with pytest.raises(FileExistsError, match=r"The data set .*empty exists .*--over"):
        write_folder(tmp_path / "empty")


def test_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    """Ctrl-C in the block leaves what was there, and nothing else."""
    place = tmp_path / "out"
    write_folder(place)

    def fail() -> None:
        with new_folder(place, **WORDS, overwrite=True) as unfinished:
            (unfinished / "new.txt").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert names(tmp_path) == ["out"]
    assert names(place) == ["mark.json"]


def test_only_earlier_results_are_replaced(tmp_path: Path) -> None:
    """A folder of anything else, a file, or what is read stays whatever the options."""
    place = tmp_path / "thesis"
    place.mkdir()
    (place / "thesis.txt").touch()
    write_folder(tmp_path / "out")

    for target in (place, place / "thesis.txt"):
        with pytest.raises(ValueError, match="Only an earlier data set is replaced"):
            write_folder(target, overwrite=True)
    for inner in (".", "images", "images/a.nii"):
        read = tmp_path / "out" / inner
        with pytest.raises(ValueError, match="folder of its own"):
            write_folder(tmp_path / "out", inputs=[read], overwrite=True)

    assert names(place) == ["thesis.txt"]
    assert names(tmp_path / "out") == ["mark.json"]


def test_second_command_does_not_replace_the_first(tmp_path: Path) -> None:
    """What appeared in the meantime stays, and the later command fails."""
    place = tmp_path / "out"

    def late() -> None:
        with new_folder(place, **WORDS) as unfinished:
            (unfinished / "late").touch()
            write_folder(place, "early")

    with pytest.raises(OSError, match=r"not empty: .*out"):
        late()

    assert names(place) == ["early"]
    assert names(tmp_path) == ["out"]


def test_links_are_not_followed_out_of_a_folder(tmp_path: Path) -> None:
    """The folder behind a link is replaced, and nothing that links in it lead to."""
    outside, place = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    write_folder(place)
    (place / "inner").symlink_to(outside)
    (tmp_path / "a.txt").symlink_to(outside / "precious")
    (tmp_path / "link").symlink_to(place)

    write_folder(tmp_path / "link", overwrite=True)
    write_whole(tmp_path / "a.txt", "new")

    assert (tmp_path / "link").is_symlink()
    assert names(place) == ["mark.json"]
    assert (outside / "precious").read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_full_disk_keeps_the_old_file_and_names_it(tmp_path: Path) -> None:
    """Where no more than some bytes can be written, the old file stays."""
    file = tmp_path / "a.txt"
    file.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match=f"Could not write {file}: File too large"):
            write_whole(file, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    assert file.read_text() == "old"
    write_whole(file, to_json({"ä": [1]}))
    assert file.read_text(encoding="utf-8") == '{\n    "ä": [\n        1\n    ]\n}\n'
    assert names(tmp_path) == ["a.txt"]


def test_sha256_of_files_and_series(tmp_path: Path) -> None:
    """A file has its known digest, a folder one that depends on all its files."""
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert sha256(file) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )

    before = sha256(tmp_path)
    (tmp_path / "b").write_bytes(b"d")
    assert sha256(tmp_path) != before


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    """Damaged files, and files nested too deeply, end in a message, not in a crash."""
    path = tmp_path / "a.json"
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json must be JSON. It is not: "):
            read_json(path)


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    """While one holds it, the other gets the message; afterwards it can have it."""
    file = tmp_path / "lock"

    for _ in range(2):
        with (
            locked(file, "It is taken."),
            pytest.raises(ValueError, match=r"It is taken\."),
            locked(file, "It is taken."),
        ):
            pass


def test_tables_of_spreadsheets_are_read(tmp_path: Path) -> None:
    """With byte order mark, any separator, capitals, quotes, blanks and empty lines."""
    file = tmp_path / "t.csv"
    rows = [["Subject", " Image "], ['"Doe, Jane"', " a.nii "], ["", ""], ["x", "y"]]

    for separator in (",", ";", "\t"):
        text = "\r\n".join(separator.join(row) for row in rows)
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_table(file, required=("subject", "image")) == [
            {"subject": "Doe, Jane", "image": "a.nii"},
            {"subject": "x", "image": "y"},
        ]


def test_cells_that_a_spreadsheet_would_run_come_back(tmp_path: Path) -> None:
    """What is written is what is read; a cell at the end may be missing."""
    file = tmp_path / "a.csv"
    assert to_csv([["=1+1", -2.5, "a,b"], ["", 1]]) == '\'=1+1,-2.5,"a,b"\n,1\n'
    file.write_text(to_csv([["a", "b"], ["=1+1", "-x"], ["@a", "'b"], ["c", ""]]))

    rows = read_table(file, required=("a",))

    values = [tuple(row.values()) for row in rows]
    assert values == [("=1+1", "-x"), ("@a", "'b"), ("c", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Got nothing in row 1"),
        (b"subject,picture\nx,y\n", r"columns subject, image.*Got subject, picture"),
        (b"subject,image,image\n", "each once"),
        (b"subject,image\n\nx,\n", "without an empty cell.* row 2"),
        (b"subject,image\nx,y,z\n", r"Got x, y, z in row 2\."),
        (b"subject,image\nx,\xff\xfe\n", "cannot be read"),
        (b'subject,image\n"x,y\n', "Got x,y in row 2"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file, and the line where there is one."""
    file = tmp_path / "t.csv"
    file.write_bytes(content)

    with pytest.raises(ValueError, match=message) as error:
        read_table(file, required=("subject", "image"))

    assert str(file) in str(error.value)
