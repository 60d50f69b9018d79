"""Names of patients stay where they were: in the scans, and in one linking table."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, read_volume, write_volume

NAME = "UNIQUE_NAME_xyz"
SHAPE = (8, 9, 7)
QUIET = ("-np", "1", "--no-progress")
SCANS = ("nii.gz", "nii", "nrrd", "mha", "dicom", "empty.nii.gz")


def forms() -> list[bytes]:
    """Return the bytes by which the name is known, whatever wrote them."""
    return [NAME.lower().encode(c) for c in ("utf-8", "utf-16-le", "utf-32-le")]


def holds_name(content: bytes) -> bool:
    """Return whether the name is in a file, compressed parts included."""
    lower = content.lower()
    if any(form in lower for form in forms()):
        return True
    if content[:2] == b"\x1f\x8b":
        return holds_name(gzip.decompress(content))
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(
                holds_name(info.filename.encode()) or holds_name(archive.read(info))
                for info in archive.infolist()
            )
    if content[:4] == b"\x89PNG" or content[:3] == b"\xff\xd8\xff":
        with Image.open(io.BytesIO(content)) as picture:
            return holds_name(repr(picture.info).encode())
    inside = re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)
    return any(holds_name(base64.b64decode(part)) for part in inside)


def leaks(folder: Path) -> list[str]:
    """Return the files below a folder that bear the name, in name or content."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if NAME.lower() in str(path.relative_to(folder)).lower()
        or (path.is_file() and holds_name(path.read_bytes()))
    ]


def named_nifti(path: Path, voxels: np.ndarray) -> None:
    """Write a NIfTI file with the name in every field that holds text."""
    image = nib.Nifti1Image(voxels, np.diag([1, 1, 1.5, 1]))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = NAME.encode()
    for code in (2, 4, 6):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, NAME.encode()))
    nib.save(image, path)


def named_itk(path: Path, voxels: np.ndarray) -> None:
    """Write a NRRD or MetaImage file, or a DICOM series, with the name in its tags."""
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing((1, 1, 1.5))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    if path.suffix:
        for key in ("PatientName", "Comment", "Name", "ITK_FileNotes"):
            image.SetMetaData(key, NAME)
        sitk.WriteImage(image, str(path))
        return
    path.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(image.GetDepth()):
        plane = image[:, :, index]
        tags = {
            **dict.fromkeys(
                ("0010|0010", "0010|0020", "0008|0090", "0008|0080", "0010|4000"), NAME
            ),
            **dict.fromkeys(("0008|103e", "0008|1030", "0018|1030"), NAME),
            "0008|0060": "MR",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0013": str(index),
            "0020|0032": "\\".join(map(str, plane_origin(image, index))),
            "0020|0037": "-1\\0\\0\\0\\-1\\0",
            "0008|0018": f"1.2.3.4.{index + 1}",
        }
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(path / f"{NAME}_{index}.dcm"))
        writer.Execute(plane)


