"""Trees of synthetic scans, as public data sets and clinics keep their files.

Words:

- *layout*: where the files of a data set lie and in which formats.
- *slot*: the place of one scan in a layout; slots have a fixed order.

A tree holds what the converters read. All names of patients are invented.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from nnunet_cel.dicom import keep_locale
from nnunet_cel.files import new_folder, to_json
from nnunet_cel.parallel import map_cases
from nnunet_cel.phantom.subject import Kind, Subject
from nnunet_cel.volumes import Volume, write_volume

__all__ = [
    "LAYOUTS",
    "MARKER",
    "VISITS",
    "Layout",
    "Slot",
    "case_table",
    "write_source_tree",
]

MARKER = "phantom.log"
"""File in every source tree that says it is synthetic; only such trees are replaced."""


@dataclass(frozen=True)
class Slot:
    """The files of one scan.

    Args:
        files: What each file holds, by its path in the tree: a property of
            :class:`Subject`, with a number format after a colon. A path without ending
            is a folder with a DICOM series.
        axes: Directions in which the voxel indices grow.
        patient: Name of the patient, for tables and DICOM headers.
        diagnosis: Of the patient, for tables.
        lesions: Whether the scan has any.
    """

    files: Mapping[str, str]
    axes: str = "RAS"
    patient: str = ""
    diagnosis: str = ""
    lesions: bool = True


@dataclass(frozen=True)
class Layout:
    """A layout.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        summary: What it is, in a line.
        slots: Its slots.
        tables: Gives the text files about some slots by their paths.
        slice_distance: Slices along the last axis are thinned to a distance of so many
            mm at the most; 0 for all slices.
    """

    kind: Kind
    summary: str
    slots: Sequence[Slot]
    tables: Callable[[Sequence[Slot]], dict[str, str]] = lambda _: {}
    slice_distance: float = 0.0


def _isbi_files(subject: int, time_point: int) -> dict[str, str]:
    home = f"training/training{subject:02d}"
    scan = f"training{subject:02d}_{time_point:02d}"
    return {
        f"{home}/preprocessed/{scan}_flair_pp.nii": "brain_image",
        f"{home}/masks/{scan}_mask1.nii": "lesions:float32",
        f"{home}/masks/{scan}_mask2.nii": "second_lesions:float32",
    }


_ISBI_SLOTS = [  # the first time points of all subjects come first
    Slot(_isbi_files(subject, time_point))
    for time_point in range(1, 6)
    for subject in range(1, 6)
    if time_point < 5 or subject == 3
]


def _msseg_files(split: str, center: int, patient: int) -> dict[str, str]:
    home = f"MSSEG-{split}/{split}/Center_{center:02d}/Patient_{patient:02d}"
    return {
        f"{home}/Raw_Data/FLAIR.nii.gz": "raw",
        f"{home}/Preprocessed_Data/FLAIR_preprocessed.nii.gz": "brain_image",
        f"{home}/Masks/Consensus.nii.gz": "lesions",
    }


_MSSEG_AXES = {1: "PSR", 3: "ASL", 7: "PIR", 8: "RAS"}  # of the centers
_MSSEG_COUNTS = {
    "Training": {1: 5, 7: 5, 8: 5},
    "Testing": {1: 10, 3: 8, 7: 10, 8: 10},
}
_MSSEG_SLOTS = [
    Slot(
        _msseg_files(split, center, patient),
        axes=_MSSEG_AXES[center],
        # in one scan the raters agree on no lesion
        lesions=(split, center, patient) != ("Testing", 7, 8),
    )
    for split, counts in _MSSEG_COUNTS.items()
    for center, count in counts.items()
    for patient in range(1, count + 1)
]


_WMH_TRAINING = {
    "Amsterdam/GE3T": [*range(100, 111), 112, 113, 114, 115, 116, 126, 132, 137, 144],
    "Utrecht": [0, 2, 4, 6, 8, 11, 17, 19, *range(21, 42, 2), 49],
    "Singapore": [*range(50, 70)],
}
_WMH_ALL = {
    "Amsterdam/GE3T": range(100, 150),
    "Utrecht": range(50),
    "Singapore": range(50, 100),
    "Amsterdam/GE1T5": range(150, 160),
    "Amsterdam/Philips_VU .PETMR_01.": range(160, 170),
}
_WMH_TEST = {
    site: [scan for scan in scans if scan not in _WMH_TRAINING.get(site, [])]
    for site, scans in _WMH_ALL.items()
}
_WMH_FILES = {
    "orig/FLAIR.nii.gz": "raw:uint16",
    "orig/T1.nii.gz": "t1:uint16",
    "pre/FLAIR.nii.gz": "raw:float32",
    "pre/T1.nii.gz": "t1:float32",
    "wmh.nii.gz": "label",
}
_WMH_SLOTS = [
    Slot(
        {f"{split}/{site}/{scan}/{name}": what for name, what in _WMH_FILES.items()},
        axes="LPS",
    )
    for split, sites in (("training", _WMH_TRAINING), ("test", _WMH_TEST))
    for site, scans in sites.items()
    for scan in scans
]


_FAMILY_NAMES = ("Doe", "Roe", "Bloggs", "Muster", "Rossi", "Dupont", "Novak", "Jansen")
_GIVEN_NAMES = ("Jane", "Joe", "Erika", "Max", "Marie")
_PATIENTS = [f"{_FAMILY_NAMES[i % 8]}_{_GIVEN_NAMES[i % 5]}" for i in range(40)]
VISITS = [
    (patient, session, "NMOSD" if number % 5 == 4 else "MS")
    for number, patient in enumerate(_PATIENTS)
    for session in (("01", "02") if number % 4 == 1 else ("",))
]
"""Patient, session and diagnosis of every scan of a clinic.

