"""Tests of the workflow: its jobs with stand-ins for the commands, then for real.

Stand-ins write what the workflow waits for and keep a list of how they were called.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from studies import DATA, NETWORKS, make_study

from nnunet_cel import cli
from nnunet_cel.files import locked
from nnunet_cel.study.study import Study
from nnunet_cel.study.workflow import (
    begin,
    continued_study,
    run_on_gpu,
    run_workflow,
    workflow_file,
)

pytest.importorskip("snakemake")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of Snakemake are its own

STAND_IN = """#!/bin/bash
name=$(basename "$0")
printf '%s\\n' "$name $*" >> calls.txt
output() { while [ $# -gt 0 ]; do [ "$1" = -o ] && echo "$2"; shift; done; }
case "$name $1" in
  nnUNetv2_predict* | "nnunet-cel evaluate") mkdir -p "$(output "$@")" ;;
  "nnunet-cel best-fold") echo "$nnUNet_results/Dataset501_WMH/x/fold_3/best.pth" ;;
  "nnunet-cel protocol")
    case "$2" in
      tables) for end in .csv .md .tex _cases.csv _tests.csv; do
          mkdir -p tables; touch "tables/$5$end"; done ;;
      figures) mkdir -p "figures/$5" ;;
    esac ;;
  nnUNetv2_train*)
    [ -e "fails_$2" ] && exit 7
    case "$1" in 501) dataset=Dataset501_WMH ;; *) dataset=Dataset$1_CEL ;; esac
    model="$nnUNet_results/$dataset/FCADenseTrainer__FCADensePlans__$2/fold_$3"
    mkdir -p "$model"
    touch "$model/checkpoint_best.pth"
    if [ -e slow ]; then touch training; sleep 4; fi
    echo "end $2" >> calls.txt ;;
esac
"""


def study(**content: Any) -> Study:
    """Return a study of Table 6 on phantoms, on the CPU."""
    small = {"device": "cpu", "tables": [6], "figures": [], "training": {"folds": 1}}
    return make_study(**{**small, "networks": ["fcadensenet", "unet"], **content})


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace all commands that the workflow calls; the folder they are in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    steps = ("plan_and_preprocess", "train", "predict")
    for name in ("nnunet-cel", *(f"nnUNetv2_{step}" for step in steps)):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))
    for name in ("PATH", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # as before, in the end
    return folder


def calls(out: Path, command: str = "") -> list[str]:
    """Return how a command was called, without its name; or all lines."""
    lines = (out / "calls.txt").read_text().splitlines()
    return [line[len(command) :].strip() for line in lines if line.startswith(command)]


def test_other_folders_and_studies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What models depend on cannot change; tables, networks and resources may."""
    monkeypatch.setattr("snakemake.cli.main", lambda _: None)
    out = tmp_path / "out"
    assert run_workflow(study(seed=1), out) == 0
    assert run_workflow(study(), out) == 0  # nothing is done yet
    (out / "done").mkdir()
    more = study(tables=[7], networks=["unet"], resources={"train": {"threads": 1}})
    assert run_workflow(more, out) == 0
    with pytest.raises(ValueError, match="begun with another seed and training"):
        run_workflow(study(seed=1, training={"folds": 2}), out)
    with locked(out / ".lock", "taken"), pytest.raises(ValueError, match="Another run"):
        run_workflow(study(), out)

    with pytest.raises(FileExistsError, match="must be empty or an earlier run's"):
        run_workflow(study(), tmp_path)
    monkeypatch.setitem(sys.modules, "snakemake.cli", None)
    with pytest.raises(ImportError, match=r"nnunet-cel\[protocol\]"):
        run_workflow(study(), out)


def test_steps_know_their_study_and_find_linked_scans(tmp_path: Path) -> None:
    """Scans that exist are not copied; a second run finds their link."""
    dataset = tmp_path / "with space" / "Dataset510_Mine"
    dataset.mkdir(parents=True)
    ours = study(data={**DATA, "wmh": {"dataset": str(dataset)}}, seed=4)
    for _ in range(2):
        begin(ours, tmp_path / "out", run={"gpus": 1})

    assert (tmp_path / "out" / "raw" / dataset.name).resolve() == dataset.resolve()
    assert continued_study(tmp_path / "out") == ours
    with pytest.raises(FileNotFoundError, match="There is no study"):
        continued_study(tmp_path / "out" / "raw")


