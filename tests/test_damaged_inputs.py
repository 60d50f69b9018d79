"""Damaged files meet every command: a message that names them, no harm, no waiting."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from source_layouts import write_tree

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, read_volume, write_volume

Damage = Callable[[bytes], bytes]

FATAL = ("empty", "zeros", "noise", "a page of the provider")  # never harmless
LIMIT = 20  # seconds for one command, on machines that do other work as well
LONGEST = 3000  # letters of a message
EVERY = 23  # of how many damages `make test` tries one


def flip_bits(content: bytes) -> bytes:
    """Return a file of which some bits are wrong."""
    chance = random.Random(0)
    changed = bytearray(content)
    for _ in range(max(3, len(content) // 50)):
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def other(content: bytes) -> Damage:
    """Return the damage that puts another file in place of one."""
    return lambda _: content


def line(pattern: bytes, new: bytes) -> Damage:
    """Return the damage that writes something else where a pattern is."""
    return lambda content: re.sub(rb"(?m)" + pattern, new, content)


def field(offset: int, kind: str, value: float) -> Damage:
    """Return the damage that sets a field of the header of a NIfTI file."""
    new = np.array([value], kind).tobytes()
    return lambda raw: raw[:offset] + new + raw[offset + len(new) :]


def tag(group: int, element: int, new: bytes) -> Damage:
    """Return the damage that sets a tag of a DICOM file with implicit types."""
    new += b" " * (len(new) % 2)

    def damage(content: bytes) -> bytes:
        start = content.index(np.array([group, element], "<u2").tobytes(), 132) + 8
        stop = start + int.from_bytes(content[start - 4 : start], "little")
        size = len(new).to_bytes(4, "little")
        return content[: start - 4] + size + new + content[stop:]

    return damage


def inside(change: Damage) -> Damage:
    """Return a damage of what is compressed in a file."""
    return lambda content: gzip.compress(change(gzip.decompress(content)), mtime=0)


def rows(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Return a damage of the lines of a table."""
    return lambda content: b"\n".join(change(content.splitlines())) + b"\n"


def third_cells(cell: bytes) -> Damage:
    """Return the damage that fills the third column of a table."""
    return line(rb"(?<=\n)([^,]*,[^,]*,)[^,]*", rb"\1" + cell)


