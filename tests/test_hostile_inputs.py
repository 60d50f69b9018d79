"""Inputs that want to do harm: formulas, scripts, code, bombs and paths."""

from __future__ import annotations

import csv
import gzip
import time
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_cel import cli
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.volumes import Volume, read_volume, to_nifti, write_volume

SCRIPT = "<script>alert(1)<+script>"  # with a slash it could be no file
FORMULA = "=cmd|' /C calc'!A0"
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


def test_no_cell_of_our_tables_is_a_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that are formulas go through all commands, and come back as names."""
    monkeypatch.chdir(tmp_path)
    subjects = [FORMULA, "+1", "-2", "@x"]
    with Path("scans.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["subject", "image", "label", "diagnosis"])
        for number, subject in enumerate(subjects):
            scan(Path(f"={number}.nii.gz"), number)
            outline(Path(f"-{number}.nii.gz"))
            files = (f"={number}.nii.gz", f"-{number}.nii.gz")
            table.writerow([subject, *files, "=MS"])

    options = ("--no-strip", "--keep-spacing", *QUIET)
    assert run("prepare", "scans.csv", "prepared", *options) == 0
    source = "prepared/cases.csv"
    assert run("convert", "cel", source, "-o", "raw", "--test-fraction", 0, *QUIET) == 0
    labels = "raw/Dataset502_CEL/labelsTr"
    linked = ("--linking-table", "Dataset502_CEL_linking_table.csv")
    assert run("restore", labels, "prepared", "-o", "restored", *linked) == 0
    names = {path.name for path in Path("restored").glob("*.nii.gz")}
    assert {"-2.nii.gz", "+1.nii.gz"} < names
    assert run("evaluate", "restored", "restored", "-o", "out", *QUIET) == 0
    assert run("lesions", "restored", "-o", "lesions.csv", *QUIET) == 0
    assert run("report", "out", "-o", "page.html", *QUIET) == 0

    tables = [path for path in tmp_path.rglob("*.csv") if path.name != "scans.csv"]
    assert len(tables) > 8
    for path in tables:
        with path.open(newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    assert not cell.startswith(("=", "+", "@", "\t", "\r"))
                    if cell.startswith("-"):
                        float(cell)  # a number may


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
    """Tags that would call a function are refused, and aliases do not multiply."""
    path, proof = tmp_path / "a.yaml", tmp_path / "proof"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system"):
        path.write_text(f"name: !!python/{tag} ['touch \"{proof}\"']\n")
        with pytest.raises(ValueError, match="not YAML"):
            load_protocol(path)
    assert not proof.exists()

    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="not known") as error:
        load_protocol(path)
    assert len(str(error.value)) < 1000
    path.write_text("[" + ",".join(["&a [x]", *["*a"] * 5]) + "]")
    with pytest.raises(ValueError, match="must have the entries"):
        load_protocol(path)


@pytest.mark.parametrize("kind", ["behind", "promised", "alone"])
def test_archives_that_grow_are_not_unpacked(tmp_path: Path, kind: str) -> None:
    """A small file that would fill the memory is refused at once."""
    path = tmp_path / "bomb.nii.gz"
    content = to_nifti(
        Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)), compressed=False
    )
    zeros = gzip.compress(bytes(10**8)) * 20
    if kind == "promised":
        header = bytearray(content[:352])
        header[42:48] = np.array([32767] * 3, "<i2").tobytes()
        content = bytes(header)
    path.write_bytes(zeros if kind == "alone" else gzip.compress(content) + zeros)

    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"bomb\.nii\.gz cannot be read"):
        read_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 20e6
    assert time.monotonic() - start < 5


def test_headers_do_not_name_other_files(tmp_path: Path) -> None:
    """An image in one file has its voxels there; in two, the other is beside it."""
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(64))
    (tmp_path / "in").mkdir()
    header = (
        "NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
        "ElementDataFile = {}\n"
    )
    for name, data in (
        ("a.mha", secret),
        ("a.mhd", secret),
        ("b.mhd", "../secret.raw"),
    ):
        path = tmp_path / "in" / name
        path.write_text(header.format(data))
        with pytest.raises(ValueError, match="its voxels are in"):
            read_volume(path)
    nrrd = tmp_path / "in" / "a.nhdr"
    nrrd.write_text(
        "NRRD0004\ntype: unsigned char\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
        f"data file: {secret}\n"
    )
    with pytest.raises(ValueError, match="its voxels are in"):
        read_volume(nrrd)

    (tmp_path / "in" / "c.raw").write_bytes(bytes(64))
    (tmp_path / "in" / "c.mhd").write_text(header.format("c.raw"))
    assert read_volume(tmp_path / "in" / "c.mhd").voxels.shape == (4, 4, 4)


def test_numbers_of_axes_that_crash_others(tmp_path: Path) -> None:
    """ITK would end the process on them."""
    path = tmp_path / "a.mha"
    path.write_text("NDims = 99\nDimSize = 4 4 4\nElementDataFile = LOCAL\n")

    with pytest.raises(ValueError, match="its number of axes is 99"):
        read_volume(path)


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
