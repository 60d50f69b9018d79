"""Reads and writes images and label maps, with their place in the world.

Words:

- *volume*: voxels on a grid of three axes, and the affine of that grid.
- *affine*: the (4, 4) matrix from voxel indices to millimeters in RAS order (to the
  right, to the front, to the head), as in nibabel.
- *grid*: shape and affine together. Two volumes are on the same grid if their shapes
  are equal and their affines agree within 1e-3.

NIfTI is read with nibabel, which keeps the affine as it is; NRRD, MetaImage and DICOM
with SimpleITK. What is wrong with a file ends in a ValueError that names the file.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.imageglobals import LoggingOutputSuppressor

from nnunet_cel.dicom import read_series
from nnunet_cel.files import write_whole

__all__ = [
    "ENDINGS",
    "Volume",
    "check_same_grid",
    "check_whole",
    "read_label_map",
    "read_volume",
    "same_grid",
    "split_ending",
    "to_nifti",
    "write_volume",
]

Array = npt.NDArray[Any]

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings of files that :func:`read_volume` reads; DICOM series are folders."""

_NIFTI_ENDINGS = ENDINGS[:2]
_GRID_TOLERANCE = 1e-3  # NIfTI stores the affine in float32
_SHEAR = 1e-3  # cosine of axes beyond which what nnU-Net reads with fails


class Volume(NamedTuple):
    """Voxels with their place in the world.

    Args:
        voxels: Intensities or labels, shape (X, Y, Z).
        affine: Voxel indices to mm in RAS order, shape (4, 4), float64.
    """

    voxels: Array
    affine: Array

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of voxel centers along each axis in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


def split_ending(path: Path | str) -> tuple[str, str]:
    """Return the name of a file without its ending, and the ending in lower case.

    The ending is empty if it is none of :data:`ENDINGS`.
    """
    name = Path(path).name
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)], ending
    return name, ""


def read_volume(path: Path | str) -> Volume:
    """Read an image: NIfTI, NRRD or MetaImage, or a folder with one DICOM series.

    Trailing axes of length one are dropped. Values are as stored where the file has no
    scale factor, otherwise scaled, in float32. Numbers of eight bytes become float32.

    Raises:
        ValueError: If it cannot be read whole, does not have three axes, holds colors
            or complex numbers, or has a grid that is singular or sheared.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no image {path}.")
    ending = split_ending(path)[1]
    if not ending and not path.is_dir():
        raise ValueError(
            f"An image must be a file that ends in {', '.join(ENDINGS)}, or a folder "
            f"with a DICOM series. Got {path} instead."
        )
    is_nifti = ending in _NIFTI_ENDINGS and not path.is_dir()
    voxels, affine = _read_nifti(path) if is_nifti else _read_with_itk(path)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    gray = voxels.dtype.kind in "biuf"
    if voxels.ndim != 3 or voxels.size == 0 or not gray:
        raise ValueError(
            f"The image {path} must have three axes and one number per voxel. Got the "
            f"shape {voxels.shape}, {'gray' if gray else voxels.dtype}: cut out the "
            "volume that you need, or convert it to a gray image."
        )
    with np.errstate(all="ignore"):
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        crooked = abs(axes.T @ axes - np.eye(3)).max()
    if not np.isfinite(affine).all() or not crooked <= _SHEAR:  # nan of size 0 as well
        raise ValueError(
            f"The axes of the image {path} must be at right angles, with voxels of a "
            f"size above 0. Got the affine\n{affine}\ninstead: resample the image, or "
            "mend its header."
        )
    if voxels.dtype.itemsize > 4:
        with np.errstate(over="ignore"):  # too large becomes infinite, which is refused
            voxels = voxels.astype(np.float32)
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    return Volume(voxels, affine)


def check_whole(path: Path | str) -> None:
    """Refuse a NIfTI file that is cut off or damaged, with a ValueError that names it.

    ITK, with which nnU-Net reads, takes half a compressed file for a whole one and
    makes up the rest. Other files pass.
    """
    path = Path(path)
    if split_ending(path)[1] in _NIFTI_ENDINGS:
        _read_nifti(path)


def read_label_map(path: Path | str) -> Volume:
    """Read a label map, whose values become bytes.

    Raises:
        ValueError: If a value is not a whole number from 0 to 255.
    """
    volume = read_volume(path)
    # Nearly all voxels are background, and sorting them takes most of the time.
    values = np.unique(volume.voxels[volume.voxels != 0])
    whole = np.rint(values)
    # Interpolation and scale factors leave rounding errors, never more than that.
    wrong = values[~((abs(values - whole) <= 1e-3) & (whole >= 0) & (whole <= 255))]
    if wrong.size:
        got = ", ".join(f"{value:g}" for value in wrong[:5])
        raise ValueError(
            f"The label map {path} must hold whole numbers from 0 to 255. Got {got} "
            "too: it may be an image or a probability map."
        )
    return Volume(np.rint(volume.voxels).astype(np.uint8), volume.affine)


def same_grid(first: Volume, second: Volume) -> bool:
    """Return whether two volumes are on the same grid."""
    return first.voxels.shape == second.voxels.shape and bool(
        np.allclose(first.affine, second.affine, atol=_GRID_TOLERANCE, rtol=0)
    )


def check_same_grid(name: str, volume: Volume, expected: Volume) -> None:
    """Refuse a volume, of this name, that is not on the grid of its image.

    Raises:
        ValueError: If shape or affine differ.
    """
    if same_grid(volume, expected):
        return
    alike = volume.voxels.shape == expected.voxels.shape
    what = "affine" if alike else "shape"
    wanted, got = (v.affine if alike else v.voxels.shape for v in (expected, volume))
    raise ValueError(
        f"{name} must have the {what} of the image,\n{wanted}\nGot\n{got}\ninstead: "
        "resample it to the image, or mend its header if the voxels lie right."
    )


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a NIfTI file, ``.nii.gz`` or ``.nii``, whole; what fails names the file."""
    write_whole(path, to_nifti(volume, compressed=Path(path).suffix == ".gz"))


