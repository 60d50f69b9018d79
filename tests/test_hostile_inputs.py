"""Inputs that want to do harm: scripts, code and links."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_cel import cli
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.volumes import Volume, write_volume

SCRIPT = "<script>alert(1)<+script>"  # with a slash it could be no file
QUIET = ("-np", "1", "--no-progress")


def run(*arguments: object) -> int:
    """Run the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


def scan(path: Path, seed: int) -> None:
    """Write a scan of noise, with a script in its header."""
    voxels = np.random.default_rng(seed).integers(1, 99, (8, 7, 6)).astype(np.int16)
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header["descrip"] = b"<script>alert(2)</script>"
    nib.save(image, path)


def outline(path: Path, shift: int = 0) -> None:
    """Write a label map with a script in its header."""
    voxels = np.zeros((8, 7, 6), np.uint8)
    voxels[1 + shift : 4 + shift, 1:4, 1:4] = 1
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header["descrip"] = b"<script>alert(3)</script>"
    nib.save(image, path)


def test_no_script_runs_in_the_report(tmp_path: Path) -> None:
    """Names of cases, folders and models, title and headers are text."""
    work = tmp_path / SCRIPT
    for part in ("p", "r", "i", "model/fold_0"):
        (work / part).mkdir(parents=True)
    for number, case in enumerate((SCRIPT, "b\"'&{{7*7}}")):
        scan(work / f"i/{case}_0000.nii.gz", number)
        outline(work / f"r/{case}.nii.gz")
        outline(work / f"p/{case}.nii.gz", 1)
    log = "Epoch 0\ntrain_loss 1\nval_loss 1\nPseudo dice [<script>0.5]\n<script>\n"
    (work / "model/fold_0/training_log_1.txt").write_text(log)
    assert run("evaluate", work / "p", work / "r", "-o", work / "e", *QUIET) == 0
    assert run("evaluate", work / "r", work / "r", "-o", work / SCRIPT, *QUIET) == 0

    page = work / f"{SCRIPT}.html"
    status = run(
        *("report", work / "e", "-o", page, "--title", "<script>alert(4)</script>"),
        *("--compare", work / SCRIPT, "--names", "<script>a", "</table><script>b"),
        *("--images", work / "i", "--model", work / "model", *QUIET),
    )

    assert status == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 1  # ours
    assert "&lt;script&gt;alert(1)" in text
    assert "{{7*7}}" in text.replace("&#39;", "'")
    for path in work.rglob("*.svg"):
        assert "<script" not in path.read_text(encoding="utf-8")


def test_yaml_does_not_run_code(tmp_path: Path) -> None:
    """Tags that would call a function are refused."""
    path, proof = tmp_path / "a.yaml", tmp_path / "proof"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system"):
        path.write_text(f"name: !!python/{tag} ['touch \"{proof}\"']\n")
        with pytest.raises(ValueError, match="not YAML"):
            load_protocol(path)
    assert not proof.exists()


def test_results_in_linked_folders(tmp_path: Path) -> None:
    """Links out of a folder that is replaced are removed, not followed."""
    for part in ("p", "r", "precious"):
        (tmp_path / part).mkdir()
    write_volume(
        tmp_path / "p/a.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4))
    )
    write_volume(
        tmp_path / "r/a.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4))
    )
    (tmp_path / "precious/data").write_text("precious")
    command = ("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert run(*command, *QUIET) == 0
    (tmp_path / "out/link").symlink_to(tmp_path / "precious")
    (tmp_path / "out/froc.csv").symlink_to(tmp_path / "precious/data")

    assert run(*command, *QUIET, "--overwrite") == 0

    assert (tmp_path / "precious/data").read_text() == "precious"
    assert not (tmp_path / "out/link").exists()