def plane_origin(image: sitk.Image, index: int) -> tuple[float, ...]:
    """Return where a slice begins, in mm."""
    origin: tuple[float, ...] = image.TransformIndexToPhysicalPoint((0, 0, index))
    return origin


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clinic's folder with the name everywhere, and a table of scans."""
    folder = tmp_path / f"ward {NAME}"
    folder.mkdir()
    rows = ["subject,image,label,diagnosis,note"]
    rng = np.random.default_rng(0)
    for number, kind in enumerate(SCANS):
        label = np.zeros(SHAPE, np.uint8)
        if kind != "empty.nii.gz":
            label[2:5, 2:5, 2:5] = 1
        voxels = rng.integers(100, 200, SHAPE).astype(np.int16)
        voxels[label > 0] += 300
        image = folder / f"{NAME}{number}.{kind}"
        if kind == "dicom":
            image = folder / f"{NAME}_series"
        (named_nifti if ".nii" in image.name else named_itk)(image, voxels)
        outline = folder / f"{NAME}{number}_outline.nii.gz"
        named_nifti(outline, label)
        rows.append(f"{NAME}{number},{image.name},{outline.name},MS,{NAME}")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    neutral = "\n".join(rows).replace(f"\n{NAME}", "\nP").replace(f"MS,{NAME}", "MS,")
    (folder / "neutral.csv").write_text(neutral + "\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> None:
    """Run a command, which must succeed without a word of the name."""
    capfd.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 0
    printed = capfd.readouterr()
    assert NAME not in printed.out + printed.err


def test_the_name_is_found_where_it_is(clinic: Path) -> None:
    """The search sees through compression, so that the other tests can fail."""
    assert f"{NAME}0.nii.gz" in leaks(clinic)
    blob = io.BytesIO()
    np.savez_compressed(blob, a=np.array([NAME]))
    assert holds_name(blob.getvalue())
    assert holds_name(gzip.compress(NAME.encode()))
    assert holds_name(b"base64," + base64.b64encode(gzip.compress(NAME.encode())))
    assert not holds_name(gzip.compress(b"nothing"))


def test_a_data_set_of_a_clinic(
    clinic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Scans of every format, one without lesion among them: only the table knows."""
    run(
        capfd,
        *("convert", "cel", clinic / "scans.csv", "-o", "raw", *QUIET),
        *("--test-fraction", "0.4", "--linking-table", "link.csv"),
    )

    assert leaks(Path.cwd()) == ["link.csv"]
    assert Path("link.csv").stat().st_mode & 0o077 == 0
    assert len(list(Path("raw").rglob("CEL_*_0000.nii.gz"))) == len(SCANS) - 1


@pytest.mark.slow
def test_training_on_a_data_set_of_a_clinic(
    clinic: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans, preprocessed files, logs, checkpoint and validation know no name."""
    table = ("--linking-table", "link.csv")
    run(capfd, "convert", "cel", clinic / "scans.csv", "-o", "raw", *QUIET, *table)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(Path.cwd() / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    printed = run_nnunet(
        "nnUNetv2_plan_and_preprocess",
        *("-d", "502", "-pl", "FCADensePlanner", "-c", "2d", "-np", "1", "-npfp", "1"),
    )
    plans_file = Path("preprocessed/Dataset502_CEL/FCADensePlans.json")
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["2d"]["batch_size"] = 2
    plans["configurations"]["2d"]["nnunet_cel"] |= {
        "max_epochs": 1,
        "iterations_per_epoch": 1,
        "validation_iterations": 1,
    }
    plans_file.write_text(json.dumps(plans))
    options = ("-tr", "FCADenseTrainer", "-p", "FCADensePlans", "-device", "cpu")
    printed += run_nnunet("nnUNetv2_train", "502", "2d", "0", *options, "--npz")

    assert NAME not in printed
    assert len(list(Path("results").rglob("checkpoint_final.pth"))) == 1
    assert leaks(Path.cwd()) == ["link.csv"]


def run_nnunet(command: str, *arguments: str) -> str:
    """Run one of nnU-Net's commands, which must succeed; return what it prints."""
    path = shutil.which(command, path=sysconfig.get_path("scripts"))
    done = subprocess.run(
        [str(path), *arguments],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_preparation_of_scans_with_neutral_subjects(
    clinic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names of files and folders, header texts and other columns are left behind."""
    source = clinic / "neutral.csv"
    run(capfd, "prepare", source, "prepared", "--no-strip", *QUIET)

    assert leaks(Path.cwd()) == []
    assert len(list(Path("prepared/images").iterdir())) == len(SCANS)


def test_everything_after_the_prediction(
    clinic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Evaluation, comparison, lesions, report and maps of named folders and headers."""
    for part in ("images", "predictions", "references"):
        (clinic / part).mkdir()
    rng = np.random.default_rng(1)
    for case in ("CEL_001", "CEL_002"):
        label = np.zeros(SHAPE, np.uint8)
        label[2:5, 2:5, 2:5] = 1
        image = rng.integers(100, 200, SHAPE).astype(np.int16)
        named_nifti(clinic / f"images/{case}_0000.nii.gz", image)
        named_nifti(clinic / f"references/{case}.nii.gz", label)
        named_nifti(clinic / f"predictions/{case}.nii.gz", np.roll(label, 1, axis=1))
    parts = [clinic / part for part in ("predictions", "references")]
    images = ("--images", clinic / "images")

    for out in ("first", "second"):
        run(capfd, "evaluate", *parts, "-o", out, *QUIET)
    run(capfd, "compare", "first", "second", "-o", "comparison")
    run(capfd, "lesions", parts[0], *images, "-o", "lesions.csv", *QUIET)
    run(capfd, "report", "first", *images, "-o", "a.html", "--compare", "second")
    run(capfd, "export", "itksnap", "first", "-o", "maps", *QUIET)

    # Where the label maps are, for the commands that come after; only the user's own.
    own = ["first/folders.json", "second/folders.json"]
    assert leaks(Path.cwd()) == own
    assert all(Path(file).stat().st_mode & 0o077 == 0 for file in own)


def test_label_maps_that_come_back(
    clinic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Restored label maps get no text from the headers of originals or predictions."""
    prediction = Path("CEL_001.nii.gz")
    named_nifti(prediction, np.ones(SHAPE, np.uint8))
    original = clinic / f"{NAME}0.nii.gz"
    run(capfd, "restore", prediction, original, "-o", "restored.nii.gz")

    assert leaks(Path.cwd()) == ["CEL_001.nii.gz"]


def test_written_volumes_bear_no_text(clinic: Path, tmp_path: Path) -> None:
    """What is read with a name is written without it, in every format."""
    for path in sorted(clinic.iterdir()):
        if path.suffix != ".csv":
            volume = read_volume(path)
            write_volume(tmp_path / "out.nii", Volume(volume.voxels, volume.affine))
            assert not holds_name((tmp_path / "out.nii").read_bytes())