# What disks, networks and programs do to any file, and to any text.
ANY: dict[str, Damage] = {
    "empty": other(b""),
    "first half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "a page of the provider": other(b"<html>404 Not Found</html>"),
    "noise": lambda content: random.Random(0).randbytes(len(content)),
    "start missing": lambda content: content[17:],
    "bits flipped": flip_bits,
}
TEXT = ANY | {
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "Latin-1": lambda content: b"\xe4\xf6\xfc" + content,
    "null byte": lambda content: content[:20] + b"\0" + content[20:],
}
TABLE = TEXT | {
    "header alone": rows(lambda r: r[:1]),
    "no header": rows(lambda r: r[1:]),
    "first column missing": rows(lambda r: [x.partition(b",")[2] for x in r]),
    "column twice": rows(lambda r: [x.partition(b",")[0] + b"," + x for x in r]),
    "a row twice": rows(lambda r: [*r, r[-1]]),
    "a row missing": rows(lambda r: r[:-1]),
    "a cell too many": rows(lambda r: [*r[:-1], r[-1] + b",,x"]),
    "a cell too few": rows(lambda r: [*r[:-1], r[-1].partition(b",")[0]]),
    "cells of text": third_cells(b"text"),
    "empty cells": third_cells(b""),
}
HEADER = 352  # bytes before the voxels of a NIfTI file
INSIDE: dict[str, Damage] = {
    f"{name} {value:g}": field(offset, kind, value)
    for name, offset, kind, values in (
        ("dims", 40, "<i2", (0, 2)),
        ("dim1", 42, "<i2", (0, 32767)),
        ("dim3", 46, "<i2", (32767,)),
        ("datatype", 70, "<i2", (0, 32, 128)),
        ("pixdim1", 80, "<f4", (np.nan, 0)),
        ("vox_offset", 108, "<f4", (3e9,)),
        ("scl_slope", 112, "<f4", (np.nan,)),
        ("xyzt_units", 123, "u1", (1,)),
        ("srow_x0", 280, "<f4", (0, np.nan)),
        ("srow_x1", 284, "<f4", (5,)),
        ("magic", 344, "<u4", (0,)),
    )
    for value in values
} | {
    "header alone": lambda raw: raw[:HEADER],
    "last voxel missing": lambda raw: raw[:-1],
    "NaN voxels": lambda raw: raw[:HEADER] + b"\xff" * (len(raw) - HEADER),
}
JSON = [
    text.replace("?", value)
    for text in ("?", '{"labels": ?}', '{"labels": {"background": 0, "lesion": ?}}')
    for value in ("null", '"a"', '["a"]', "[]", "{}", "NaN", "true", "-1", "1.5", "1,")
]
# For each ending of a name of a file; what programs write is damaged by disks alone.
DAMAGES: dict[str, dict[str, Damage]] = {
    ".nii": ANY | INSIDE,
    ".nii.gz": ANY
    | {name: inside(damage) for name, damage in INSIDE.items()}
    | {
        "not compressed": gzip.decompress,
        "compressed twice": lambda content: gzip.compress(content, mtime=0),
        "checksum": lambda content: content[:-8] + bytes(4) + content[-4:],
    },
    ".nrrd": ANY
    | {
        "sizes": line(rb"^sizes:.*$", b"sizes: 99999 99999 99999"),
        "no axes": line(rb"^space dir.*$", b"space directions: none none none"),
        "NaN": line(rb"^space dir.*$", b"space directions: (nan,0,0) (0,1,0) (0,0,1)"),
    },
    ".mha": ANY
    | {
        "sizes": line(rb"^DimSize.*$", b"DimSize = 99999 99999 99999"),
        "no axes": line(rb"^TransformM.*$", b"TransformMatrix = 0 0 0 0 0 0 0 0 0"),
        "NaN": line(rb"^ElementSpacing.*$", b"ElementSpacing = 0 -1 nan"),
        "no file": line(rb"^ElementDataFile.*$", b"ElementDataFile = absent.raw"),
    },
    ".dcm": ANY
    | {
        "place": tag(0x20, 0x32, rb"1\2\999"),
        "place text": tag(0x20, 0x32, b"here"),
        "no place": tag(0x20, 0x32, b""),
        "direction": tag(0x20, 0x37, rb"0\0\0\0\0\0"),
        "no direction": tag(0x20, 0x37, b""),
        "spacing": tag(0x28, 0x30, rb"0\0"),
        "other series": tag(0x20, 0x0E, b"1.2.3"),
    },
    "dataset.json": TEXT | {f"is {text}": other(text.encode()) for text in JSON},
    "scans.csv": TABLE,
    "link2.csv": TABLE,
    ".yaml": TEXT
    | {
        "runs code": other(b"name: !!python/object/apply:os.system ['exit 1']\n"),
        "a list": other(b"- 1\n- 2\n"),
        "a number": other(b"7\n"),
        "tabs": line(rb"  ", b"\t"),
        "two documents": lambda content: content + b"---\n" + content,
        "a key that is a list": lambda content: b"? [1, 2]\n: 3\n" + content,
        "an unknown alias": other(b"name: *unknown\n"),
    },
    ".txt": TEXT | {"no number": line(rb"0\.5", b"abc")},
    "": ANY,
}

# What the commands read; @ is the workspace.
Q = " -np 1 --no-progress"
EVALUATE = "evaluate @p @r -o @out" + Q
PROBABLE = EVALUATE + " --probabilities"
CEL = "convert cel @scans.csv -o @raw --linking-table @link.csv --test-fraction 0" + Q
PREPARE = "prepare @scans.csv @prepared --no-strip --keep-spacing" + Q
REPORT = "report @e -o @a.html --images @i --model @m --lesions 1 --compare @e2" + Q
LINKED = "restore @linked @transforms -o @restored --linking-table @link2.csv"
ISBI2015 = "convert isbi2015 @isbi2015 -d 17 -o @raw2" + Q
WMH2017 = "convert wmh2017 @wmh2017 -d 8 --no-strip -o @raw2" + Q
WMH = "convert wmh --wmh2017 @wmh2017 -d 6 --no-strip -o @raw2" + Q
READS = {
    EVALUATE: "p/B.nii.gz r/B.nii.gz r/dataset.json",
    PROBABLE: "p/B.npz",
    f"evaluate @p @r -o @out --protocol @own.yaml{Q}": "own.yaml",
    f"lesions @p --images @i -o @out.csv{Q}": "p/B.nii.gz i/B_0000.nii.gz",
    f"lesions @o -o @out.csv{Q}": "o/a.nrrd o/b.mha o/plain.nii",
    CEL: "i/B_0000.nii.gz r/B.nii.gz scans.csv",
    ISBI2015: "isbi2015/training/*/preprocessed/*_flair_pp.nii",
    f"convert msseg2016 @msseg2016 -d 9 -o @raw2{Q}": "msseg2016/**/FLAIR_pre*.nii.gz",
    WMH2017: "wmh2017/training/**/pre/FLAIR.nii.gz",
    WMH: "wmh2017/training/**/wmh.nii.gz",
    PREPARE: "i/B_0000.nii.gz r/B.nii.gz scans.csv",
    f"prepare @scans.csv @prepared --brain-mask @masks{Q}": "masks/B.nii.gz",
    f"prepare @dicom @prepared --no-strip{Q}": "dicom/IM0001.dcm",
    "restore @p @transforms -o @restored": "p/B.nii.gz transforms/B.json",
    "restore @p/B.nii.gz @i/B_0000.nii.gz -o @restored.nii.gz": "i/B_0000.nii.gz",
    LINKED: "link2.csv",
    REPORT: "i/B_0000.nii.gz r/B.nii.gz e/summary.json e/froc.csv m/fold_0/*.txt",
    "compare @e @e2 -o @comparison": "e/summary.json e/cases.csv",
    f"export itksnap @e -o @maps{Q}": "p/B.nii.gz",
    "export dicom-seg @seg.nii.gz --dicom @dicom -o @seg.dcm": (
        "seg.nii.gz dicom/IM0003.dcm"
    ),
    "best-fold 7": "results/*/*/fold_0/validation/summary.json",
}


