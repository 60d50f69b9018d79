"""The command that prepares images: files in, files out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_cel import cli
from nnunet_cel.dataset_conversion.cel import find_cases
from nnunet_cel.files import sha256
from nnunet_cel.preparation import command
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])


def run(*arguments: object) -> int:
    """Run the command in this process, without progress bars."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    texts = [*map(str, arguments), "--no-progress"]
    if "-np" not in texts:
        texts += ["-np", "1"]
    return command.run(parser.parse_args(texts))


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def make_head(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a small head, its brain mask and its lesion."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 44, 20)), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    mask = radius < 0.7
    lesion = (x - 0.2) ** 2 + (y + 0.1) ** 2 + z**2 < 0.02
    image = np.where(radius < 0.95, 300, 0) + 300 * mask + 200 * lesion
    image = image + rng.normal(0, 10, image.shape)
    return np.rint(image).astype(np.int16), mask, lesion.astype(np.uint8)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Folders ``scans``, ``masks`` and ``outlines`` of two patients."""
    for name, seed, ending in (("p1", 1, ".nii.gz"), ("p2", 2, "_0000.nii")):
        image, mask, lesion = make_head(seed)
        for folder, voxels, file in (
            ("scans", image, name + ending),
            ("masks", mask, f"{name}_mask.nii.gz"),
            ("outlines", lesion, f"{name}.nii.gz"),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_volume(tmp_path / folder / file, Volume(voxels, AFFINE))
    return tmp_path


def test_all_files_are_written(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images, labels, masks, pictures and records, named after the cases."""
    out = scans / "new folder" / "out"

    status = run(
        *(scans / "scans", out, "--labels", scans / "outlines"),
        *("--brain-mask", scans / "masks", "--n4", "--denoise"),
    )

    assert status == 0
    assert sorted(files(out)) == [
        "images/p1_0000.nii.gz",
        "images/p2_0000.nii.gz",
        "labels/p1.nii.gz",
        "labels/p2.nii.gz",
        "masks/p1.nii.gz",
        "masks/p2.nii.gz",
        "preparation.json",
        "qc/p1.png",
        "qc/p2.png",
        "transforms/p1.json",
        "transforms/p2.json",
    ]
    assert not list(out.parent.glob(".*"))
    assert capsys.readouterr().out == (
        f"Prepared 2 cases in {out}\n"
        f"Look at the pictures in {out / 'qc'} before you use the images.\n"
    )
    image = read_volume(out / "images/p1_0000.nii.gz")
    label = read_label_map(out / "labels/p1.nii.gz")
    assert image.spacing == pytest.approx((1, 1, 1))
    assert image.voxels.dtype == np.float32
    assert label.voxels.shape == image.voxels.shape
    lesion = image.voxels[label.voxels > 0]
    assert lesion.mean() > 1.2 * image.voxels[image.voxels > 0].mean()
    mask = read_volume(out / "masks/p1.nii.gz")
    np.testing.assert_array_equal(mask.voxels, make_head(1)[1])
    np.testing.assert_array_equal(mask.affine, AFFINE)


def test_record(scans: Path) -> None:
    """It says what was done to which files, and holds no path."""
    out = scans / "out"
    run(scans / "scans", out, "--brain-mask", scans / "masks", "--spacing", 2, 2, 3)

    record = json.loads((out / "preparation.json").read_text())
    assert record["settings"] == {
        "brain_extraction": "mask",
        "n4": False,
        "denoise": False,
        "spacing_mm": [2, 2, 3],
        "margin_mm": 5,
    }
    case = record["cases"]["p1"]
    volume = make_head(1)[1].sum() * 2 * 2 * 4 / 1000
    assert case == {
        "source_sha256": sha256(scans / "scans/p1.nii.gz"),
        "brain_volume_ml": pytest.approx(volume, abs=0.06),
        "warnings": [],
    }
    assert "SimpleITK" in record["versions"]
    transform = json.loads((out / "transforms/p1.json").read_text())
    assert transform["source_sha256"] == case["source_sha256"]
    for name, text in files(out).items():
        if name.endswith(".json"):
            assert str(scans).encode() not in text


def test_same_input_same_bytes(scans: Path) -> None:
    """Neither the number of processes nor the time changes a file."""
    for out, processes in (("a", 1), ("b", 2)):
        run(
            *(scans / "scans", scans / out, "--labels", scans / "outlines", "--n4"),
            *("--denoise", "--brain-mask", scans / "masks", "-np", processes),
        )

    assert files(scans / "a") == files(scans / "b")


def test_dicom_series(scans: Path) -> None:
    """A folder of slices is a case, and voxels without resampling are kept."""
    image, mask, _ = make_head(1)
    series = scans / "dicom" / "patient 7"
    series.mkdir(parents=True)
    slices = sitk.GetImageFromArray(np.ascontiguousarray(image.T))
    slices.SetSpacing((2, 2, 4))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(slices.GetDepth()):
        one = slices[:, :, index]
        position = "\\".join(
            map(str, slices.TransformIndexToPhysicalPoint((0, 0, index)))
        )
        for key, value in {
            "0008|0060": "MR",
            "0008|0018": f"1.2.3.{index + 1}",
            "0020|000d": "1.2",
            "0020|000e": "1.2.3",
            "0020|0013": str(index),
            "0020|0032": position,
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "2\\2",
        }.items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(series / f"IM{index:03d}.dcm"))
        writer.Execute(one)
    write_volume(
        scans / "masks/patient 7.nii.gz", Volume(mask, read_volume(series).affine)
    )

    run(
        scans / "dicom",
        scans / "out",
        "--brain-mask",
        scans / "masks",
        "--keep-spacing",
    )

    prepared = read_volume(scans / "out/images/patient 7_0000.nii.gz").voxels
    inside = prepared != 0
    np.testing.assert_array_equal(prepared[inside], image[mask & (image != 0)])


