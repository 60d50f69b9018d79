"""Source trees for tests: tiny scans in every layout, old and new, with decoys.

The package writes the newest layout of every source. The older ones, and those in which
users rearrange their files, are made here of it. Every tree also holds what a converter
finds in a download and must leave alone: other sequences, broken downloads, and what
file managers leave behind.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.eulerangles import euler2mat

from nnunet_cel.phantom import layouts
from nnunet_cel.phantom.head import SourceSubject
from nnunet_cel.phantom.layouts import Layout, Slot
from nnunet_cel.phantom.subject import Kind
from nnunet_cel.volumes import Volume, write_volume


def make_tiny_subject(kind: Kind, index: int, *, lesions: bool = True) -> SourceSubject:
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
    return SourceSubject(
        raw=Volume(raw, affine),
        brain_image=Volume(raw * brain.astype(raw.dtype), affine),
        t1=Volume(rng.integers(50, 150, shape).astype(np.int16), affine),
        label=Volume(label, affine),
        second_lesions=Volume(second, affine),
    )


def _variant(name: str, rename: Callable[[str, int], str]) -> Layout:
    """Return a newest layout with other paths, without those made empty."""

    def slot(number: int) -> Slot:
        newest = layouts.LAYOUTS[name].slot(number)
        files = {rename(path, number): what for path, what in newest.files.items()}
        return replace(newest, files={path: files[path] for path in files if path})

    return replace(layouts.LAYOUTS[name], slot=slot)


def _isbi_flat(path: str, number: int) -> str:
    """Compressed, in folders that count by subject."""
    file = PurePosixPath(path)
    subject, time_point = (int(part[-2:]) for part in file.name.split("_")[:2])
    first = {1: 0, 2: 4, 3: 8, 4: 13, 5: 17}[subject]
    return f"ISBI_Training_{first + time_point:02d}/{file.name}.gz"


def _msseg_lower_case(path: str, number: int) -> str:
    for part in ("Training", "Testing"):
        path = path.replace(f"MSSEG-{part}/{part}", part.lower())
    return path


_MSSEG_OLD_IDS = (
    *("01016SACH", "01038PAGU", "01039VITE", "01040VANE", "01042GULE"),
    *("07001MOEL", "07003SATH", "07010NABO", "07040DORE", "07043SEME"),
    *("08002CHJE", "08027SYBR", "08029IVDI", "08031SEVE", "08037ROGU"),
)
_OLD_RAW = "Unprocessed training dataset/TrainingDataset_MSSEG/{}"
_MSSEG_OLD = {  # of the portal of 2016, by the names of the files of today
    # the training set
    "msseg2016-old": {
        "FLAIR": f"{_OLD_RAW}/3DFLAIR.nii",
        "Consensus": f"{_OLD_RAW}/Consensus.nii",
        "FLAIR_preprocessed": (
            "Pre-processed training dataset/{}/FLAIR_preprocessed.nii"
        ),
    },
    # the same with a folder of its own for label maps
    "msseg2016-old-masks": {
        "FLAIR_preprocessed": "Pre-processed/{}/FLAIR_preprocessed.nii.gz",
        "Consensus": "ManualSegmentation/{}/Consensus.nii.gz",
    },
    # the test set, without preprocessed images
    "msseg2016-old-test": {
        "FLAIR": "MSSEG-1 test/{}_1/3DFLAIR.nii.gz",
        "Consensus": "MSSEG-1 test/{}_1/Consensus.nii.gz",
    },
}


def _msseg_old(layout: str, path: str, number: int) -> str:
    name = _MSSEG_OLD_IDS[number]
    if layout == "msseg2016-old-test":
        name = f"{name[:2]}{45 + number:03d}BRP{chr(79 + number)}"
    file = PurePosixPath(path).name.removesuffix(".nii.gz")
    return _MSSEG_OLD[layout].get(file, "").format(name)


def _wmh_yucca(path: str, number: int) -> str:
    """Rearranged for yucca, without the original images."""
    if "/orig/" in path:
        return ""
    path = path.removeprefix("training/").replace("/wmh", "/pre/wmh")
    for site in ("Utrecht", "Singapore"):
        path = path.replace(f"{site}/", f"{site}/Train/")
    return path.replace("Amsterdam/GE3T", "Amsterdam/Train_GE3T")


_CEL_AXES = ("RAS", "LPS", "PSR", "LAS")


def _pairs(number: int) -> Slot:
    """Folders imagesTr and labelsTr."""
    name = layouts.patient_name(number)
    files = {
        f"imagesTr/{name}_0000.nii.gz": "raw",
        f"labelsTr/{name}.nii.gz": "lesions",
    }
    return Slot(files, _CEL_AXES[number % 4], name)


def _subjects(number: int) -> Slot:
    """A folder for each subject."""
    name = layouts.patient_name(number)
    files = {f"{name}/T1_gado.nii.gz": "raw", f"{name}/lesions.nii.gz": "lesions"}
    return Slot(files, _CEL_AXES[number % 4], name)


def _csv(number: int) -> Slot:
    """NIfTI, NRRD and MetaImage, listed in a table."""
    patient, session = layouts.visit(number)
    name = patient + (f" visit {session}" if session else "")
    image, label = (
        (f"from PACS/{name}/T1 gado.nii.gz", f"from PACS/{name}/T1 gado seg.nii.gz"),
        (f"scans 2019/{name}.nrrd", f"scans 2019/{name}_seg.nrrd"),
        (f"old/{name}.mha", f"old/labels/{name}.nii"),
    )[number % 3]
    return Slot({image: "raw", label: "lesions"}, _CEL_AXES[number % 4], patient)


_CEL = layouts.LAYOUTS["cel-bids"]
LAYOUTS = {
    **layouts.LAYOUTS,
    "isbi2015-flat": _variant("isbi2015", _isbi_flat),
    "msseg2016-lowercase": _variant("msseg2016", _msseg_lower_case),
    **{name: _variant("msseg2016", partial(_msseg_old, name)) for name in _MSSEG_OLD},
    # the portal of 2017: one archive for each scanner
    "wmh2017-portal": _variant(
        "wmh2017",
        lambda path, _: path.removeprefix("training/").removeprefix("Amsterdam/"),
    ),
    "wmh2017-yucca": _variant("wmh2017", _wmh_yucca),
    "cel-pairs": replace(_CEL, slot=_pairs, tables=None),
    "cel-subjects": replace(_CEL, slot=_subjects, tables=None),
    "cel-csv": replace(_CEL, slot=_csv, tables=layouts.case_table),
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
    slots = [chosen.slot(number) for number in range(n)]
    if empty:
        tables = chosen.tables(slots) if chosen.tables else {}
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
    for path in chosen.slot(0).files:
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
