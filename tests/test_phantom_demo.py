"""The demo: the whole chain on tiny subjects, refusing foreign folders, going on."""

from __future__ import annotations

import csv
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

    with pytest.raises(ValueError, match=r"exit status 3: echo(.|\n)+in raw"):
        demo.call('echo "in $nnUNet_raw"; exit 3', tmp_path, log)

    assert log.read_text() == "in raw\n"


@pytest.mark.campaign
def test_whole_demo(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Subjects of 4 mm, one iteration: every step runs, table and pictures appear."""
    steps = []
    for step in demo.STEPS:
        if isinstance(step, str):
            for normal, small in (
                *(("--spacing 2", "--spacing 4"), ("spacing 2 2 2", "spacing 4 4 4")),
                *(("isbi2015 -n 5", "isbi2015 -n 3"), ("--bet", "--no-strip")),
                *(("wmh2017 -n 2", "wmh2017 -n 1"), ("-n 12", "-n 9")),
            ):
                step = step.replace(normal, small)
        steps.append(step)
    monkeypatch.setattr(demo, "STEPS", steps)
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

    printed = capsys.readouterr().out
    assert "\n[7/22] nnunet-cel convert cel sources/cases.csv" in printed
    assert "DEVICE" not in printed
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    *cases, mean = [row["case"] for row in rows]
    assert mean == "mean"
    with (out / "Dataset502_CEL_linking_table.csv").open() as file:
        linked = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert {row["subject"] for row in linked} == {"CEL_008", "CEL_009"}  # everywhere
    assert {row["case"] for row in linked} == set(cases)
    assert set(rows[0]) == {"case", *demo.MODELS}
    assert all(0 <= float(rows[0][model]) <= 1 for model in demo.MODELS)
    assert (out / "pictures" / f"{cases[0]}.png").stat().st_size > 10_000
    assert cases[0] in (out / "report.html").read_text(encoding="utf-8")
    assert "Loading pretrained weights from file" in (out / "logs/13.log").read_text()
    assert "Loading pretrained" not in (out / "logs/14.log").read_text()

    # an interrupted demo goes on where it was, with what is there
    (out / "logs" / f"{len(steps)}.done").unlink()
    (out / "table.csv").unlink()
    assert cli.main(["demo", "-o", str(out), "-device", "cpu"]) == 0
    assert "DSC of unseen CE-T1w subjects" in capsys.readouterr().out