def test_single_image(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file, with a label map of any name, is one case."""
    run(
        *(scans / "scans/p1.nii.gz", scans / "out", "--no-strip"),
        *("--labels", scans / "outlines/p2.nii.gz"),
    )

    assert "Prepared 1 case in" in capsys.readouterr().out
    assert (scans / "out/labels/p1.nii.gz").is_file()


def test_warnings_are_printed(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the user should look at comes before the last lines, and in the record."""
    label = np.zeros((40, 44, 20), np.uint8)
    label[0, 0, 0] = label[20, 20, 10] = 1
    write_volume(scans / "outlines/p2.nii.gz", Volume(label, AFFINE))

    run(
        *(scans / "scans", scans / "out", "--brain-mask", scans / "masks"),
        *("--labels", scans / "outlines"),
    )

    warning = "1 of 2 lesion voxels lie outside of the brain mask."
    assert capsys.readouterr().out.startswith(f"Warning: p2: {warning}\n")
    record = json.loads((scans / "out/preparation.json").read_text())
    assert record["cases"]["p2"]["warnings"] == [warning]


def test_all_problems_before_the_work(scans: Path, monkeypatch) -> None:
    """Unreadable images and files on other grids are all named in one message."""
    (scans / "scans/p3.nii.gz").write_bytes(b"broken")
    write_volume(
        scans / "scans/p4.nii", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4))
    )
    for name in ("p3", "p4"):
        lesion = Volume(make_head(1)[2], AFFINE)
        write_volume(scans / f"outlines/{name}.nii.gz", lesion)
    wrong = Volume(make_head(2)[1], np.diag([1.0, 1, 1, 1]))
    write_volume(scans / "masks/p2_mask.nii.gz", wrong)
    monkeypatch.setattr(command, "prepare_volume", None)

    with pytest.raises(ValueError, match=r"^3 of 4 images cannot be prepared") as error:
        run(
            *(scans / "scans", scans / "out", "--labels", scans / "outlines"),
            *("--brain-mask", scans / "masks"),
        )

    for text in ("p3.nii.gz cannot be read", "p4.nii.gz must have the shape"):
        assert text in str(error.value)
    assert "p2_mask.nii.gz must have the affine" in str(error.value)
    assert not (scans / "out").exists()


def test_missing_labels(scans: Path) -> None:
    """Each image needs its label map; all that have none are named."""
    (scans / "outlines/p1.nii.gz").unlink()

    with pytest.raises(ValueError, match=r"There is none for 1:\n  .*p1\.nii\.gz"):
        run(
            scans / "scans", scans / "out", "--labels", scans / "outlines", "--no-strip"
        )


def test_voxels_that_are_not_finite(scans: Path) -> None:
    """The file with the NaN in the brain is named, and nothing is left."""
    voxels = make_head(1)[0].astype(np.float32)
    voxels[20, 22, 10] = np.nan
    write_volume(scans / "scans/p1.nii.gz", Volume(voxels, AFFINE))

    with pytest.raises(ValueError, match=r"p1\.nii\.gz cannot be prepared.*Got 1 that"):
        run(scans / "scans", scans / "out", "--brain-mask", scans / "masks")

    assert sorted(p.name for p in scans.iterdir()) == ["masks", "outlines", "scans"]