def make_cases() -> list[tuple[str, str, str, Damage]]:
    """Return commands, files that they read, and names of damages and these."""
    return [
        (command, file, name, damage)
        for command, files in READS.items()
        for file in files.split()
        for name, damage in DAMAGES[
            next(ending for ending in DAMAGES if file.endswith(ending))
        ].items()
    ]


def make_workspace(root: Path) -> None:
    """Fill a folder with inputs of every command, and the results of each."""
    rng = np.random.default_rng(0)
    affine = np.diag([1, 1, 1.5, 1])
    shape = (9, 8, 7)
    for folder in ("i", "p", "p2", "r", "masks", "linked", "o", "m/fold_0"):
        (root / folder).mkdir(parents=True)
    lines = ["subject,image,label,diagnosis"]
    for number, case in enumerate(("A 1", "B", "C")):
        label = np.zeros(shape, np.uint8)
        label[2:5, 2:5, 2:4] = label[6:8, 5:7, 4:6] = 1
        image = np.where(label > 0, 500, rng.integers(100, 200, shape)).astype(np.int16)
        moved = np.roll(label, 1 + number, axis=0)
        for name, voxels in {
            f"i/{case}_0000": image,
            f"p/{case}": moved,
            f"p2/{case}": label,
            f"r/{case}": label,
            f"masks/{case.replace(' ', '_')}": np.ones_like(label),
        }.items():
            write_volume(root / f"{name}.nii.gz", Volume(voxels, affine))
        likely = np.stack([1 - 0.9 * moved, 0.9 * moved]).astype(np.float32)
        likely = likely.transpose(0, 3, 2, 1)
        np.savez_compressed(root / f"p/{case}.npz", probabilities=likely)
        lines.append(f"{case},i/{case}_0000.nii.gz,r/{case}.nii.gz,MS")
    (root / "scans.csv").write_text("\n".join(lines) + "\n")
    for name in ("a.nrrd", "b.mha"):
        picture = sitk.GetImageFromArray(label.transpose(2, 1, 0))
        sitk.WriteImage(picture, str(root / "o" / name))
    write_volume(root / "o/plain.nii", Volume(label, affine))
    labels = {"labels": {"background": 0, "lesion": 1, "ignore": 2}}
    (root / "r/dataset.json").write_text(json.dumps(labels))
    own = Path(cli.__file__).parent / "evaluation/protocols/anima.yaml"
    shutil.copy(own, root / "own.yaml")
    for layout in ("wmh2017", "msseg2016", "isbi2015", "cel-dicom"):
        write_tree(root / layout, layout, 2)
    (root / "cel-dicom/Doe_Jane/MR/T1_gado").rename(root / "dicom")
    shutil.rmtree(root / "cel-dicom")
    grid = read_volume(root / "dicom")
    marked = np.zeros(grid.voxels.shape, np.uint8)
    marked[2:4, 2:4, 2] = 1
    write_volume(root / "seg.nii.gz", Volume(marked, grid.affine))
    (root / "m/fold_0/training_log_2026_1_1_00_00_00.txt").write_text(
        "Epoch 0\nCurrent learning rate: 0.5\ntrain_loss 0.5\nval_loss 0.5\n"
        "Pseudo dice [0.5]\nEpoch time: 0.5 s\n"
    )
    fold = root / "results/Dataset007_X/FCADenseTrainer__FCADensePlans__2d/fold_0"
    (fold / "validation").mkdir(parents=True)
    (fold / "checkpoint_final.pth").write_bytes(b"weights")
    summary = {"foreground_mean": {"Dice": 0.5, "IoU": 0.4}}
    (fold / "validation/summary.json").write_text(json.dumps(summary))
    # Every command runs once, so that each has an earlier result to lose.
    second = f"evaluate @p2 @r -o @e2{Q}"
    for command in (PROBABLE.replace("@out", "@e"), second, PREPARE, CEL):
        assert cli.main(arguments(root, command)) == 0, command
    shutil.copytree(root / "prepared/transforms", root / "transforms")
    shutil.copy(root / "transforms/A_1.json", root / "transforms/A 1.json")
    shutil.copy(root / "link.csv", root / "link2.csv")
    for number in (1, 2, 3):
        shutil.copy(root / "p/B.nii.gz", root / f"linked/CEL_{number:03d}.nii.gz")
    for command in READS:
        assert cli.main(arguments(root, command)) == 0, command


