"""nnU-Net's own commands with our classes, on damaged files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from stock_workspace import MODEL, PREDICT, TRAIN, Workspace

pytestmark = pytest.mark.campaign

TINY = "Dataset501_Tiny"
RAW, PREPROCESSED = f"raw/{TINY}", f"preprocessed/{TINY}"
RESULTS = f"results/{TINY}/FCADenseTrainer__FCADensePlans__2d"
COMMANDS = {
    "nnUNetv2_plan_and_preprocess": (
        *("-d", "501", "-pl", "FCADensePlanner", "-c", "2d", "-np", "1", "-npfp", "1"),
        *("--verify_dataset_integrity", "--clean"),
    ),
    "nnUNetv2_train": ("501", "2d", "0", *TRAIN),
    "nnUNetv2_train --c": ("501", "2d", "0", *TRAIN, "--c"),
    "nnUNetv2_predict": (
        *("-d", "501", "-c", "2d", "-f", "0", *MODEL, *PREDICT),
        *("-i", f"{RAW}/imagesTs", "-o", "out"),
    ),
}
DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: b"\x93noise" * (len(content) // 6),
    "list": lambda content: b"[1, 2]",
    "setting": lambda content: content.replace(b'"gamma"', b'"gama"'),
}


@pytest.fixture(scope="module")
def whole(planned_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A planned data set and a trained fold, with plans that the network needs."""
    work = Workspace(tmp_path_factory.mktemp("damaged"))
    for name in ("raw", "preprocessed"):
        shutil.copytree(planned_folders / name, work.root / name, dirs_exist_ok=True)
    work.shorten(TINY, "FCADensePlans")
    work.call("nnUNetv2_train", *COMMANDS["nnUNetv2_train"])
    return work


@pytest.fixture
def workspace(whole: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """The same, put back in order afterwards."""
    spare = shutil.copytree(whole.root, tmp_path / "spare")
    yield whole
    shutil.rmtree(whole.root)
    shutil.copytree(spare, whole.root)


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    [
        (
            "nnUNetv2_plan_and_preprocess",
            f"{RAW}/imagesTr/case_01_0000.nii.gz",
            "noise",
        ),
        ("nnUNetv2_plan_and_preprocess", f"{RAW}/imagesTr/case_01_0000.nii.gz", "half"),
        ("nnUNetv2_plan_and_preprocess", f"{RAW}/labelsTr/case_00.nii.gz", "empty"),
        ("nnUNetv2_plan_and_preprocess", f"{RAW}/dataset.json", "half"),
        ("nnUNetv2_train", f"{PREPROCESSED}/FCADensePlans.json", "setting"),
        ("nnUNetv2_train", f"{PREPROCESSED}/FCADensePlans_2d/case_01.b2nd", "half"),
        ("nnUNetv2_train", f"{PREPROCESSED}/splits_final.json", "list"),
        ("nnUNetv2_train --c", f"{RESULTS}/fold_0/checkpoint_final.pth", "half"),
        ("nnUNetv2_predict", f"{RESULTS}/fold_0/checkpoint_final.pth", "half"),
        ("nnUNetv2_predict", f"{RESULTS}/plans.json", "setting"),
        ("nnUNetv2_predict", f"{RESULTS}/dataset.json", "list"),
        ("nnUNetv2_predict", f"{RAW}/imagesTs/case_00_0000.nii.gz", "empty"),
        ("nnUNetv2_predict", f"{RAW}/imagesTs/case_00_0000.nii.gz", "half"),
    ],
)
def test_command_tells_which_file_is_damaged(
    workspace: Workspace, command: str, file: str, damage: str
) -> None:
    """It ends in time, fails, names the file, and predicts nothing."""
    path = workspace.root / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))

    said = workspace.call(command.split()[0], *COMMANDS[command], expect=1)

    # nnU-Net hands over plans without their path, and opens checkpoints itself.
    stem = path.name.partition(".")[0]
    words = (path.name, stem, "configuration '2d'", "checkpoint file is corrupted")
    assert any(word in said for word in words), said[-1500:]
    assert not list(workspace.root.glob("out/*.nii.gz"))