def test_interruption_leaves_nothing(scans: Path, monkeypatch) -> None:
    """After Ctrl-C in the middle, the folders are as before."""
    calls = []

    def interrupt(*args, **kwargs) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(args)

    monkeypatch.setattr(command, "save_picture", interrupt)

    with pytest.raises(KeyboardInterrupt):
        run(scans / "scans", scans / "out", "--no-strip")

    assert sorted(p.name for p in scans.iterdir()) == ["masks", "outlines", "scans"]


def test_nothing_is_overwritten_unasked(scans: Path) -> None:
    """An older result is replaced on request, any other folder never."""
    out = scans / "out"
    arguments = (scans / "scans", out, "--no-strip")
    run(*arguments)
    before = files(out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(*arguments)
    assert files(out) == before

    run(*arguments, "--overwrite", "--keep-spacing")
    assert files(out) != before

    with pytest.raises(ValueError, match="Only an earlier preparation is replaced"):
        run(scans / "scans", scans / "masks", "--no-strip", "--overwrite")
    with pytest.raises(ValueError, match="folder of its own"):
        run(out / "images", out, "--no-strip", "--overwrite")


def test_results_beside_images_are_no_images(scans: Path) -> None:
    """Images of a folder can be prepared into that folder, again and again."""
    out = scans / "scans" / "out"
    for more in ((), ("--overwrite",)):
        run(scans / "scans", out, "--no-strip", *more)

    assert len(list((out / "images").iterdir())) == 2


def test_errors_of_the_command_line(scans: Path, capsys) -> None:
    """A folder that is not there is one line and exit status 1."""
    status = cli.main(
        ["prepare", str(scans / "scans"), str(scans / "o"), "--brain-mask", "no"]
    )

    assert status == 1
    assert "nnunet-cel prepare: error: The brain masks" in capsys.readouterr().err


def test_table_of_scans_goes_through(scans: Path) -> None:
    """Subjects, visits and diagnoses come out as a table that can be converted."""
    table = scans / "cases.csv"
    table.write_text(
        "subject,image,label,diagnosis\n"
        "Doe Jane,scans/p1.nii.gz,outlines/p1.nii.gz,MS\n"
        "Doe Jane,scans/p2_0000.nii,outlines/p2.nii.gz,MS\n"
    )
    for name, scan in (("Doe_Jane", "p1"), ("Doe_Jane_2", "p2")):
        (scans / f"masks/{scan}_mask.nii.gz").rename(scans / f"masks/{name}.nii.gz")

    run(table, scans / "out", "--brain-mask", scans / "masks")

    assert (scans / "out/cases.csv").read_text() == (
        "subject,session,image,label,diagnosis\n"
        "Doe Jane,,images/Doe_Jane_0000.nii.gz,labels/Doe_Jane.nii.gz,MS\n"
        "Doe Jane,2,images/Doe_Jane_2_0000.nii.gz,labels/Doe_Jane_2.nii.gz,MS\n"
    )
    cases = find_cases(scans / "out" / "cases.csv")
    assert [case.identifier for case in cases] == ["Doe_Jane", "Doe_Jane_2"]
    assert {case.group for case in cases} == {"Doe Jane"}
    assert {case.stratum for case in cases} == {"MS"}
    for case in cases:
        assert case.image.is_file()
        assert case.labels[0].is_file()


def test_patterns_describe_images_and_labels(scans: Path) -> None:
    """Images and label maps that lie side by side are told apart."""
    for patient in ("a", "b"):
        image, mask, lesion = make_head(ord(patient))
        folder = scans / "clinic" / patient
        folder.mkdir(parents=True)
        write_volume(folder / "t1.nii", Volume(image, AFFINE))
        write_volume(folder / "lesion.nii", Volume(lesion, AFFINE))
        write_volume(scans / "masks" / f"{patient}.nii", Volume(mask, AFFINE))

    run(
        *(scans / "clinic", scans / "out", "--brain-mask", scans / "masks"),
        *("--images", "{subject}/t1.nii", "--labels", "{subject}/lesion.nii"),
    )

    assert {path.name for path in (scans / "out" / "labels").iterdir()} == {
        "a.nii.gz",
        "b.nii.gz",
    }
    assert (scans / "out" / "cases.csv").read_text().count("\n") == 3