def test_failing_job_does_not_destroy_others(stand_ins: Path, tmp_path: Path) -> None:
    """What does not need it is finished; later only what is left or new is done."""
    out = tmp_path / "my $(study) 'of' today; *"  # a shell would take it apart
    begin(study(), out, run={})
    (out / "fails_2d_unet").touch()
    assert run_workflow(study(), out, cores=4) != 0
    assert calls(out, "nnunet-cel evaluate")
    assert not (out / "tables" / "table6.md").exists()

    (out / "fails_2d_unet").unlink()
    (out / "calls.txt").unlink()
    assert run_workflow(study(), out, cores=4) == 0
    assert {call.split()[1] for call in calls(out, "nnUNetv2_train")} == {"2d_unet"}
    assert (out / "tables" / "table6.md").exists()

    (out / "calls.txt").unlink()
    more = study(tables=[4, 6, 7], figures=[9], resources={"train": {"mem_mb": 9}})
    assert run_workflow(more, out, cores=4) == 0
    trained = [call.split() for call in calls(out, "nnUNetv2_train")]
    weights = ("2d_alpha10", "2d_alpha25", "2d_alpha50", "2d_alpha90")
    assert sorted(call[1] for call in trained) == [*weights, "2d_ce", "2d_dice"]
    best = "results/pretrained/Dataset501_WMH/x/fold_3/best.pth"
    assert all(best in call for call in calls(out, "nnUNetv2_train"))
    pretrained = [call for call in calls(out, "nnUNetv2_predict") if "-d 501" in call]
    assert len(pretrained) == 2
    assert all("-f 3 " in call for call in pretrained)
    assert (out / "tables" / "table7.md").exists()
    assert (out / "figures" / "figure9").is_dir()

    before = calls(out)
    assert run_workflow(more, out, cores=4) == 0
    assert calls(out) == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"splits": 2, "networks": ["unet"], "nnunet": {"configurations": ["2d"]}},
            {"phantom": 2, "convert_wmh": 1, "convert_cel": 2, "plan": 3, "pretrain": 5}
            | {"best_fold": 1, "finetune": 2, "plan_nnunet": 2, "train_nnunet": 2}
            | {"predict": 4, "evaluate": 4, "table": 1, "all": 1, "total": 30},
        ),
        # direct training needs no pretraining
        (
            {"tables": [5], "networks": ["unet"]},
            {"phantom": 1, "convert_cel": 1, "plan": 1, "direct": 2, "predict": 2}
            | {"evaluate": 2, "table": 1, "all": 1, "total": 11},
        ),
        # the whole paper
        (
            {"tables": list(range(2, 9)), "figures": [7, 8, 9], "networks": NETWORKS},
            {"pretrain": 45, "best_fold": 9, "finetune": 15, "direct": 12}
            | {"predict_pretrained": 6, "predict": 27, "evaluate": 33, "figure": 3}
            | {"evaluate_fold": 30, "table_of_networks": 1, "table": 7, "total": 195}
            | {"phantom": 2, "convert_wmh": 1, "convert_cel": 1, "plan": 2, "all": 1},
        ),
    ],
)
def test_dry_run_counts_jobs_and_writes_nothing(
    content: dict[str, Any],
    expected: dict[str, int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Only what tables and figures need is trained; splits share the pretraining."""
    ours = study(**content, training={}, device="cuda")

    assert run_workflow(ours, tmp_path / "out", dry_run=True) == 0
    said = capfd.readouterr().out
    counts = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", said, re.M)}
    assert counts == expected
    assert "gpu=1" in said
    assert not (tmp_path / "out").exists()


def test_command_sees_its_gpu_only_and_its_status_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of two GPUs that is not taken."""
    line = ["bash", "-c", "exit $CUDA_VISIBLE_DEVICES"]
    for visible, taken, gpu in (("4,6", 1, 4), ("4,6", 0, 6), ("", 0, 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with locked(tmp_path / f"{taken}.lock", "taken"):
            assert run_on_gpu(line, locks=tmp_path, count=2) == gpu


@pytest.mark.campaign
@pytest.mark.parametrize("kill", [os.killpg, os.kill])
def test_killed_run_goes_on(
    kill: Callable[[int, int], None], stand_ins: Path, tmp_path: Path
) -> None:
    """From its checkpoint; a training that lived on is waited for, not doubled."""
    if kill is os.kill and not shutil.which("flock"):
        pytest.skip("this machine has no flock")
    config, out = tmp_path / "study.yaml", tmp_path / "out"
    content = study(networks=["unet"]).model_dump(mode="json", exclude_unset=True)
    config.write_text(yaml.safe_dump(content))
    begin(study(networks=["unet"]), out, run={})
    (out / "slow").touch()
    code = (
        "import sys, sysconfig; sysconfig.get_path = lambda _: sys.argv[1]\n"
        "from nnunet_cel.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    line = [sys.executable, "-c", code, str(stand_ins), "protocol", "run", "--cores=1"]
    line += ["--config", str(config), "--out", str(out)]
    process = subprocess.Popen(line, start_new_session=True)
    end = time.monotonic() + 120
    while not (out / "training").exists():
        assert time.monotonic() < end, "no training began"
        time.sleep(0.1)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    (out / "slow").unlink()

    assert run_workflow(study(networks=["unet"]), out, cores=1) == 0
    first, *others = calls(out, "nnUNetv2_train")
    assert others[0] == f"{first} --c"
    assert not any("--c" in call.split() for call in others[1:])
    lines = [line for line in calls(out) if line.startswith(("nnUNetv2_train", "end"))]
    assert lines[1].startswith("end") == (kill is os.kill)


@pytest.mark.campaign
def test_jobs_of_slurm_ask_for_what_the_study_says(
    stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads, memory, time, GPU and partition of a job reach sbatch."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    asked = tmp_path / "sbatch.txt"
    fakes = {"sbatch": f'echo "$@" >> {asked}; exit 1', "sacctmgr": "echo us"}
    for name, text in fakes.items():
        (stand_ins / name).write_text(f"#!/bin/bash\n{text}\n")
        (stand_ins / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_ins}{os.pathsep}{os.environ['PATH']}")
    asks = {"threads": 6, "mem_mb": 7000, "runtime": 90, "gpu": 1}
    ours = study(device="cuda", resources={"convert": asks})
    more = ["--default-resources", "slurm_partition=long", "slurm_account=us"]
    more += ["--slurm-init-seconds-before-status-checks", "1"]

    assert run_workflow(ours, tmp_path / "out", profile="slurm", options=more) != 0
    line = next(line for line in asked.read_text().splitlines() if "phantom" in line)
    for option in ("--cpus-per-task=6", "--mem 7000", "-t 90", "--gpus=1", "-p long"):
        assert option in line, line


@pytest.mark.campaign
def test_study_is_really_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two networks of the demo, from scans to tables, with all kinds of jobs."""
    pytest.importorskip("nilearn")
    monkeypatch.chdir(tmp_path)
    demo = workflow_file("config", "demo.yaml").read_text(encoding="utf-8")
    part: dict[str, list[Any]] = {"tables": [2, 3, 4, 5, 6, 7], "figures": [7, 8]}
    part["networks"] = ["fcadensenet", "transunet"]
    Path("a part.yaml").write_text(yaml.safe_dump(yaml.safe_load(demo) | part))
    out = tmp_path / "a part_study"
    command = ["protocol", "run", "--config", "a part.yaml"]

    assert cli.main([*command, "--cores", "2"]) == 0, capfd.readouterr()
    for number in part["tables"]:
        values = pd.read_csv(out / "tables" / f"table{number}.csv")
        networks = (
            ["Focal", "CE", "Dice"] if number == 7 else ["FCA-DenseNet", "TransUNet"]
        )
        assert list(dict.fromkeys(values["method"])) == networks
        for row in values.itertuples() if number > 2 else ():
            cases = pd.read_csv(out / row.evaluations / "cases.csv")
            mean = cases[row.metric].mean()
            assert row.mean == pytest.approx(mean, nan_ok=True)

    assert len(list((out / "figures" / "figure7").glob("*.png"))) > 1
    assert (out / "figures" / "figure8" / "finetuned.csv").is_file()
    assert cli.main([*command, "--dry-run"]) == 0
    assert "Nothing to be done" in capfd.readouterr().out