def arguments(root: Path, command: str) -> list[str]:
    """Return the arguments of a command, in a workspace whose path has spaces."""
    parts = [part.replace("@", f"{root}/") for part in command.split(" ")]
    return parts if parts[0] == "best-fold" else [*parts, "--overwrite"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace in which every command works."""
    root = tmp_path_factory.mktemp("damaged") / "my work; $(exit 1) 'x'"
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("raw", "preprocessed", "results"):
            (root / folder).mkdir(parents=True)
            patch.setenv(f"nnUNet_{folder}", str(root / folder))
        make_workspace(root)
        yield root


class TooLate(BaseException):
    """A command that does not end; no ``except Exception`` catches it."""


def run(root: Path, command: str) -> tuple[int, str]:
    """Run a command in this process; return its status and what it said of errors."""

    def fail(*_: object) -> None:
        raise TooLate

    said = io.StringIO()
    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LIMIT)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            status = cli.main(arguments(root, command))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return status, said.getvalue()


def contents(root: Path) -> dict[Path, bytes]:
    """Return the bytes of every file below a folder."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def undo(root: Path, before: dict[Path, bytes]) -> list[str]:
    """Undo what has changed in a folder, and return the names of changed files."""
    after = contents(root)
    for path in after.keys() - before.keys():
        path.unlink()
    changed = [path for path in before if after.get(path) != before[path]]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before[path])
    return sorted(map(str, [*(after.keys() - before.keys()), *changed]))


def find(root: Path, pattern: str) -> Path:
    """Return the file of a pattern."""
    return min(path for path in root.glob(pattern) if not path.name.startswith("."))


def meet(root: Path, path: Path, command: str, before: dict[Path, bytes]) -> str:
    """Run a command on a damaged file, and put everything back as it was.

    Returns:
        What is wrong with how the command took it, or ``"harmless"`` if it succeeded.
    """
    try:
        status, said = run(root, command)
    except (TooLate, Exception) as error:
        return f"no message, but {error!r}"
    finally:
        path.write_bytes(before[path])
        changed = undo(root, before)
    if status == 0:
        return "harmless"
    if changed:
        return f"it failed and changed {changed}"
    # Slices are named by their folder, training logs by their model, folds by theirs.
    model = path.parents[2 if path.parent.name == "validation" else 1]
    named = (path, path.parent, model)
    if not any(str(name) in said for name in named):
        return f"the message names no file: {said}"
    if status != 1 or len(said) > LONGEST or "Traceback" in said:
        return f"the message is no message: {status}, {said[:LONGEST]}"
    return ""


@pytest.mark.parametrize(
    "every", [EVERY, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)
def test_damaged_files(workspace: Path, every: int) -> None:
    """Each ends in a message that names the file, or does no harm.

    What was there before stays as it was, to the byte, and nothing is added.
    """
    before = contents(workspace)
    cases = make_cases()[::every]
    harmless, wrong = [], []
    for command, file, name, damage in cases:
        path = find(workspace, file)
        path.write_bytes(damage(before[path]))
        assert path.read_bytes() != before[path], (file, name)
        result = meet(workspace, path, command, before)
        case = f"{command}, {file}, {name}"
        if result == "harmless" and name not in FATAL:
            harmless.append(case)
        elif result:
            wrong.append(f"{case}: {result}")
    assert not wrong, "\n".join(wrong)
    assert len(harmless) < len(cases) / 3


@pytest.mark.campaign
def test_a_folder_in_place_of_a_file(workspace: Path) -> None:
    """It is refused as any other damage, and so is a link that leads to itself."""
    before = contents(workspace)
    commands = {file: c for c, files in READS.items() for file in files.split()}
    for file, command in commands.items():
        path = find(workspace, file)
        for make, remove in (
            (Path.mkdir, Path.rmdir),
            (lambda path: path.symlink_to(path), Path.unlink),
        ):
            path.unlink()
            make(path)
            status, said = run(workspace, command)
            assert status in (0, 1), file
            assert "Traceback" not in said
            remove(path)
            undo(workspace, before)
