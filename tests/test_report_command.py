"""Tests of the command report, as users run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, write_volume


def run(*arguments: object) -> int:
    """Run the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An evaluation of two cases, made by the command."""
    voxels = np.zeros((10, 10, 10), dtype=np.uint8)
    voxels[2:5, 2:5, 2:5] = 1
    for folder in ("p", "r", "images"):
        (tmp_path / folder).mkdir()
        for case in ("a", "b"):
            ending = "_0000.nii.gz" if folder == "images" else ".nii.gz"
            path = tmp_path / folder / f"{case}{ending}"
            write_volume(path, Volume(voxels, np.eye(4)))
    folders = (tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert run("evaluate", *folders, "-np", 1, "--no-progress") == 0
    return tmp_path / "out"


def test_report_writes_and_says_what(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes draw the pictures; page, size and folder are named."""
    page = tmp_path / "reports" / "my report.html"
    images = ("--images", tmp_path / "images", "-np", 2, "--title", "Of <two> cases")

    assert run("report", out, "-o", page, *images) == 0

    printed = capsys.readouterr().out
    assert f"Wrote {page} (" in printed
    assert f"Figures and tables are in {page.parent / 'my report_files'}" in printed
    text = page.read_text(encoding="utf-8")
    assert "<title>Of &lt;two&gt; cases</title>" in text
    assert text.count("data:image/jpeg") == 8
    assert "No images were given" not in text


def test_models_are_compared_by_name(out: Path, tmp_path: Path) -> None:
    """Names are given to the models in their order."""
    other = tmp_path / "other"
    assert run("evaluate", tmp_path / "p", tmp_path / "r", "-o", other, "-np", 1) == 0
    page = tmp_path / "report.html"
    options = ("--compare", other, "--names", "ours", "theirs", "--lesions", 0)

    assert run("report", out, "-o", page, *options) == 0
    assert "theirs &minus; ours" in page.read_text(encoding="utf-8")


def test_mistakes_end_in_one_line(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is named, with exit status 1 and without a traceback."""
    page = tmp_path / "report.html"
    for arguments, text in (
        ((tmp_path, "-o", page), "no evaluation"),
        ((out, "-o", page, "--images", tmp_path / "x"), "no folder"),
        ((out, "-o", page, "--images", tmp_path / "images", "--channel", 3), "0003"),
        ((out, "-o", page, "--model", tmp_path / "p"), "training log"),
        ((out, "-o", tmp_path / "report.docx"), "ends in .html"),
    ):
        status = run("report", *arguments)
        error = capsys.readouterr().err
        assert status == 1
        assert text in error
        assert "Traceback" not in error
