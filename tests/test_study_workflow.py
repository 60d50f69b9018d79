"""Tests of the workflow: its jobs with stand-ins for the commands, then for real.

Stand-ins write what the workflow waits for and keep a list of how they were called.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from studies import DATA, NETWORKS, make_study

from nnunet_cel import cli
from nnunet_cel.files import locked
from nnunet_cel.study import workflow
from nnunet_cel.study.study import Study
from nnunet_cel.study.workflow import (
    begin,
    continued_study,
    only_run,
    run_on_gpu,
    run_workflow,
    workflow_file,
)

STAND_IN = """#!/bin/bash
name=$(basename "$0")
printf '%s\\n' "$name $*" >> calls.txt
output() { while [ $# -gt 0 ]; do [ "$1" = -o ] && echo "$2"; shift; done; }
case "$name $1" in
  nnUNetv2_predict*) mkdir -p "$(output "$@")" ;;
  "nnunet-cel evaluate") mkdir -p "$(output "$@")" ;;
  "nnunet-cel best-fold") echo "$nnUNet_results/Dataset501_WMH/x/fold_3/best.pth" ;;
  "nnunet-cel protocol")
    case "$2" in
      tables) for end in .csv .md .tex _cases.csv _tests.csv; do
          mkdir -p tables; touch "tables/$5$end"; done ;;
      figures) mkdir -p "figures/$5" ;;
    esac ;;
  nnUNetv2_train*)
    [ -e "fails_$2" ] && exit 7
    results=$(echo "$nnUNet_results")
    case "$1" in 501) dataset=Dataset501_WMH ;; *) dataset=Dataset$1_CEL ;; esac
    model="$results/$dataset/FCADenseTrainer__FCADensePlans__$2/fold_$3"
    mkdir -p "$model"
    touch "$model/checkpoint_best.pth"
    if [ -e slow ]; then
      ps -o ppid= -p $PPID > parent.txt
      touch training
      sleep 4
    fi
    echo "end $2" >> calls.txt ;;
esac
"""

COMMANDS = [
    *("nnunet-cel", "nnUNetv2_plan_and_preprocess"),
    *("nnUNetv2_train", "nnUNetv2_predict"),
]


def study(**content: Any) -> Study:
    """Return a study on phantoms, on the CPU."""
    return make_study(**{"device": "cpu", **content})


SMALL = study(
    tables=[6], figures=[], networks=["fcadensenet", "unet"], training={"folds": 1}
)
ONE = study(tables=[6], figures=[], networks=["unet"], training={"folds": 1})


def test_other_folders_and_studies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What models depend on cannot change; tables, networks and resources may."""
    pytest.importorskip("snakemake")
    monkeypatch.setattr(workflow, "_wait", lambda *_: 0)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="must be empty or an earlier run's"):
        run_workflow(ONE, tmp_path)

    out = tmp_path / "out"
    assert run_workflow(study(seed=1), out) == 0
    assert run_workflow(study(), out) == 0  # nothing is done yet
    (out / "done").mkdir()
    more = study(tables=[6], networks=["unet"], resources={"train": {"threads": 1}})
    assert run_workflow(more, out) == 0
    with pytest.raises(ValueError, match="begun with another seed and training"):
        run_workflow(study(seed=1, training={"folds": 2}), out)


def test_study_is_read_back(tmp_path: Path) -> None:
    """Steps of the workflow know what they are part of."""
    begin(make_study(seed=4), tmp_path, run={"gpus": 1})

    assert continued_study(tmp_path) == make_study(seed=4)
    with pytest.raises(FileNotFoundError, match="There is no study"):
        continued_study(tmp_path / "raw")


