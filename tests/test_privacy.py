"""Names of patients stay where they were: in the scans, and in one linking table."""

from __future__ import annotations

import base64
import gzip
import io
import re
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import plan_and_preprocess, tiny_trainer
from PIL import Image

from nnunet_cel import cli
from nnunet_cel.phantom.layouts import write_dicom
from nnunet_cel.volumes import Volume

NAME = "UNIQUE_NAME_xyz"
FORMS = [NAME.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-32-le")]
SHAPE = (8, 9, 7)
QUIET = ("-np", "1", "--no-progress")
SCANS = (".nii.gz", ".nii", ".nrrd", ".mha", "_series", "_empty.nii.gz")


def holds_name(content: bytes) -> bool:
    """Return whether the name is in a file, compressed parts included."""
    if any(form in content.lower() for form in FORMS):
        return True
    if content[:2] == b"\x1f\x8b":
        return holds_name(gzip.decompress(content))
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            parts = [archive.read(name) for name in names]
        return any(map(holds_name, [repr(names).encode(), *parts]))
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


def named_scan(path: Path, voxels: np.ndarray) -> None:
    """Write a scan with the name in its header, in the format of its ending.

    A path without an ending becomes a DICOM series, with the name of the patient, the
    identifier and the description of the series.
    """
    if ".nii" in path.name:
        named_nifti(path, voxels)
    elif path.suffix:
        image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
        image.SetSpacing((1, 1, 1.5))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        for key in ("PatientName", "Comment", "Name", "ITK_FileNotes"):
            image.SetMetaData(key, NAME)
        sitk.WriteImage(image, str(path))
    else:
        write_dicom(path, Volume(voxels, np.diag([1, 1, 1.5, 1])), NAME)
        description = b"T1 post gadolinium"
        for file in list(path.iterdir()):
            content = file.read_bytes()
            assert description in content
            new = NAME.encode().ljust(len(description))
            file.write_bytes(content.replace(description, new))
            file.rename(path / f"{NAME}_{file.name}")


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clinic's folder with the name everywhere, and two tables of scans.

    In the second, the names of the subjects are neutral. One scan is of no lesion.
    """
    folder = tmp_path / f"ward {NAME}"
    folder.mkdir()
    rows = ["subject,image,label,diagnosis,note"]
    rng = np.random.default_rng(0)
    for number, kind in enumerate(SCANS):
        label = np.zeros(SHAPE, np.uint8)
        label[2:5, 2:5, 2:5] = "empty" not in kind
        voxels = np.where(label > 0, 450, rng.integers(100, 200, SHAPE)).astype(
            np.int16
        )
        image = folder / f"{NAME}{number}{kind}"
        named_scan(image, voxels)
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
    assert holds_name(b"base64," + base64.b64encode(gzip.compress(NAME.encode())))
    assert not holds_name(gzip.compress(b"nothing"))


def test_a_data_set_of_a_clinic(
    clinic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Scans of every format, one without lesion among them: only the table knows."""
    table = ("--linking-table", "link.csv")
    run(capfd, "convert", "cel", clinic / "scans.csv", "-o", "raw", *QUIET, *table)
    assert Path("link.csv").stat().st_mode & 0o077 == 0
    assert len(list(Path("raw").rglob("CEL_*_0000.nii.gz"))) == len(SCANS) - 1
    assert leaks(Path.cwd()) == ["link.csv"]


@pytest.mark.campaign
def test_a_model_of_a_data_set_of_a_clinic(
    clinic: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans, preprocessed files, logs, checkpoint and validation know no name."""
    test_a_data_set_of_a_clinic(clinic, capfd)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(Path.cwd() / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    plan_and_preprocess(502)
    trainer = tiny_trainer(Path.cwd() / "preprocessed/Dataset502_CEL")
    trainer.run_training()
    trainer.perform_actual_validation(save_probabilities=True)

    printed = capfd.readouterr()
    assert NAME not in printed.out + printed.err
    assert len(list(Path("results").rglob("checkpoint_final.pth"))) == 1
    assert leaks(Path.cwd()) == ["link.csv"]


def test_preparation_and_back(clinic: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Names of files and folders, header texts and other columns are left behind."""
    source = clinic / "neutral.csv"
    run(capfd, "prepare", source, "prepared", "--no-strip", *QUIET)
    assert leaks(Path.cwd()) == []
    assert len(list(Path("prepared/images").iterdir())) == len(SCANS)

    named_nifti(Path("CEL_001.nii.gz"), np.ones(SHAPE, np.uint8))
    original = clinic / f"{NAME}0.nii.gz"
    run(capfd, "restore", "CEL_001.nii.gz", original, "-o", "restored.nii.gz")
    assert leaks(Path.cwd()) == ["CEL_001.nii.gz"]


def test_everything_after_the_prediction(
    clinic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Evaluation, comparison, lesions, report and maps of named folders and headers."""
    for part in ("images", "predictions", "references"):
        (clinic / part).mkdir()
    image = np.random.default_rng(1).integers(100, 200, SHAPE).astype(np.int16)
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 2:5, 2:5] = 1
    for case in ("CEL_001", "CEL_002"):
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
