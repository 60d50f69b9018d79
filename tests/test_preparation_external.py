"""Programs on the PATH: what they are told, and what is done when they fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.preparation.external import FSL_BET, HD_BET, Program
from nnunet_cel.volumes import Volume

THRESHOLD = """
import json, os, sys
import nibabel, numpy
image = nibabel.load("image.nii.gz")
mask = (image.get_fdata() > 5).astype(numpy.uint8)
nibabel.save(nibabel.Nifti1Image(mask, image.affine), {mask!r})
with open({log!r}, "w") as log:
    json.dump([sys.argv[1:], os.getcwd(), os.environ.get("FSLOUTPUTTYPE")], log)
"""


@pytest.fixture
def image(rng: np.random.Generator) -> Volume:
    """An oblique image with values from 0 to 10."""
    affine = np.array(
        [[-2, 0, 0, 9], [0, 1.8, -0.6, 7], [0, 0.6, 1.8, 5], [0, 0, 0, 1]]
    )
    return Volume(rng.uniform(0, 10, (6, 7, 8)), affine)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space in its name that is the whole PATH."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, program: Program, text: str) -> None:
    """Write a program in Python."""
    file = folder / program.command
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(0o755)


@pytest.mark.parametrize("program", [FSL_BET, HD_BET], ids=lambda p: p.command)
def test_mask_is_read(path: Path, tmp_path: Path, image: Volume, program) -> None:
    """The program gets the image in a folder that is gone when it is done."""
    log = tmp_path / "log.json"
    install(path, program, THRESHOLD.format(mask=program.mask, log=str(log)))
    (tmp_path / "scratch").mkdir()

    mask = program.run(image, tmp_path / "scratch")

    np.testing.assert_array_equal(mask, image.voxels > 5)
    assert "image.nii.gz" in log.read_text()
    assert not any((tmp_path / "scratch").iterdir())


def test_what_bet_is_told(path: Path, tmp_path: Path, image: Volume) -> None:
    """FSL's program gets its file format from the environment."""
    log = tmp_path / "log"
    install(path, FSL_BET, THRESHOLD.format(mask=FSL_BET.mask, log=str(log)))

    FSL_BET.run(image)

    assert '["image.nii.gz", "brain.nii.gz", "-m", "-R"]' in log.read_text()
    assert log.read_text().endswith('"NIFTI_GZ"]')


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_hd_bet_is_told(path: Path, tmp_path: Path, image, device: str) -> None:
    """HD-BET runs on the GPU where there is one."""
    log = tmp_path / "log"
    install(path, HD_BET, THRESHOLD.format(mask=HD_BET.mask, log=str(log)))
    if device == "cuda":
        (path / "nvidia-smi").touch(mode=0o755)

    HD_BET.run(image)

    assert f'"-device", "{device}", "--save_bet_mask"' in log.read_text()


def test_missing_program(path: Path, image: Volume) -> None:
    """The message says how to get it."""
    for act in (FSL_BET.check, lambda: FSL_BET.run(image)):
        with pytest.raises(ValueError, match=r"'bet' on the PATH.*install FSL"):
            act()
    with pytest.raises(ValueError, match=r"'hd-bet' on the PATH.*pip install hd-bet"):
        HD_BET.check()


def test_failing_program(path: Path, image: Volume) -> None:
    """The message has the status and the end of what the program said."""
    lines = "\n".join(f"print('line {n}', flush=True)" for n in range(30))
    install(path, HD_BET, f"{lines}\nimport sys\nsys.exit('out of memory')")

    with pytest.raises(
        ValueError, match=r"with status 1 .*\n(.*\n)*out of memory$"
    ) as e:
        HD_BET.run(image)

    assert "line 29" in str(e.value)
    assert "line 20" not in str(e.value)


def test_program_that_writes_nothing(path: Path, image: Volume) -> None:
    """No mask is an error, too."""
    install(path, FSL_BET, "print('Usage: bet <input> <output>')")

    with pytest.raises(
        ValueError, match=r"brain_mask\.nii\.gz. It wrote none(.|\n)*Usage"
    ):
        FSL_BET.run(image)


def test_mask_on_another_grid(path: Path, image: Volume) -> None:
    """A mask that does not fit the image is refused."""
    text = f"""
import nibabel, numpy
mask = numpy.ones((3, 3, 3), dtype=numpy.uint8)
nibabel.save(nibabel.Nifti1Image(mask, numpy.eye(4)), {FSL_BET.mask!r})
"""
    install(path, FSL_BET, text)

    with pytest.raises(ValueError, match=r"FSL's BET must have the shape"):
        FSL_BET.run(image)


def test_environment_is_passed_on(
    path: Path, tmp_path: Path, image, monkeypatch
) -> None:
    """Programs see the user's settings, such as FSLDIR."""
    log = tmp_path / "log"
    text = THRESHOLD.format(mask=FSL_BET.mask, log=str(log))
    install(path, FSL_BET, text.replace("FSLOUTPUTTYPE", "FSLDIR"))
    monkeypatch.setenv("FSLDIR", "/opt/my fsl")

    FSL_BET.run(image)

    assert "/opt/my fsl" in log.read_text()
    assert "FSLOUTPUTTYPE" not in os.environ
