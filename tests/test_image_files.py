"""Finding files: what is found, what is left alone, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnunet_cel.image_files import find_files, find_unique, refuse_missing

IMAGE = re.compile(r"/(?P<name>\w+)_flair\.nii(?:\.gz)?$")


def touch(root: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_of_all_formats_are_found_and_dirt_is_not(tmp_path: Path) -> None:
    """Only what is below the root is judged by its name."""
    touch(
        tmp_path / ".root",
        *("b/x.nii.gz", "a/y.NII", "z.mha", "a/q.nrrd"),
        *("._x.nii.gz", "__MACOSX/a/x.nii.gz", ".git/x.nii", "x.nii.gz.part", "x.txt"),
    )

    found = find_files(tmp_path / ".root")

    assert [file.relative_to(tmp_path / ".root").as_posix() for file in found] == [
        *("a/q.nrrd", "a/y.NII", "b/x.nii.gz", "z.mha")
    ]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    """A link to a folder is followed, one that leads back is no endless loop."""
    touch(tmp_path, "disk/x.nii", "root/y.nii")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "root")

    names = [file.name for file in find_files(tmp_path / "root")]

    assert names == ["x.nii", "y.nii"]


def test_missing_root_is_refused(tmp_path: Path) -> None:
    """The message names the folder."""
    with pytest.raises(FileNotFoundError, match="/nothing"):
        find_files(tmp_path / "nothing")


def test_files_are_keyed_and_copies_refused(tmp_path: Path) -> None:
    """Files that do not match are left out; two of the same case are both named."""
    touch(tmp_path, "a_flair.nii", "b_flair.nii.gz", "b_t1.nii.gz")
    found = find_unique(find_files(tmp_path), IMAGE, lambda m: m["name"], what="images")
    assert {key: file.name for key, file in found.items()} == {
        "a": "a_flair.nii",
        "b": "b_flair.nii.gz",
    }

    touch(tmp_path, "copy/a_flair.nii.gz")
    with pytest.raises(
        ValueError, match=r"among the images\. .*:\n.*/a_flair\.nii\n.*/copy/.*gz\nName"
    ):
        find_unique(find_files(tmp_path), IMAGE, lambda m: m["name"], what="images")


def test_all_that_lack_something_are_named() -> None:
    """The list is whole and sorted; without any there is no error."""
    refuse_missing([], what="a mask", cure="Draw one.")
    with pytest.raises(ValueError, match=r"have a mask\..*\n  a\n  b\nDraw one\."):
        refuse_missing([Path("b"), Path("a")], what="a mask", cure="Draw one.")