def to_nifti(volume: Volume, *, compressed: bool = True) -> bytes:
    """Return the bytes of a NIfTI file; they depend on voxels and affine alone.

    No text such as a patient's name gets into the header. Booleans become uint8.
    """
    voxels, affine = volume
    if voxels.dtype.kind == "b":
        voxels = voxels.astype(np.uint8)
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    # Both transforms, because readers differ in which one they prefer.
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return gzip.compress(content, compresslevel=4, mtime=0) if compressed else content


def _read_nifti(path: Path) -> tuple[Array, Array]:
    """Return voxels and affine of a NIfTI file.

    All of it is read, because only the end of a compressed file tells whether it is
    intact.
    """
    content = path.read_bytes()
    try:
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        second_version = content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
        kind = nib.Nifti2Image if second_version else nib.Nifti1Image
        with LoggingOutputSuppressor():  # nibabel's words do not name the file
            image = kind.from_bytes(content)
        voxels = np.asanyarray(image.dataobj)
        if (unit := image.header.get_xyzt_units()[0]) not in ("mm", "unknown"):
            raise ValueError(f"its unit of length is {unit}, not mm")
    except Exception as error:  # a damaged header can fail anywhere in nibabel
        raise ValueError(_unreadable(path, error)) from error
    return voxels, np.asarray(image.affine, dtype=float)


def _read_with_itk(path: Path) -> tuple[Array, Array]:
    """Return voxels and affine of a NRRD or MetaImage file, or of a DICOM series."""
    import SimpleITK as sitk  # takes half a second, and most data are NIfTI

    try:
        image = read_series(path) if path.is_dir() else sitk.ReadImage(str(path))
        if (components := image.GetNumberOfComponentsPerPixel()) != 1:
            raise RuntimeError(f"it has {components} values per voxel")
    except (RuntimeError, MemoryError) as error:
        raise ValueError(_unreadable(path, error)) from error
    dimension = image.GetDimension()
    voxels = sitk.GetArrayFromImage(image).T
    affine = np.eye(4)
    if dimension >= 3:
        directions = np.array(image.GetDirection()).reshape(dimension, dimension)
        affine[:3, :3] = directions[:3, :3] * np.array(image.GetSpacing()[:3])
        affine[:3, 3] = image.GetOrigin()[:3]
        affine[:2] *= -1  # ITK counts to the left and to the back
    return voxels, affine


def _unreadable(path: Path, error: BaseException) -> str:
    """Return the message for a file that cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"The image {path} cannot be read: {reason}. Get it again from its source."
