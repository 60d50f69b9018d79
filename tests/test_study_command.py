"""Tests of the command `nnunet-cel protocol`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from studies import DATA

from nnunet_cel import cli
from nnunet_cel.study import workflow
from nnunet_cel.study.study import read_study


def test_init_writes_a_study_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And does not replace one."""
    path = tmp_path / "my study.yaml"

    assert cli.main(["protocol", "init", str(path)]) == 0
    assert read_study(path).splits == 1
    path.write_text("mine")
    assert cli.main(["protocol", "init", str(path)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_run_is_handed_to_the_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its status is the command's, and what to do after a failure is said."""
    seen = {}

    def run(study: object, out: Path, **options: object) -> int:
        seen.update(options, out=out)
        return 3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workflow, "run_workflow", run)
    content = {"data": DATA, "device": "cpu", "tables": [6], "figures": []}
    Path("a.yaml").write_text(yaml.safe_dump({**content, "networks": ["unet"]}))
    command = ["protocol", "run", "--config", "a.yaml", "--cores", "3", "--gpus", "2"]

    assert cli.main([*command, "--", "--quiet", "all"]) == 3
    assert seen == {
        **{"out": tmp_path / "a_study", "cores": 3, "gpus": 2, "profile": None},
        **{"dry_run": False, "options": ["--quiet", "all"]},
    }
    assert "the same command goes on from there" in capsys.readouterr().out


@pytest.mark.parametrize("step", ["tables", "figures", "settings"])
def test_steps_need_a_study(
    step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are for the folder of one that was begun."""
    line = ["protocol", step, str(tmp_path), *["Dataset501_WMH"] * (step == "settings")]

    assert cli.main(line) == 1
    assert "There is no study in" in capsys.readouterr().err


def test_on_gpu_runs_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind -- is not read as options."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["protocol", "on-gpu", "2", "--", "bash", "-c", "exit 5"]) == 5
