"""Files and folders appear whole or not at all."""

from __future__ import annotations

import subprocess
import sys
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


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    """Until the block ends, the folder is not there."""
    place = tmp_path / "deep" / "out"

    with new_folder(place, **WORDS) as unfinished:
        (unfinished / "a.txt").write_text("a")
        assert not place.exists()

    assert names(place) == ["a.txt"]
    assert names(place.parent) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_folder_leaves_the_old_one(
    tmp_path: Path, error: type[BaseException]
) -> None:
    """An error in the block leaves what was there, and nothing else."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "old.txt").touch()
    (place / "mark.json").touch()

    def fail() -> None:
        with new_folder(place, **WORDS, overwrite=True) as unfinished:
            (unfinished / "new.txt").touch()
            raise error

    with pytest.raises(error):
        fail()

    assert names(tmp_path) == ["out"]
    assert names(place) == ["mark.json", "old.txt"]


def write_folder(place: Path, name: str = "mark.json", **options: Any) -> None:
    """Write a folder with one file."""
    with new_folder(place, **WORDS, **options) as unfinished:
        (unfinished / name).touch()


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    """The message names the folder and the cure; an empty folder is no loss."""
    place = tmp_path / "out"
    place.mkdir()
    write_folder(place)

    with pytest.raises(FileExistsError, match=f"The data set {place} exists .*--over"):
        write_folder(place)
    write_folder(place, overwrite=True)


def test_only_earlier_results_are_replaced(tmp_path: Path) -> None:
    """A folder of anything else, or a file, stays whatever the options."""
    place = tmp_path / "thesis"
    place.mkdir()
    (place / "thesis.txt").touch()

    for target in (place, place / "thesis.txt"):
        with pytest.raises(ValueError, match="Only an earlier data set is replaced"):
            write_folder(target, overwrite=True)
    assert names(place) == ["thesis.txt"]


@pytest.mark.parametrize("inner", [".", "images", "images/a.nii"])
def test_folder_that_is_read_is_not_written(tmp_path: Path, inner: str) -> None:
    """Neither itself nor a folder around what is read."""
    write_folder(tmp_path / "out")

    with pytest.raises(ValueError, match="folder of its own"):
        write_folder(
            tmp_path / "out", inputs=[tmp_path / "out" / inner], overwrite=True
        )

    assert names(tmp_path / "out") == ["mark.json"]


def test_second_command_does_not_replace_the_first(tmp_path: Path) -> None:
    """What appeared in the meantime stays, and the later command fails."""
    place = tmp_path / "out"

    def late() -> None:
        with new_folder(place, **WORDS) as unfinished:
            (unfinished / "late").touch()
            write_folder(place, "early")

    with pytest.raises(FileExistsError, match="written by another command"):
        late()

    assert names(place) == ["early"]
    assert names(tmp_path) == ["out"]


def test_link_stays_a_link(tmp_path: Path) -> None:
    """The folder behind a link is replaced, not the link."""
    write_folder(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "disk")

    write_folder(tmp_path / "link", overwrite=True)

    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk") == ["mark.json"]


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing but the file is left."""
    file = tmp_path / "a.json"

    write_whole(file, b"1")
    write_whole(file, to_json({"ä": [1]}))

    assert file.read_text(encoding="utf-8") == '{\n    "ä": [\n        1\n    ]\n}\n'
    assert names(tmp_path) == ["a.json"]


def test_full_disk_keeps_the_old_file_and_names_it(tmp_path: Path) -> None:
    """Where no more than some bytes can be written, the old file stays."""
    file = tmp_path / "a.txt"
    file.write_text("old")
    code = (
        "import resource, sys\n"
        "from nnunet_cel.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_whole(sys.argv[1], 'x' * 5000)\n"
        "except OSError as error:\n    print(error)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )

    assert f"Could not write {file}: File too large." in result.stdout
    assert file.read_text() == "old"
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


def test_links_in_a_replaced_folder_are_not_followed(tmp_path: Path) -> None:
    """Neither a link in the folder nor one in place of a file leads out of it."""
    outside, place = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    write_folder(place)
    (place / "link").symlink_to(outside)
    (tmp_path / "a.txt").symlink_to(outside / "precious")

    write_folder(place, overwrite=True)
    write_whole(tmp_path / "a.txt", "new")

    assert names(place) == ["mark.json"]
    assert (outside / "precious").read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    """Damaged files, and files nested too deeply, end in a message, not in a crash."""
    path = tmp_path / "a.json"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"a\.json must be JSON. It is not: "):
        read_json(path)


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    """While one holds it, the other gets the message; afterwards it can have it."""
    file = tmp_path / "lock"
    other = (
        "from nnunet_cel.files import locked\n"
        f"with locked({str(file)!r}, 'It is taken.'): pass"
    )

    with locked(file, "It is taken."):
        done = subprocess.run([sys.executable, "-c", other], capture_output=True)
        assert b"ValueError: It is taken." in done.stderr

    assert subprocess.run([sys.executable, "-c", other]).returncode == 0


def test_no_cell_is_a_formula() -> None:
    """Text that a spreadsheet would run is marked as text, numbers stay."""
    assert to_csv([["=1+1", -2.5, "a,b"], ["", 1]]) == '\'=1+1,-2.5,"a,b"\n,1\n'


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, separator: str) -> None:
    """With byte order mark, any separator, capitals, quotes, blanks and empty lines."""
    file = tmp_path / "t.csv"
    rows = [["Subject", " Image "], ['"Doe, Jane"', " a.nii "], ["", ""], ["x", "y"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())

    assert read_table(file, required=("subject", "image")) == [
        {"subject": "Doe, Jane", "image": "a.nii"},
        {"subject": "x", "image": "y"},
    ]


def test_cells_that_a_spreadsheet_would_run_come_back(tmp_path: Path) -> None:
    """What is written is what is read; a cell at the end may be missing."""
    file = tmp_path / "a.csv"
    file.write_text(to_csv([["a", "b"], ["=1+1", "-x"], ["@a", "'b"], ["c", ""]]))

    rows = read_table(file, required=("a",))

    assert [tuple(row.values()) for row in rows] == [
        ("=1+1", "-x"),
        ("@a", "'b"),
        ("c", ""),
    ]


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