def test_existing_data_set_is_linked(tmp_path: Path) -> None:
    """Its scans are not copied; a second run finds its link."""
    dataset = tmp_path / "with space" / "Dataset510_Mine"
    dataset.mkdir(parents=True)
    ours = make_study(data={**DATA, "wmh": {"dataset": str(dataset)}})
    for _ in range(2):
        begin(ours, tmp_path / "out", run={})

    assert (tmp_path / "out" / "raw" / dataset.name).resolve() == dataset.resolve()


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace all commands that the workflow calls; the folder they are in."""
    pytest.importorskip("snakemake")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))
    return folder


def calls(out: Path, command: str) -> list[str]:
    """Return how a command was called, without its name."""
    lines = (out / "calls.txt").read_text().splitlines()
    return [line[len(command) + 1 :] for line in lines if line.startswith(command)]


def test_whole_paper_is_run(stand_ins: Path, tmp_path: Path) -> None:
    """Every model once, in a folder whose name a shell would take apart."""
    out = tmp_path / "my $(study) 'of' today; *"
    ours = study(
        networks=NETWORKS, training={"folds": 2}, nnunet={"configurations": ["2d"]}
    )

    assert run_workflow(ours, out, cores=8) == 0
    trained = calls(out, "nnUNetv2_train")
    assert len(trained) == len(set(trained)) == 9 * 2 + 12 + 15 + 1
    assert "502 2d 0 -tr nnUNetTrainer -p nnUNetPlans -device cpu" in trained
    # fine-tuning starts from the best fold of the pretraining
    weights = [
        call.partition("-pretrained_weights ")[2]
        for call in trained
        if "-pretrained_weights" in call
    ]
    assert len(weights) == 15
    best = f"{out}/results/pretrained/Dataset501_WMH/x/fold_3/best.pth"
    assert set(weights) == {best}
    predictions = calls(out, "nnUNetv2_predict")
    assert len(predictions) == 6 + 12 + 15 + 1
    pretrained = [call for call in predictions if "-d 501" in call]
    assert len(pretrained) == len([c for c in pretrained if "-f 3 " in c]) == 6
    assert len(calls(out, "nnunet-cel evaluate")) == 6 * 2 + 6 + 12 + 15 + 1
    assert sorted(path.name for path in (out / "tables").glob("*.md")) == [
        *(f"table{number}.md" for number in range(2, 9)),
        "transfer.md",
    ]
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        *("figure7", "figure8", "figure9")
    ]


def test_second_run_does_nothing_and_a_new_table_only_what_is_new(
    stand_ins: Path, tmp_path: Path
) -> None:
    """Finished work is kept, also if resources change."""
    out = tmp_path / "out"
    assert run_workflow(SMALL, out, cores=4) == 0
    before = (out / "calls.txt").read_text()
    assert run_workflow(SMALL, out, cores=2) == 0
    assert (out / "calls.txt").read_text() == before

    more = study(
        **{"tables": [6, 7], "figures": [], "networks": ["fcadensenet", "unet"]},
        **{"training": {"folds": 1}, "resources": {"train": {"mem_mb": 9}}},
    )
    assert run_workflow(more, out, cores=4) == 0
    added = (out / "calls.txt").read_text()[len(before) :]
    assert set(re.findall(r"nnUNetv2_train 502 (\w+)", added)) == {"2d_ce", "2d_dice"}
    assert "nnUNetv2_train 501" not in added


def test_failing_job_does_not_destroy_others(stand_ins: Path, tmp_path: Path) -> None:
    """What does not need it is finished; later only the rest is done."""
    out = tmp_path / "out"
    begin(SMALL, out, run={})
    (out / "fails_2d_unet").touch()

    assert run_workflow(SMALL, out, cores=1) != 0
    assert calls(out, "nnunet-cel evaluate")
    assert not (out / "tables" / "table6.md").exists()
    (out / "fails_2d_unet").unlink()
    (out / "calls.txt").unlink()
    assert run_workflow(SMALL, out, cores=1) == 0
    assert {call.split()[1] for call in calls(out, "nnUNetv2_train")} == {"2d_unet"}
    assert (out / "tables" / "table6.md").exists()


def start(out: Path) -> subprocess.Popen[bytes]:
    """Start a study in a process of its own, up to the middle of a training."""
    (out / "training").unlink(missing_ok=True)
    code = (
        "import json, sys, sysconfig; from pathlib import Path\n"
        "from nnunet_cel.study.study import parse_study\n"
        "from nnunet_cel.study.workflow import run_workflow\n"
        "content, out, scripts = json.loads(sys.argv[1])\n"
        "sysconfig.get_path = lambda _: scripts\n"
        "study = parse_study(content, folder=Path('/nowhere'))\n"
        "sys.exit(run_workflow(study, Path(out), cores=1))\n"
    )
    content, scripts = ONE.model_dump(exclude_unset=True), sysconfig.get_path("scripts")
    arguments = json.dumps([content, str(out), scripts])
    process = subprocess.Popen(
        [sys.executable, "-c", code, arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if (out / "training").exists():
            return process
        time.sleep(0.1)
    raise TimeoutError("no training began")


def wait_for(out: Path) -> None:
    """Wait for the system to end what was killed."""
    for _ in range(100):
        with contextlib.suppress(ValueError), only_run(out):
            return
        time.sleep(0.1)


def test_killed_run_goes_on(stand_ins: Path, tmp_path: Path) -> None:
    """No lock is in the way, and the training continues from its checkpoint."""
    out = tmp_path / "out"
    begin(ONE, out, run={})
    (out / "slow").touch()
    process = start(out)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(out)
    (out / "slow").unlink()
    (first,) = calls(out, "nnUNetv2_train")

    assert run_workflow(ONE, out, cores=1) == 0
    second, *others = calls(out, "nnUNetv2_train")[1:]
    assert second == f"{first} --c"
    assert not any("--c" in call.split() for call in others)


def test_training_that_lived_on_is_waited_for(stand_ins: Path, tmp_path: Path) -> None:
    """If the workflow alone is killed, no second training writes to its folder."""
    if subprocess.run(["sh", "-c", "command -v flock"], check=False).returncode:
        pytest.skip("this machine has no flock")
    out = tmp_path / "out"
    begin(ONE, out, run={})
    (out / "slow").touch()
    process = start(out)
    os.kill(int((out / "parent.txt").read_text()), signal.SIGKILL)
    process.wait()
    wait_for(out)
    (out / "slow").unlink()

    assert run_workflow(ONE, out, cores=1) == 0
    lines = (out / "calls.txt").read_text().splitlines()
    trainings = [line for line in lines if line.startswith(("nnUNetv2_train", "end"))]
    assert [line.split()[0] for line in trainings[:3]] == [
        *("nnUNetv2_train", "end", "nnUNetv2_train")
    ]
    assert trainings[2].endswith("--c")


def test_dry_run_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It counts the jobs: here of two splits, with nnU-Net's own models."""
    pytest.importorskip("snakemake")
    ours = study(
        **{"splits": 2, "tables": [6], "figures": [], "networks": ["unet"]},
        **{"nnunet": {"configurations": ["2d", "3d_fullres"]}, "device": "cuda"},
    )

    assert run_workflow(ours, tmp_path / "out", dry_run=True) == 0
    said = capfd.readouterr().out
    counts = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", said, re.M)}
    assert counts == {
        **{"convert_wmh": 1, "convert_cel": 2, "phantom": 2, "plan": 3},
        **{"pretrain": 5, "best_fold": 1, "finetune": 2},
        **{"plan_nnunet": 2, "train_nnunet": 4, "predict": 6, "evaluate": 6},
        **{"table": 1, "all": 1, "total": 36},
    }
    assert "gpu=1" in said
    assert not (tmp_path / "out").exists()


