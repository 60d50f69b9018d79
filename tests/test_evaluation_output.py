"""Tests of the folder that results are written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_cel.evaluation.output import new_results


def write(folder: Path, *, inputs: tuple[Path, ...] = (), overwrite: bool) -> None:
    """Write results with one file."""
    with new_results(
        folder, what="evaluation", mark="cases.csv", inputs=inputs, overwrite=overwrite
    ) as partial:
        (partial / "cases.csv").write_text("new")


def test_results_are_replaced_only_when_told_so(tmp_path: Path) -> None:
    """Earlier results stay unless they are to be replaced."""
    folder = tmp_path / "out folder"
    write(folder, overwrite=False)
    (folder / "cases.csv").write_text("old")

    with pytest.raises(FileExistsError, match="--overwrite"):
        write(folder, overwrite=False)
    assert (folder / "cases.csv").read_text() == "old"
    write(folder, overwrite=True)
    assert (folder / "cases.csv").read_text() == "new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_are_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    """The folder that is read, and any folder around it, is no place for results."""
    data = tmp_path / "data" / "labels"
    data.mkdir(parents=True)

    for folder in (data, data.parent):
        with pytest.raises(ValueError, match="folder of its own"):
            write(folder, inputs=(data,), overwrite=overwrite)
    assert data.is_dir()


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    """Only earlier results and empty folders make room for new ones."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").touch()

    with pytest.raises(ValueError, match=r"no cases\.csv"):
        write(folder, overwrite=True)
    assert (folder / "thesis.txt").exists()

    (folder / "thesis.txt").unlink()
    write(folder, overwrite=True)
    assert (folder / "cases.csv").exists()


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """If the work fails, there is no folder, not even a hidden one."""

    def fail() -> None:
        with new_results(
            tmp_path / "out", what="evaluation", mark="cases.csv", inputs=()
        ) as partial:
            (partial / "cases.csv").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
