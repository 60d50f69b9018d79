"""The demo: the whole chain on tiny subjects, refusing foreign folders, going on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from nnunet_cel import cli
from nnunet_cel.phantom import demo


def test_foreign_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with other things in it is left alone, also with --restart."""
    (tmp_path / "thesis.txt").write_text("years of work")

    status = cli.main(["demo", "-o", str(tmp_path), "--restart"])

    assert status == 1
    assert "must be empty or an earlier demo's" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_failing_command_ends_the_demo_with_its_log(tmp_path: Path) -> None:
    """The message names the command, its log and the end of what it printed."""
    log = tmp_path / "log.txt"

    with pytest.raises(ValueError, match=r"nnUNetv2_predict ended with exit status 2"):
        demo._call(["A=1", "nnUNetv2_predict", "--no-such-option"], tmp_path, log)

    assert "usage: nnUNetv2_predict" in log.read_text()


@pytest.mark.slow
def test_whole_demo(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Subjects of 4 mm, one iteration: every step runs, table and pictures appear."""
    monkeypatch.setattr(demo, "SPACING", "4")
    scans = {"isbi2015": 3, "msseg2016": 2, "wmh2017": 1}
    monkeypatch.setattr(demo, "SCANS", scans)
    monkeypatch.setattr(demo, "STRIP", "--no-strip")
    monkeypatch.setattr(demo, "TEST_SUBJECTS", 2)
    monkeypatch.setattr(
        demo, "SCHEDULES", {demo.WMH: {"max_epochs": 1}, demo.CEL: {"max_epochs": 1}}
    )
    monkeypatch.setattr(
        demo,
        "SETTINGS",
        {"training_window": 32, "iterations_per_epoch": 1, "validation_iterations": 1},
    )
    out = tmp_path / "with space"

    assert cli.main(["demo", "-o", str(out), "-device", "cpu"]) == 0

    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    *cases, mean = [row["case"] for row in rows]
    assert mean == "mean"
    assert all(case.startswith("CEL_") for case in cases)
    linked = list(csv.DictReader((out / "linking_table.csv").open()))
    tested = {row["subject"] for row in linked if row["split"] == "test"}
    assert tested == {"CEL_008", "CEL_009"}  # on every machine
    models = {"pretrained_only", "direct", "fine_tuned"}
    assert set(rows[0]) == {"case"} | models
    assert all(0 <= float(rows[0][model]) <= 1 for model in models)
    assert (out / "pictures" / f"{cases[0]}.png").stat().st_size > 10_000
    assert cases[0] in (out / "report.html").read_text(encoding="utf-8")
    log = (out / "logs" / "fine_tune.log").read_text()
    assert "Loading pretrained weights from file" in log
    assert "Loading pretrained" not in (out / "logs" / "direct.log").read_text()

    # an interrupted demo goes on where it was, with what is there
    (out / "done" / "table").unlink()
    (out / "table.txt").unlink()
    capsys.readouterr()
    assert cli.main(["demo", "-o", str(out), "-device", "cpu"]) == 0
    assert "DSC of unseen CE-T1w subjects" in capsys.readouterr().out
    assert json.loads((out / "nnunet_cel_demo.json").read_text())["device"] == "cpu"