def test_jobs_of_slurm_ask_for_what_the_study_says(
    stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads, memory, time, GPU and partition of a training reach sbatch."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    sbatch = stand_ins / "sbatch"
    sbatch.write_text('#!/bin/bash\necho "$@" >> "$SBATCH_CALLS"; exit 1\n')
    sbatch.chmod(0o755)
    (stand_ins / "sacctmgr").write_text("#!/bin/bash\necho us\n")
    (stand_ins / "sacctmgr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_ins}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SBATCH_CALLS", str(tmp_path / "sbatch.txt"))
    out = tmp_path / "a study"
    ours = study(
        **{"tables": [5], "figures": [], "networks": ["unet"], "device": "cuda"},
        resources={
            "train": {"threads": 6, "mem_mb": 7000, "runtime": 90},
        },
    )
    begin(ours, out, run={})
    (out / "done" / "plan").mkdir(parents=True)
    (out / "done" / "plan" / "Dataset502_CEL").touch()
    more = ["--default-resources", "slurm_partition=long", "slurm_account=us"]
    more += ["--slurm-init-seconds-before-status-checks", "1"]

    assert run_workflow(ours, out, profile="slurm", options=more) != 0
    asked = (tmp_path / "sbatch.txt").read_text().splitlines()
    training = next(line for line in asked if "rule_direct" in line)
    for option in (
        *("--cpus-per-task=6", "--mem 7000", "-t 90", "--gpus=1"),
        *("-p long", "-A us"),
    ):
        assert option in training, training


def test_second_run_is_refused(tmp_path: Path) -> None:
    """Nothing of it is written into the folder of the first."""
    pytest.importorskip("fcntl")
    with only_run(tmp_path), pytest.raises(ValueError, match="Another run"):
        run_workflow(ONE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_command_sees_its_gpu_only_and_its_status_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two GPUs, while the first one is taken."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    check = "import os, sys; sys.exit(int(os.environ['CUDA_VISIBLE_DEVICES']))"
    for gpu, number in (("4", 0), ("6", 1)):
        with locked(tmp_path / f"{1 - number}.lock", "taken"):
            line = [sys.executable, "-c", check]
            assert run_on_gpu(line, locks=tmp_path, count=2) == int(gpu)
    # where nothing says which there are
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with locked(tmp_path / "0.lock", "taken"):
        assert run_on_gpu(line, locks=tmp_path, count=2) == 1


def test_missing_snakemake_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""
    monkeypatch.setattr(workflow.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ImportError, match=r"nnunet-cel\[protocol\]"):
        run_workflow(ONE, tmp_path)


@pytest.mark.slow
def test_study_is_really_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two networks of the demo, from scans to tables, with all kinds of jobs."""
    pytest.importorskip("snakemake")
    pytest.importorskip("nilearn")
    monkeypatch.chdir(tmp_path)
    demo = workflow_file("config", "demo.yaml").read_text(encoding="utf-8")
    part = {"networks": ["fcadensenet", "transunet"], "figures": [7, 8]}
    part["tables"] = [2, 3, 4, 5, 6, 7]
    Path("a part.yaml").write_text(yaml.safe_dump(yaml.safe_load(demo) | part))
    out = tmp_path / "a part_study"
    command = ["protocol", "run", "--config", "a part.yaml"]

    assert cli.main([*command, "--cores", "2"]) == 0, capfd.readouterr()
    networks = ["FCA-DenseNet", "TransUNet"]
    for number in range(2, 8):
        name = f"table{number}"
        values = pd.read_csv(out / "tables" / f"{name}.csv")
        methods = ["Focal", "CE", "Dice"] if number == 7 else networks
        assert list(dict.fromkeys(values["method"])) == methods
        for end in ("md", "tex"):
            assert (out / "tables" / f"{name}.{end}").is_file()
        if number > 2:
            for row in values.itertuples():
                cases = pd.read_csv(out / row.evaluations / "cases.csv")
                mean = cases[row.metric].mean()
                assert row.mean == pytest.approx(mean, nan_ok=True)

    assert len(list((out / "figures" / "figure7").glob("*.png"))) > 1
    assert (out / "figures" / "figure8" / "finetuned.csv").is_file()
    before = {path: path.stat().st_mtime_ns for path in (out / "done").rglob("*")}
    assert cli.main([*command, "--dry-run"]) == 0
    assert "Nothing to be done" in capfd.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in (out / "done").rglob("*")}
