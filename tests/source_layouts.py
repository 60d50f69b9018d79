"""Source trees for tests: tiny scans in every layout, old and new, with decoys.

The package writes the newest layout of every source. The older ones, and those in which
users rearrange their files, are made here of it. Every tree also holds what a converter
finds in a download and must leave alone: other sequences, broken downloads, and what
file managers leave behind.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.eulerangles import euler2mat

from nnunet_cel.phantom import layouts
from nnunet_cel.phantom.layouts import VISITS, Layout, Slot
from nnunet_cel.phantom.subject import Kind, Subject
from nnunet_cel.volumes import Volume, write_volume


def make_tiny_subject(kind: Kind, index: int, *, lesions: bool = True) -> Subject:
    """Make a subject of a few voxels on an oblique grid.

    It has a lesion of six voxels, number 1 of the kind ``"wmh"`` other pathology, too.
    """
    rng = np.random.default_rng(index)
    shape = (6, 7, 5)
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(x=0.1) @ np.diag([1.1, 0.9, 2.0])
    affine[:3, 3] = (-3.5, -20.25, 10.0)
    brain = np.zeros(shape, dtype=np.uint8)
    brain[1:5, 1:6, 1:4] = 1
    label = np.zeros(shape, dtype=np.uint8)
    label[1:4, 2:4, 2] = lesions
    second = label.copy()
    second[1, 2:4, 2] = 0
    raw = rng.integers(100, 200, shape) + 300 * (label == 1)
    raw = raw.astype(np.float32 if index % 2 else np.int16)
    if kind == "wmh" and index == 1:
        label[3:5, 5, 1] = 2
    return Subject(
        raw=Volume(raw, affine),
        brain_image=Volume(raw * brain.astype(raw.dtype), affine),
        t1=Volume(rng.integers(50, 150, shape).astype(np.int16), affine),
        label=Volume(label, affine),
        second_lesions=Volume(second, affine),
    )


def _variant(name: str, rename: Callable[[str], str]) -> Layout:
    """Return a newest layout with other paths, without those made empty."""
    layout = layouts.LAYOUTS[name]
    slots = []
    for slot in layout.slots:
        files = {rename(path): content for path, content in slot.files.items()}
        files.pop("", None)
        slots.append(replace(slot, files=files))
    return replace(layout, slots=slots)


def _isbi_flat(path: str) -> str:
    """Compressed, in folders that count by subject."""
    file = PurePosixPath(path)
    subject, time_point = (int(part[-2:]) for part in file.name.split("_")[:2])
    first = {1: 0, 2: 4, 3: 8, 4: 13, 5: 17}[subject]
    return f"ISBI_Training_{first + time_point:02d}/{file.name}.gz"


def _wmh_yucca(path: str) -> str:
    """Rearranged for yucca, without the original images."""
    if "/orig/" in path:
        return ""
    path = path.removeprefix("training/").replace("/wmh", "/pre/wmh")
    for site in ("Utrecht", "Singapore"):
        path = path.replace(f"{site}/", f"{site}/Train/")
    return path.replace("Amsterdam/GE3T", "Amsterdam/Train_GE3T")


_MSSEG, _CEL = layouts.LAYOUTS["msseg2016"], layouts.LAYOUTS["cel-bids"]
_MSSEG_TRAINING = (
    *("01016SACH", "01038PAGU", "01039VITE", "01040VANE", "01042GULE"),
    *("07001MOEL", "07003SATH", "07010NABO", "07040DORE", "07043SEME"),
    *("08002CHJE", "08027SYBR", "08029IVDI", "08031SEVE", "08037ROGU"),
)
_MSSEG_TEST = ("01045BRPO", *(f"030{i}XYZA" for i in range(46, 51)))  # one is original


def _msseg_old(ids: Sequence[str], **files: str) -> Layout:
    """Return a layout of the portal of 2016; ``{}`` stands for a patient."""
    slots = [
        replace(slot, files={path.format(name): what for what, path in files.items()})
        for name, slot in zip(ids, _MSSEG.slots, strict=False)
    ]
    return replace(_MSSEG, slots=slots)


def _csv_files(patient: str, session: str, number: int) -> dict[str, str]:
    """NIfTI, NRRD and MetaImage, listed in a table."""
    name = patient + (f" visit {session}" if session else "")
    image, label = (
        (f"from PACS/{name}/T1 gado.nii.gz", f"from PACS/{name}/T1 gado seg.nii.gz"),
        (f"scans 2019/{name}.nrrd", f"scans 2019/{name}_seg.nrrd"),
        (f"old/{name}.mha", f"old/labels/{name}.nii"),
    )[number % 3]
    return {image: "raw", label: "lesions"}


_CEL_AXES = ("RAS", "LPS", "PSR", "LAS")
_PATIENTS = [*dict.fromkeys(patient for patient, _, _ in VISITS)]


def _cel(image: str, label: str) -> Layout:
    """Return a layout with two files for each patient."""
    slots = [
        Slot(
            {image.format(name): "raw", label.format(name): "lesions"},
            _CEL_AXES[number % 4],
            name,
        )
        for number, name in enumerate(_PATIENTS)
    ]
    return Layout("cel", "", slots)


LAYOUTS = {
    **layouts.LAYOUTS,
    "isbi2015-flat": _variant("isbi2015", _isbi_flat),
    "msseg2016-lowercase": _variant(
        "msseg2016",
        lambda path: re.sub("MSSEG-.+?/(.+?)/", lambda m: f"{m[1].lower()}/", path),
    ),
    "msseg2016-old": _msseg_old(
        _MSSEG_TRAINING,
        raw="Unprocessed training dataset/TrainingDataset_MSSEG/{}/3DFLAIR.nii",
        lesions="Unprocessed training dataset/TrainingDataset_MSSEG/{}/Consensus.nii",
        brain_image="Pre-processed training dataset/{}/FLAIR_preprocessed.nii",
    ),
    # the same with a folder of its own for label maps
    "msseg2016-old-masks": _msseg_old(
        _MSSEG_TRAINING,
        brain_image="Pre-processed/{}/FLAIR_preprocessed.nii.gz",
        lesions="ManualSegmentation/{}/Consensus.nii.gz",
    ),
    # without preprocessed images
    "msseg2016-old-test": _msseg_old(
        _MSSEG_TEST,
        raw="MSSEG-1 test/{}_1/3DFLAIR.nii.gz",
        lesions="MSSEG-1 test/{}_1/Consensus.nii.gz",
    ),
    # the training set of the portal of 2017: one archive for each scanner
    "wmh2017-portal": _variant(
        "wmh2017",
        lambda path: path.removeprefix("training/").removeprefix("Amsterdam/"),
    ),
    "wmh2017-yucca": _variant("wmh2017", _wmh_yucca),
    "cel-pairs": _cel("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
    "cel-subjects": _cel("{}/T1_gado.nii.gz", "{}/lesions.nii.gz"),
    "cel-csv": replace(
        _CEL,
        slots=[
            replace(slot, files=_csv_files(slot.patient, VISITS[number][1], number))
            for number, slot in enumerate(_CEL.slots)
        ],
        tables=layouts.case_table,
    ),
}
"""All layouts by name."""

# Patterns of paths, and what stands there in files that no converter may take.
_SIBLINGS = {
    "_flair_pp": ("_mprage_pp", "_pd_pp", "_t2_pp"),
    r"preprocessed/(.+)_flair_pp\.nii": (r"orig/\1_flair.nii.gz",),
    "FLAIR": ("T1", "T2", "DP", "GADO"),
    "pre/FLAIR": ("pre/3DT1", "orig/3DT1", "orig/FLAIR_mask"),
    "Consensus": ("ManualSegmentation_1", "ManualSegmentation_2", "Brain_Mask"),
    "_ce-gadolinium_T1w": ("_T1w",),
    r"T1_gado\.": ("T1.",),
}


def write_tree(folder: Path, layout: str, n: int, *, empty: bool = False) -> Path:
    """Write the first ``n`` tiny scans of a layout, with decoys; return the folder.

    Empty files are enough where only their names matter.
    """
    chosen = LAYOUTS[layout]
    slots = chosen.slots[:n]
    if empty:
        tables = chosen.tables(slots)
        for path in (*tables, *(path for slot in slots for path in slot.files)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(tables.get(path, ""))
    else:
        make_subject = partial(make_tiny_subject, chosen.kind)
        layouts.write_source_tree(folder, chosen, n, make_subject)
        for slot in slots:
            for path in slot.files:
                if path.endswith((".nrrd", ".mha")):
                    _to_other_format(folder / path)
                elif slot.patient and (folder / path).is_file():
                    _name_patient(folder / path, slot.patient)
    decoys = [
        re.sub(part, other, path)
        for path in (path for slot in slots for path in slot.files)
        for part, others in _SIBLINGS.items()
        if re.search(part, path)
        for other in others
    ]
    if layout.startswith("isbi2015"):  # the test scans have no label maps
        decoys.append("testdata_website/test01/preprocessed/test01_01_flair_pp.nii")
    for decoy in map(folder.joinpath, decoys):
        decoy.parent.mkdir(parents=True, exist_ok=True)
        if not decoy.exists():
            write_volume(decoy, Volume(np.ones((2, 3, 2), np.int16), np.eye(4)))
    for path in chosen.slots[0].files:
        _add_dirt(folder, path)
    return folder


def _to_other_format(path: Path) -> None:
    """Rewrite a NIfTI file in the format that its ending names."""
    nifti = path.rename(path.with_suffix(".nii"))
    sitk.WriteImage(sitk.ReadImage(str(nifti)), str(path), useCompression=True)
    nifti.unlink()


def _name_patient(path: Path, patient: str) -> None:
    """Write the name of a patient wherever the header of a NIfTI file has room."""
    image = nib.load(path)
    patient = patient.upper().replace("_", " ")
    image.header["descrip"] = f"{patient} 1970, T1 post gadolinium"
    image.header["intent_name"] = patient[:15]
    image.header["db_name"] = patient[:17]
    image.header["aux_file"] = f"{patient[:17]}.txt"
    content = image.to_bytes()
    compressed = path.suffix == ".gz"
    path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)


def _add_dirt(folder: Path, path: str) -> None:
    """Write files around one that no reader may take for data."""
    apple_double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
    file = folder / path
    double = folder / "__MACOSX" / Path(path).parent / f"._{file.name}"
    double.parent.mkdir(parents=True, exist_ok=True)
    for target in (double, file.with_name(f"._{file.name}")):
        target.write_bytes(apple_double)
    file.with_name(f"{file.name}.part").write_bytes(b"\x1f\x8b\x08")
    for place in {folder, file.parent, file if file.is_dir() else folder}:
        (place / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
