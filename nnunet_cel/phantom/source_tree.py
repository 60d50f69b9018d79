"""Writes trees of source files in the layouts of data sets and clinics.

Words:

- *layout*, *slot*: see :mod:`nnunet_cel.phantom.layouts`.
- *dirt*: what operating systems and downloads leave behind and no reader may take for
  data.
"""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations

from nnunet_cel.dicom import keep_locale
from nnunet_cel.files import new_folder
from nnunet_cel.parallel import map_cases
from nnunet_cel.phantom.layouts import LAYOUTS, Layout, described_files
from nnunet_cel.phantom.source_subject import SourceSubject, make_tiny_subject
from nnunet_cel.volumes import Volume, split_ending, write_volume

__all__ = ["CONTENTS", "MARKER", "write_source_tree"]

MARKER = "phantom.log"
"""File in every source tree that says it is synthetic; only such trees are replaced."""


def write_source_tree(
    folder: Path | str,
    layout: str,
    n: int,
    make_subject: Callable[[int], SourceSubject],
    *,
    overwrite: bool = False,
    processes: int = 1,
    description: str | None = None,
) -> Path:
    """Write the first slots of a layout, with the dirt that comes with downloads.

    Args:
        folder: Root of the tree.
        layout: Name of the layout, a key of :data:`LAYOUTS`.
        n: Number of slots to fill, from the first one on.
        make_subject: Gives the subject for a slot by its number, from 0 on; picklable
            if ``processes`` > 1.
        overwrite: Whether an existing source tree is replaced.
        processes: Number of processes that make and write subjects.
        description: Title of a progress bar, None for no bar.

    Returns:
        The root of the tree.

    Raises:
        FileExistsError: If the folder exists and ``overwrite`` is False.
        ValueError: If there is no such layout, it has fewer slots, or the folder is
            no source tree that this function wrote.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise ValueError(
            f"The layout must be one of {', '.join(LAYOUTS)}. Got {layout!r} instead."
        )
    chosen = LAYOUTS[layout]
    if not 1 <= n <= chosen.size:
        raise ValueError(
            f"The number of scans in the layout {layout} must be from 1 to "
            f"{chosen.size}. Got {n} instead."
        )
    with new_folder(
        folder, what="synthetic source tree", mark=MARKER, overwrite=overwrite
    ) as root:
        # Slots that the tree has take the place of bystanders.
        tiny = make_tiny_subject(chosen.kind, 0)
        _write_files(root, chosen, chosen.bystanders, tiny, 0)
        diagnoses = map_cases(
            partial(_fill_slot, root, layout, make_subject),
            range(n),
            processes=processes,
            description=description,
        )
        marker = (
            f"Synthetic scans in the layout {layout}, made by nnunet-cel. No patient "
            "data: all names are invented.\n"
        )
        texts = {MARKER: marker} | chosen.tables(diagnoses)
        others = {path: text.encode() for path, text in texts.items()}
        for path, content in (others | _dirt(chosen.slot(0))).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return folder


def _fill_slot(
    root: Path, name: str, make_subject: Callable[[int], SourceSubject], number: int
) -> str:
    """Make the subject of a slot, write its files and return its diagnosis."""
    layout, subject = LAYOUTS[name], make_subject(number)
    if number in layout.lesion_free:
        voxels, affine = subject.label
        subject = replace(subject, label=Volume(np.zeros_like(voxels), affine))
    _write_files(root, layout, layout.slot(number), subject, number)
    return subject.diagnosis


def _write_files(
    root: Path, layout: Layout, lines: str, subject: SourceSubject, number: int
) -> None:
    """Write the files that lines describe."""
    for content, path in described_files(lines):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if content == "text":
            target.write_bytes(b"\n")
            continue
        name, _, dtype = content.partition(":")
        voxels, affine = CONTENTS[name](subject)
        volume = Volume(voxels.astype(dtype or voxels.dtype), affine)
        # Images that no converter reads are on grids of their own.
        axes = "PIR" if name == "unused" else layout.axes(number)
        volume = _stored(volume, axes, layout.slice_distance)
        if "lesions" in name:
            volume.affine[:3, 3] += layout.label_offset
        patient = layout.patient(number)
        ending = split_ending(path)[1]
        if not ending:
            _write_dicom(target, volume, patient)
        elif ending not in (".nii", ".nii.gz"):
            import SimpleITK as sitk  # takes half a second, and most layouts are NIfTI

            sitk.WriteImage(_to_itk(volume), str(target), useCompression=True)
        elif patient:
            _write_named_nifti(target, volume, patient)
        else:
            write_volume(target, volume)


def _stored(volume: Volume, axes: str, slice_distance: float | None) -> Volume:
    """Return a volume as files store it; every voxel stays where it is.

    Args:
        volume: The volume.
        axes: Directions in which the voxel indices are to grow, such as ``"LPS"``.
        slice_distance: See :class:`Layout`.
    """
    voxels, affine = volume
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(tuple(axes))
    )
    affine = affine @ orientations.inv_ornt_aff(turn, voxels.shape)
    voxels = orientations.apply_orientation(voxels, turn)
    if slice_distance is not None:
        distance = float(np.linalg.norm(affine[:3, 2]))
        step = round(slice_distance / distance)
        if step > 1 and abs(step * distance - slice_distance) < 0.01:
            first = step // 2
            voxels = voxels[:, :, first::step]
            affine[:3, 3] += first * affine[:3, 2]
            affine[:3, 2] *= step
    return Volume(np.ascontiguousarray(voxels), affine)


def _write_named_nifti(path: Path, volume: Volume, patient: str) -> None:
    """Write a NIfTI file with the name of a patient wherever a header has room."""
    image = nib.Nifti1Image(*volume)
    image.set_qform(volume.affine, code=1)
    image.set_sform(volume.affine, code=1)
    patient = patient.upper().replace("_", " ")
    image.header["descrip"] = f"{patient} 1970, T1 post gadolinium"
    image.header["intent_name"] = patient[:15]
    image.header["db_name"] = patient[:17]
    image.header["aux_file"] = f"{patient[:17]}.txt"
    content = image.to_bytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=4, mtime=0)
    path.write_bytes(content)


def _to_itk(volume: Volume) -> Any:
    """Return a volume as an image of SimpleITK."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.voxels.T)
    flip = np.array([-1.0, -1.0, 1.0])  # ITK counts to the left and to the back
    directions = flip[:, None] * volume.affine[:3, :3] / volume.spacing
    image.SetSpacing(volume.spacing)
    image.SetDirection(directions.ravel().tolist())
    image.SetOrigin((flip * volume.affine[:3, 3]).tolist())
    return image