One patient in four has two sessions; the session is empty for the others.
"""


def _clinic_slots(
    files: Callable[[str, str], dict[str, str]], axes: Sequence[str]
) -> list[Slot]:
    """Return the slots of a clinic, whose scanners have these axes in turn."""
    return [
        Slot(files(patient, session), axes[n % len(axes)], patient, diagnosis)
        for n, (patient, session, diagnosis) in enumerate(VISITS)
    ]


def _bids_files(patient: str, session: str) -> dict[str, str]:
    folder = name = f"sub-{patient.replace('_', '')}"
    if session:
        folder, name = f"{folder}/ses-{session}", f"{name}_ses-{session}"
    mask = f"derivatives/lesions/{folder}/anat/{name}_label-lesion_mask.nii.gz"
    return {f"{folder}/anat/{name}_ce-gadolinium_T1w.nii.gz": "raw", mask: "lesions"}


def _bids_tables(slots: Sequence[Slot]) -> dict[str, str]:
    header = {"BIDSVersion": "1.8.0", "DatasetType": "raw", "Name": "Synthetic"}
    known = {slot.patient.replace("_", ""): slot.diagnosis for slot in slots}
    lines = ["participant_id\tdiagnosis", *(f"sub-{k}\t{v}" for k, v in known.items())]
    return {
        "participants.tsv": "\n".join(lines) + "\n",
        "dataset_description.json": to_json(header),
        "derivatives/lesions/dataset_description.json": to_json(
            header | {"DatasetType": "derivative"}
        ),
    }


def _dicom_files(patient: str, session: str) -> dict[str, str]:
    folder = f"{patient}/{session or 'MR'}"
    return {f"{folder}/T1_gado": "raw", f"{folder}/lesions.nii.gz": "lesions"}


def case_table(slots: Sequence[Slot]) -> dict[str, str]:
    """Return a table of image, label map and diagnosis of every scan."""
    rows = [(slot.patient, *slot.files, slot.diagnosis) for slot in slots]
    lines = map(",".join, [("subject", "image", "label", "diagnosis"), *rows])
    return {"cases.csv": "\n".join(lines) + "\n"}


_BIDS_SLOTS = _clinic_slots(_bids_files, ("RAS", "LPS", "PSR", "LAS"))
_DICOM_SLOTS = _clinic_slots(_dicom_files, ("LPS", "PIR"))

LAYOUTS: Mapping[str, Layout] = {
    "isbi2015": Layout("wmh", "ISBI 2015 as distributed", _ISBI_SLOTS),
    "msseg2016": Layout("wmh", "MSSEG 2016 as distributed by Shanoir", _MSSEG_SLOTS),
    "wmh2017": Layout(
        "wmh", "WMH 2017 as distributed by DataverseNL", _WMH_SLOTS, slice_distance=3.0
    ),
    "cel-bids": Layout(
        "cel", "BIDS with lesions as derivatives", _BIDS_SLOTS, _bids_tables
    ),
    "cel-dicom": Layout(
        "cel", "DICOM series, listed in cases.csv", _DICOM_SLOTS, case_table
    ),
}
"""The newest layout of every source by name."""


def write_source_tree(
    folder: Path,
    layout: Layout,
    n: int,
    make_subject: Callable[..., Subject],
    *,
    overwrite: bool = False,
    processes: int = 1,
    description: str | None = None,
) -> None:
    """Write the first slots of a layout.

    Args:
        folder: Root of the tree; only an earlier tree is ever replaced.
        layout: The layout.
        n: Number of slots to fill, from the first one on.
        make_subject: Gives the subject for a slot by its number, from 0 on, and by the
            keyword ``lesions``, whether it has any; picklable if ``processes`` > 1.
        overwrite: Whether an existing source tree is replaced.
        processes: Number of processes that make and write subjects.
        description: Title of a progress bar, None for no bar.
    """
    slots = layout.slots[:n]
    with new_folder(folder, what="tree", mark=MARKER, overwrite=overwrite) as root:
        fill = partial(_fill_slot, root, layout.slice_distance, make_subject)
        cases = [*enumerate(slots)]
        map_cases(fill, cases, processes=processes, description=description)
        marker = "Synthetic scans made by nnunet-cel. No patient data.\n"
        for path, text in (layout.tables(slots) | {MARKER: marker}).items():
            (root / path).write_text(text, encoding="utf-8", newline="")


def _fill_slot(
    root: Path,
    slice_distance: float,
    make_subject: Callable[..., Subject],
    numbered: tuple[int, Slot],
) -> None:
    """Make the subject of a slot and write its files."""
    number, slot = numbered
    subject = make_subject(number, lesions=slot.lesions)
    for path, content in slot.files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        name, _, dtype = content.partition(":")
        voxels, affine = getattr(subject, name)
        volume = Volume(voxels.astype(dtype or voxels.dtype), affine)
        volume = _stored(volume, slot.axes, slice_distance)
        if target.suffix:
            write_volume(target, volume)
        else:
            write_dicom(target, volume, slot.patient)


def _stored(volume: Volume, axes: str, slice_distance: float) -> Volume:
    """Return a volume as files store it; every voxel stays where it is."""
    stored, wanted = io_orientation(volume.affine), axcodes2ornt(tuple(axes))
    image = nib.Nifti1Image(volume.voxels, volume.affine)
    image = image.as_reoriented(ornt_transform(stored, wanted))
    step = int(slice_distance / image.header.get_zooms()[2] + 1e-6)
    if step > 1:
        image = image.slicer[:, :, step // 2 :: step]
    return Volume(np.ascontiguousarray(image.dataobj), image.affine)


@keep_locale()
def write_dicom(folder: Path, volume: Volume, patient: str) -> None:
    """Write a folder with a DICOM series, one file for each slice."""
    import SimpleITK as sitk  # takes half a second, and most layouts are NIfTI

    folder.mkdir()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine  # to the left and back
    directions = affine[:3, :3] / volume.spacing + 0.0  # without a minus before 0
    image = sitk.GetImageFromArray(np.rint(volume.voxels).astype(np.int16).T)
    image.SetSpacing(volume.spacing)
    image.SetDirection(directions.ravel().tolist())
    scan = "/".join(folder.parts[-3:])
    tags = {
        "0008|0020": "20200102",  # Study Date
        "0008|0030": "083000",  # Study Time, otherwise that of writing
        "0008|0060": "MR",
        "0008|103e": "T1 post gadolinium",
        "0010|0010": patient.upper().replace("_", "^"),
        "0010|0020": f"ID {patient}",
        "0010|0030": "19700102",  # Patient's Birth Date
        "0018|0050": f"{volume.spacing[2]:.6f}",  # Slice Thickness
        "0020|000d": _unique_id(f"{scan} study"),  # Study Instance UID
        "0020|000e": _unique_id(f"{scan} series"),  # Series Instance UID
        "0020|0037": "\\".join(f"{v:.10f}" for v in directions[:, :2].T.ravel()),
        # Rescaling, which GDCM would write only where it has read DICOM before.
        "0028|1052": "0",
        "0028|1053": "1",
        "0028|1054": "US",
    }
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetDepth()):
        place = apply_affine(affine, (0, 0, k))
        slice_tags = {
            "0008|0018": _unique_id(f"{scan} slice {k}"),  # SOP Instance UID
            "0020|0013": str(k + 1),  # Instance Number
            "0020|0032": "\\".join(f"{v:.6f}" for v in place),
        }
        plane = image[:, :, k]
        for tag, text in (tags | slice_tags).items():
            plane.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"IM{k + 1:04d}.dcm"))
        writer.Execute(plane)


def _unique_id(text: str) -> str:
    """Return a DICOM identifier that is derived from a text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, text).int}"
