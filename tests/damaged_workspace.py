"""A workspace in which every command has something to do, and what each one reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import damaged
import numpy as np
import SimpleITK as sitk
from source_layouts import write_tree

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, read_volume, write_volume

CASES = ("A 1", "B", "C")
SHAPE = (9, 8, 7)
FOLDERS = ("raw", "preprocessed", "results")


@dataclass(frozen=True)
class Use:
    """A file, and a command that reads it.

    Args:
        file: The file below the workspace; ``*`` stands for any name.
        command: The arguments of the command, separated by ``|``; ``{}`` is the
            workspace.
        output: What the command writes, which is there from an earlier run; empty if
            it writes nothing.
    """

    file: str
    command: str
    output: str = "out"

    def path(self, root: Path) -> Path:
        """Return the file."""
        found = [p for p in root.glob(self.file) if not p.name.startswith(".")]
        return min(found)

    def arguments(self, root: Path) -> list[str]:
        """Return the arguments, in a workspace whose path may have spaces."""
        return [part.replace("{}", str(root)) for part in self.command.split("|")]


_QUIET = "-np|1|--no-progress|--overwrite"
_EVALUATE = f"evaluate|{{}}/p|{{}}/r|-o|{{}}/out e|{_QUIET}"
_LESIONS = f"lesions|{{}}/p|--images|{{}}/i|-o|{{}}/out.csv|{_QUIET}"
_CEL = (
    "convert|cel|{}/cases.csv|-o|{}/raw 1|--linking-table|{}/link.csv|--test-fraction|"
    f"0|{_QUIET}"
)
_PREPARE = f"prepare|{{}}/cases.csv|{{}}/prepared|--no-strip|--keep-spacing|{_QUIET}"
_MASKED = f"prepare|{{}}/cases.csv|{{}}/prepared|--brain-mask|{{}}/masks|{_QUIET}"
_REPORT = (
    "report|{}/e|-o|{}/report.html|--images|{}/i|--model|{}/model|--lesions|1|"
    f"--compare|{{}}/e2|{_QUIET}"
)
_COMPARE = "compare|{}/e|{}/e2|-o|{}/comparison|--overwrite"
_RESTORE = "restore|{}/p|{}/transforms|-o|{}/restored|--overwrite"
_LINKED = (
    "restore|{}/linked|{}/transforms|-o|{}/restored|--linking-table|{}/l.csv|"
    "--overwrite"
)
_ORIGINAL = "restore|{}/p/B.nii.gz|{}/i/B_0000.nii.gz|-o|{}/restored.nii.gz|--overwrite"
_MAPS = f"export|itksnap|{{}}/e|-o|{{}}/maps|{_QUIET}"
_SEG = "export|dicom-seg|{}/seg.nii.gz|--dicom|{}/dicom|-o|{}/seg.dcm|--overwrite"
_SERIES = f"prepare|{{}}/dicom|{{}}/prepared|--no-strip|{_QUIET}"
_PROBABLE = f"evaluate|{{}}/p|{{}}/r|-o|{{}}/out e|--probabilities|{_QUIET}"
_PROTOCOL = f"evaluate|{{}}/p|{{}}/r|-o|{{}}/out e|--protocol|{{}}/own.yaml|{_QUIET}"
_FORMATS = f"lesions|{{}}/other|-o|{{}}/out.csv|{_QUIET}"
_BEST = "best-fold|7"

NIFTI = (
    Use("p/B.nii.gz", _EVALUATE, "out e"),
    Use("r/B.nii.gz", _EVALUATE, "out e"),
    Use("p/B.nii.gz", _LESIONS, "out.csv"),
    Use("i/B_0000.nii.gz", _LESIONS, "out.csv"),
    Use("i/B_0000.nii.gz", _CEL, "raw 1"),
    Use("r/B.nii.gz", _CEL, "raw 1"),
    Use("i/B_0000.nii.gz", _PREPARE, "prepared"),
    Use("r/B.nii.gz", _PREPARE, "prepared"),
    Use("p/B.nii.gz", _RESTORE, "restored"),
    Use("i/B_0000.nii.gz", _ORIGINAL, "restored.nii.gz"),
    Use("i/B_0000.nii.gz", _REPORT, "report_files"),
    Use("r/B.nii.gz", _REPORT, "report_files"),
    Use("p/B.nii.gz", _MAPS, "maps"),
    Use("seg.nii.gz", _SEG, "seg.dcm"),
    Use("masks/B.nii.gz", _MASKED, "prepared"),
    Use(
        "wmh/training/*/*/*/pre/FLAIR.nii.gz",
        f"convert|wmh2017|{{}}/wmh|-d|8|--no-strip|-o|{{}}/raw 2|{_QUIET}",
        "raw 2",
    ),
    Use(
        "wmh/training/*/*/*/wmh.nii.gz",
        f"convert|wmh|--wmh2017|{{}}/wmh|-d|6|--no-strip|-o|{{}}/raw 2|{_QUIET}",
        "raw 2",
    ),
    Use(
        "msseg/MSSEG-Training/Training/*/*/Preprocessed_Data/FLAIR*.nii.gz",
        f"convert|msseg2016|{{}}/msseg|-d|9|-o|{{}}/raw 2|{_QUIET}",
        "raw 2",
    ),
)
"""Uses of compressed NIfTI files."""

PLAIN = (
    Use(
        "isbi/training/*/preprocessed/*_flair_pp.nii",
        f"convert|isbi2015|{{}}/isbi|-d|7|-o|{{}}/raw 2|{_QUIET}",
        "raw 2",
    ),
    Use("other/plain.nii", _FORMATS, "out.csv"),
)
"""Uses of NIfTI files that are not compressed."""

EVALUATED = ((_COMPARE, "comparison"), (_REPORT, "report_files"), (_MAPS, "maps"))


def corpus(root: Path) -> Iterator[tuple[str, Use, bytes]]:
    """Yield name, use and damaged content of every damaged file.

    Damages of a format go to its uses in turn, so that every command meets many.
    """

    def in_turn(
        uses: tuple[Use, ...], damages: dict[str, damaged.Damage], times: int = 1
    ) -> Iterator[tuple[str, Use, bytes]]:
        for turn in range(times):
            for number, (name, damage) in enumerate(damages.items()):
                use = uses[(number + 5 * turn) % len(uses)]
                yield name, use, damage(use.path(root).read_bytes())

    def entries(use: Use, depth: int, each: int) -> Iterator[tuple[str, Use, bytes]]:
        content = use.path(root).read_bytes()
        for name, changed in damaged.json_entries(content, depth=depth, each=each):
            yield name, use, changed

    yield from in_turn(NIFTI, damaged.nifti(), 2)
    yield from in_turn(PLAIN, damaged.nifti(compressed=False), 1)
    for ending in ("nrrd", "mha"):
        use = Use(f"other/as_{ending}.{ending}", _FORMATS, "out.csv")
        yield from in_turn((use,), damaged.itk())
    series = (
        Use("dicom/IM0001.dcm", _SERIES, "prepared"),
        Use("dicom/IM0003.dcm", _SEG, "seg.dcm"),
    )
    yield from in_turn(series, damaged.dicom())
    header = Use("r/dataset.json", _EVALUATE, "out e")
    yield from in_turn((header,), damaged.json_file())
    yield from entries(header, 2, 2)
    # What the package itself writes is damaged by disks, not by editors.
    transform = Use("transforms/B.json", _RESTORE, "restored")
    validation = Use("results/*/*/fold_0/validation/summary.json", _BEST, "")
    probable = Use("p/B.npz", _PROBABLE, "out e")
    written = [transform, validation, probable]
    written += [
        Use(f"e/{name}", *EVALUATED[0]) for name in ("summary.json", "cases.csv")
    ]
    written += [
        Use(f"e/{name}", *EVALUATED[1]) for name in ("summary.json", "froc.csv")
    ]
    for use in written:
        yield from in_turn((use,), damaged.bytewise(seeds=1))
    tables = (
        Use("cases.csv", _CEL, "raw 1"),
        Use("cases.csv", _PREPARE, "prepared"),
        Use("l.csv", _LINKED, "restored"),
    )
    yield from in_turn(tables, damaged.csv_file(), 3)
    protocol = Use("own.yaml", _PROTOCOL, "out e")
    yield from in_turn((protocol,), damaged.yaml_file())
    log = Use("model/fold_0/training_log_*.txt", _REPORT, "report_files")
    yield from in_turn((log,), damaged.training_log())


def make_workspace(root: Path) -> None:
    """Fill a folder with inputs of every command, and the results of each."""
    rng = np.random.default_rng(0)
    affine = np.diag([1, 1, 1.5, 1])
    for folder in ("i", "p", "p2", "r", "masks", "linked", "other"):
        (root / folder).mkdir(parents=True)
    for number, case in enumerate(CASES):
        label = np.zeros(SHAPE, np.uint8)
        label[2:5, 2:5, 2:4] = label[6:8, 5:7, 4:6] = 1
        image = np.where(label > 0, 500, rng.integers(100, 200, SHAPE)).astype(np.int16)
        moved = np.roll(label, 1 + number, axis=0)
        files = {
            f"i/{case}_0000": image,
            f"p/{case}": moved,
            f"p2/{case}": label,
            f"r/{case}": label,
            f"masks/{case.replace(' ', '_')}": np.ones_like(label),
        }
        for name, voxels in files.items():
            write_volume(root / f"{name}.nii.gz", Volume(voxels, affine))
        likely = np.stack([1 - 0.9 * moved, 0.9 * moved]).astype(np.float32)
        np.savez_compressed(
            root / f"p/{case}.npz", probabilities=likely.transpose(0, 3, 2, 1)
        )
        if number == 0:
            picture = sitk.GetImageFromArray(label.transpose(2, 1, 0))
            for ending in ("nrrd", "mha"):
                sitk.WriteImage(picture, str(root / "other" / f"as_{ending}.{ending}"))
            write_volume(root / "other/plain.nii", Volume(label, affine))
    labels = {"labels": {"background": 0, "lesion": 1, "ignore": 2}}
    (root / "r/dataset.json").write_text(json.dumps(labels))
    rows = [f"{c},i/{c}_0000.nii.gz,r/{c}.nii.gz,MS" for c in CASES]
    (root / "cases.csv").write_text(
        "\n".join(["subject,image,label,diagnosis", *rows]) + "\n"
    )
    own = (Path(cli.__file__).parent / "evaluation/protocols/anima.yaml").read_text()
    (root / "own.yaml").write_text(own)
    trees = {
        "wmh": "wmh2017",
        "msseg": "msseg2016",
        "isbi": "isbi2015",
        "clinic": "cel-dicom",
    }
    for name, layout in trees.items():
        write_tree(root / name, layout, 2)
    shutil.copytree(root / "clinic/Doe_Jane/MR/T1_gado", root / "dicom")
    shutil.rmtree(root / "clinic")
    grid = read_volume(root / "dicom")
    marked = np.zeros(grid.voxels.shape, np.uint8)
    marked[2:4, 2:4, 2] = 1
    write_volume(root / "seg.nii.gz", Volume(marked, grid.affine))
    _make_models(root)
    _run_everything(root)


def _make_models(root: Path) -> None:
    """Write what nnU-Net leaves of trainings."""
    log = (
        "Epoch 0\nCurrent learning rate: 0.5\ntrain_loss 0.5\nval_loss 0.5\n"
        "Pseudo dice [0.5]\nEpoch time: 0.5 s\n"
    )
    (root / "model/fold_0").mkdir(parents=True)
    (root / "model/fold_0/training_log_2026_1_1_00_00_00.txt").write_text(log)
    for folder in FOLDERS:
        (root / folder).mkdir()
    fold = root / "results/Dataset007_X/FCADenseTrainer__FCADensePlans__2d/fold_0"
    (fold / "validation").mkdir(parents=True)
    (fold / "checkpoint_final.pth").write_bytes(b"weights")
    summary = {"foreground_mean": {"Dice": 0.5, "IoU": 0.4}}
    (fold / "validation/summary.json").write_text(json.dumps(summary))


def _run_everything(root: Path) -> None:
    """Run every command, so that each has an earlier result to lose."""

    def run(command: str) -> None:
        arguments = Use("", command).arguments(root)
        status = cli.main(arguments)
        if status:
            raise RuntimeError(f"{arguments} ended with {status}")

    run(f"evaluate|{{}}/p|{{}}/r|-o|{{}}/e|--probabilities|{_QUIET}")
    run(f"evaluate|{{}}/p2|{{}}/r|-o|{{}}/e2|{_QUIET}")
    run(_PREPARE)
    shutil.copytree(root / "prepared/transforms", root / "transforms")
    run(_CEL)
    (root / "transforms/A_1.json").rename(root / "transforms/A 1.json")
    shutil.copy(root / "transforms/A 1.json", root / "transforms/A_1.json")
    shutil.copy(root / "link.csv", root / "l.csv")
    for number in range(1, len(CASES) + 1):
        shutil.copy(root / "p/B.nii.gz", root / f"linked/CEL_{number:03d}.nii.gz")
    commands = {use.command for use in (*NIFTI, *PLAIN)}
    for command in sorted(commands | {_COMPARE, _LINKED, _BEST}):
        run(command)
