"""The command that prepares images: files in, files out."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.dataset_conversion.cel import find_cases
from nnunet_cel.files import sha256
from nnunet_cel.preparation import command
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])


def run(*arguments: object) -> int:
    """Run the command in this process, without progress bars."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    texts = ["--no-progress", "-np", "1", *map(str, arguments)]
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
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders ``scans``, ``masks`` and ``outlines`` of two patients."""
    monkeypatch.chdir(tmp_path)
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
    """Images, labels, masks, pictures and records, the same with any -np; no path."""
    label = make_head(2)[2] * 0
    label[0, 0, 0] = label[20, 20, 10] = 1
    write_volume("outlines/p2.nii.gz", Volume(label, AFFINE))
    warning = "1 of 2 lesion voxels lie outside of the brain mask."
    options = ("--labels", "outlines", "--brain-mask", "masks", "--n4", "--denoise")
    out = scans / "new folder" / "out"

    status = run("scans", out, *options, "--spacing", 2, 2, 3)

    assert status == 0
    assert capsys.readouterr().out == (
        f"Warning: p2: {warning}\nPrepared 2 cases in {out}\n"
        f"Look at the pictures in {out / 'qc'} before you use the images.\n"
    )
    of_a_case = ("images/{}_0000.nii.gz", "labels/{}.nii.gz", "masks/{}.nii.gz")
    of_a_case += ("qc/{}.png", "transforms/{}.json")
    names = {name.format(case) for name in of_a_case for case in ("p1", "p2")}
    assert set(files(out)) == names | {"preparation.json"}
    assert not list(out.parent.glob(".*"))
    image = read_volume(out / "images/p1_0000.nii.gz")
    label = read_label_map(out / "labels/p1.nii.gz")
    assert image.spacing == pytest.approx((2, 2, 3))
    assert image.voxels.dtype == np.float32
    lesion = image.voxels[label.voxels > 0]
    assert lesion.mean() > 1.2 * image.voxels[image.voxels > 0].mean()
    mask = read_volume(out / "masks/p1.nii.gz")
    np.testing.assert_array_equal(mask.voxels, make_head(1)[1])
    np.testing.assert_array_equal(mask.affine, AFFINE)

    record = json.loads((out / "preparation.json").read_text())
    assert record["settings"] == {
        "brain_extraction": "mask",
        "n4": True,
        "denoise": True,
        "spacing_mm": [2, 2, 3],
        "margin_mm": 5,
    }
    volume = make_head(1)[1].sum() * 2 * 2 * 4 / 1000
    assert record["cases"]["p1"] == {
        "source_sha256": sha256("scans/p1.nii.gz"),
        "brain_volume_ml": pytest.approx(volume, abs=0.06),
        "warnings": [],
    }
    assert record["cases"]["p2"]["warnings"] == [warning]
    transform = json.loads((out / "transforms/p1.json").read_text())
    for key in ("settings", "versions"):
        assert transform[key] == record[key]
    for name, text in files(out).items():
        assert not name.endswith(".json") or str(scans).encode() not in text

    run("scans", "again", *options, "--spacing", 2, 2, 3, "-np", 2)
    assert files(scans / "again") == files(out)


def test_problems_of_all_cases(scans: Path, monkeypatch) -> None:
    """Unreadable images and files on other grids are all named in one message."""
    Path("scans/p3.nii.gz").write_bytes(b"broken")
    write_volume("scans/p4.nii", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)))
    with pytest.raises(ValueError, match=r"Got none for\n  .*p3\.nii\.gz"):
        run("scans", "out", "--labels", "outlines", "--no-strip")
    for name in ("p3", "p4"):
        write_volume(f"outlines/{name}.nii.gz", Volume(make_head(1)[2], AFFINE))
    write_volume("masks/p2_mask.nii.gz", Volume(make_head(2)[1], np.eye(4)))
    monkeypatch.setattr(command, "prepare_volume", None)  # before the slow work

    with pytest.raises(ValueError, match=r"^3 cases have problems") as error:
        run("scans", "out", "--labels", "outlines", "--brain-mask", "masks")

    for text in ("p3.nii.gz cannot be read", "p4.nii.gz must have the shape"):
        assert text in str(error.value)
    assert "p2_mask.nii.gz must have the affine" in str(error.value)
    assert sorted(p.name for p in scans.iterdir()) == ["masks", "outlines", "scans"]


def test_replaced_on_request_and_only_what_is_alike(scans: Path) -> None:
    """An older result, also one beside the images; any other folder never."""
    out = scans / "scans" / "out"
    arguments = ("scans", out, "--no-strip")
    run(*arguments)
    before = files(out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(*arguments)
    assert files(out) == before

    run(*arguments, "--overwrite", "--keep-spacing")

    assert files(out).keys() == before.keys()
    assert files(out) != before
    with pytest.raises(ValueError, match="Only an earlier preparation is replaced"):
        run("scans", "masks", "--no-strip", "--overwrite")
    with pytest.raises(ValueError, match="folder of its own"):
        run(out / "images", out, "--no-strip", "--overwrite")


def test_table_of_scans_goes_through(scans: Path) -> None:
    """Subjects, visits and diagnoses come out as a table that can be converted."""
    Path("cases.csv").write_text(
        "subject,image,label,diagnosis,born\n"
        "Doe Jane,scans/p1.nii.gz,outlines/p1.nii.gz,MS,1990\n"
        "Doe Jane,scans/p2_0000.nii,outlines/p2.nii.gz,MS,1990\n"
    )
    for name, scan in (("Doe_Jane", "p1"), ("Doe_Jane_2", "p2")):
        Path(f"masks/{scan}_mask.nii.gz").rename(f"masks/{name}.nii.gz")

    run("cases.csv", "out", "--brain-mask", "masks")

    assert Path("out/cases.csv").read_text() == (
        "subject,session,image,label,diagnosis\n"
        "Doe Jane,,images/Doe_Jane_0000.nii.gz,labels/Doe_Jane.nii.gz,MS\n"
        "Doe Jane,2,images/Doe_Jane_2_0000.nii.gz,labels/Doe_Jane_2.nii.gz,MS\n"
    )
    cases = find_cases(Path("out/cases.csv"))
    assert [case.identifier for case in cases] == ["Doe_Jane", "Doe_Jane_2"]
    assert {(case.group, case.stratum) for case in cases} == {("Doe Jane", "MS")}
    for case in cases:
        assert case.image.is_file()
        assert case.labels[0].is_file()

    for patient in ("a", "b"):  # images and label maps side by side
        Path("clinic", patient).mkdir(parents=True)
        shutil.copy("scans/p1.nii.gz", f"clinic/{patient}/t1.nii.gz")
        shutil.copy("outlines/p1.nii.gz", f"clinic/{patient}/lesion.nii.gz")
    patterns = ("--images", "{subject}/t1.nii.gz", "--labels", "*/lesion.nii.gz")
    run("clinic", "patterns", "--no-strip", *patterns)
    run("scans/p2_0000.nii", "one", "--no-strip", "--labels", "outlines/p1.nii.gz")
    assert [path.name for path in Path("one/labels").iterdir()] == ["p2.nii.gz"]
    names = {path.name for path in Path("patterns/labels").iterdir()}
    assert names == {"a.nii.gz", "b.nii.gz"}


def test_scans_to_be_predicted_have_no_label_maps(scans: Path) -> None:
    """Tables and patterns may leave them out, for all scans or for none."""
    rows = ["subject,image,label", "a,scans/p1.nii.gz,", "b,scans/p2_0000.nii,"]
    Path("cases.csv").write_text("\n".join(rows))
    run("cases.csv", "out", "--no-strip")
    run("scans", "patterns", "--no-strip", "--images", "{subject}.nii.gz")

    assert Path("out/cases.csv").read_text() == (
        "subject,session,image\na,,images/a_0000.nii.gz\nb,,images/b_0000.nii.gz\n"
    )
    assert [path.name for path in Path("patterns/images").iterdir()] == [
        "p1_0000.nii.gz"
    ]
    assert not Path("out/labels").exists()
    patterns = ("--images", "{subject}.nii.gz", "--labels", "{subject}_typo.nii.gz")
    with pytest.raises(ValueError, match="must have a label map"):
        run("scans", "typo", "--no-strip", *patterns)
    Path("cases.csv").write_text("\n".join(rows) + "outlines/p2.nii.gz")
    with pytest.raises(ValueError, match=r"without an empty cell(.|\n)*in row 2"):
        run("cases.csv", "half", "--no-strip")