@keep_locale()
def _write_dicom(folder: Path, volume: Volume, patient: str) -> None:
    """Write a folder with a DICOM series, one file for each slice."""
    import SimpleITK as sitk

    folder.mkdir()
    voxels = np.rint(volume.voxels).astype(np.int16)
    image = _to_itk(Volume(voxels, volume.affine))
    directions = np.array(image.GetDirection()).reshape(3, 3)
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
    }
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(voxels.shape[2]):
        slice_tags = {
            "0008|0018": _unique_id(f"{scan} slice {k}"),  # SOP Instance UID
            "0020|0013": str(k + 1),  # Instance Number
            "0020|0032": "\\".join(
                f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, k))
            ),
        }
        plane = image[:, :, k]
        for tag, text in (tags | slice_tags).items():
            plane.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"IM{k + 1:04d}.dcm"))
        writer.Execute(plane)


def _unique_id(text: str) -> str:
    """Return a DICOM identifier that is derived from a text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, text).int}"


def _dirt(lines: str) -> dict[str, bytes]:
    """Return files that no reader may take for data, around those of a slot."""
    apple_double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
    store = b"\x00\x00\x00\x01Bud1"
    dirt = {".DS_Store": store, "unzip.log": b"inflating\n"}
    for _, path in described_files(lines):
        folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
        dirt[f"{folder}/.DS_Store"] = store
        dirt[f"{folder}/._{name}"] = apple_double
        dirt[f"__MACOSX/{folder}/._{name}"] = apple_double
        dirt[f"{path}.part"] = b"\x1f\x8b\x08"
        if "." not in name:
            dirt[f"{path}/.DS_Store"] = store
    return dirt


def _lesions(label: Volume) -> Volume:
    """Return a label map without other pathology."""
    return Volume((label.voxels == 1).astype(np.uint8), label.affine)


def _coarse(volume: Volume) -> Volume:
    """Return every fourth voxel along each axis."""
    voxels, affine = volume
    return Volume(voxels[::4, ::4, ::4], affine @ np.diag([4.0, 4.0, 4.0, 1.0]))


CONTENTS: dict[str, Callable[[SourceSubject], Volume]] = {
    "raw": lambda subject: subject.raw,
    "brain_image": lambda subject: subject.brain_image,
    "t1": lambda subject: subject.t1,
    "brain": lambda subject: subject.brain,
    "lesions": lambda subject: _lesions(subject.label),
    "second_lesions": lambda subject: _lesions(subject.second_label),
    "label": lambda subject: subject.label,
    "second_label": lambda subject: subject.second_label,
    # What was not cut away to make faces unrecognizable: here everything.
    "face_kept": lambda subject: Volume(
        np.ones_like(subject.brain.voxels), subject.brain.affine
    ),
    # Images that no converter reads are coarse, to save space.
    "unused": lambda subject: _coarse(subject.t1),
}
"""What files hold, by the name that layouts use."""
