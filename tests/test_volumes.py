"""Reading and writing volumes: values and world positions survive, faults are named."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nnunet_cel.volumes import (
    Volume,
    check_same_grid,
    check_whole,
    read_label_map,
    read_volume,
    same_grid,
    split_ending,
    write_volume,
)

OBLIQUE = np.array(
    [[-0.6, 0.4, 0, 12], [0.8, 0.3, 0, -30], [0, 0, 3, 5.5], [0, 0, 0, 1.0]]
)
DTYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64]


def make_voxels(dtype: Any = np.int16) -> np.ndarray:
    """Return voxels that are all different."""
    return np.arange(4 * 5 * 3).reshape(4, 5, 3).astype(dtype)


def make_affine(seed: int) -> np.ndarray:
    """Return any orientation, flips and permutations of axes included."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    axes = Rotation.random(random_state=rng).as_matrix()[:, rng.permutation(3)]
    affine[:3, :3] = axes * rng.choice([-1, 1], 3) * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


@given(
    affine=st.builds(make_affine, st.integers(0, 2**32)),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([None, (1.0, 10.0), (0.5, 0.0), (1e-3, -7.25), (-1.5, 10.0)]),
    codes=st.sampled_from([(2, 1), (2, 0), (0, 1)]),
    order=st.sampled_from("<>"),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_any_header_keeps_values_and_world_positions(
    tmp_path_factory, affine, dtype, scale, codes, order, ending
) -> None:
    """Whatever the header, reading, writing and reading gives the same, also to ITK."""
    folder = tmp_path_factory.mktemp("fuzz")
    source, target = folder / f"source{ending}", folder / f"target{ending}"
    stored = make_voxels(dtype).astype(np.dtype(dtype).newbyteorder(order))
    image = nib.Nifti1Image(stored, affine, nib.Nifti1Header(endianness=order))
    image.set_data_dtype(dtype)
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    image.header["descrip"] = b"DOE JANE"
    expected = stored.astype(np.float64)
    raw = image.to_bytes()
    if scale is not None:
        image.header.set_slope_inter(*scale)
        expected = expected * np.float32(scale[0]) + np.float32(scale[1])
        # nibabel scales values down on writing; undo that
        raw = image.to_bytes()[:352] + stored.tobytes(order="F")
    source.write_bytes(gzip.compress(raw) if ending == ".nii.gz" else raw)

    volume = read_volume(source)
    write_volume(target, volume)

    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(volume.affine, nib.load(source).affine)
    again = read_volume(target)
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    np.testing.assert_array_equal(*np.float32([again.affine, volume.affine]))
    assert b"DOE" not in nib.load(target).header.binaryblock
    other = sitk.ReadImage(str(target))
    corner = np.array(other.TransformContinuousIndexToPhysicalPoint((3.0, 4.0, 2.0)))
    world = (volume.affine @ [3, 4, 2, 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(corner, world, atol=1e-3)
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(other).T, volume.voxels, rtol=1e-6
    )


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_formats_agree(tmp_path: Path, ending: str) -> None:
    """An oblique image has the same voxels and affine in every format."""
    nifti = tmp_path / "image.nii.gz"
    write_volume(nifti, Volume(make_voxels(), OBLIQUE))
    other = tmp_path / f"other{ending}"
    sitk.WriteImage(sitk.ReadImage(str(nifti)), str(other))

    volume = read_volume(other)

    np.testing.assert_array_equal(volume.voxels, make_voxels())
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    """Write a NIfTI file with nibabel."""
    nib.Nifti1Image(voxels, affine).to_filename(path)
    return path


def spoiled(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Write a good image and change its bytes."""
    path.write_bytes(change(save(path, make_voxels()).read_bytes()))
    return path


def with_header(path: Path, **entries: Any) -> Path:
    """Write a good image with other entries in its header."""
    content = bytearray(nib.Nifti1Image(make_voxels(), np.eye(4)).to_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in entries.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(content))
    return path


COLORS = np.zeros((4, 5, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
SHEARED = np.eye(4) + 0.1 * np.eye(4, k=1) * [[1], [0], [0], [0]]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: spoiled(path, lambda data: data[:-9]), "cannot be read"),
        (lambda path: spoiled(path, lambda data: b"<" + data), "cannot be read"),
        (lambda path: spoiled(path, lambda data: data[:-8] + bytes(8)), "be read"),
        (lambda path: with_header(path, dim=[3, 999, 999, 99, 1, 1, 1, 1]), "read"),
        (lambda path: with_header(path, xyzt_units=1), "unit of length is meter"),
        (lambda path: with_header(path, scl_slope=1, scl_inter=np.inf), "intercept"),
        (lambda path: save(path, make_voxels(), SHEARED), "right angles"),
        (lambda path: with_header(path, srow_y=[0, 0, 0, 0]), "right angles"),
        (lambda path: save(path, COLORS), "one number per voxel"),
        (lambda path: save(path, np.zeros((4, 5, 3, 2))), r"three axes.*4, 5, 3, 2"),
        (lambda path: save(path, np.zeros((4, 5))), "three axes"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, write: Any, message: str) -> None:
    """The message has the name of the file and what is wrong."""
    file = write(tmp_path / "Doe Jane.nii.gz")

    with pytest.raises(
        ValueError, match=rf"Doe Jane\.nii\.gz(.|\n)*{message}"
    ) as caught:
        read_volume(file)

    assert "\n\n" not in str(caught.value)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    """A file that is not there, one of another kind, and what ITK cannot read."""
    with pytest.raises(FileNotFoundError, match="no image"):
        read_volume(tmp_path / "a.nii.gz")
    for name, message in {"a.png": "a.png instead", "b.mha": "b.mha cannot"}.items():
        (tmp_path / name).write_text("no image")
        with pytest.raises(ValueError, match=message):
            read_volume(tmp_path / name)


def test_other_kinds_of_files_are_read(tmp_path: Path) -> None:
    """NIfTI-2, more axes of one voxel, and numbers of eight bytes."""
    nib.Nifti2Image(make_voxels(), OBLIQUE).to_filename(tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels, make_voxels())
    np.testing.assert_allclose(volume.affine, OBLIQUE)

    file = save(tmp_path / "a.nii", make_voxels()[..., None, None])
    assert read_volume(file).voxels.shape == (4, 5, 3)

    image = nib.Nifti1Image(make_voxels(np.int64), OBLIQUE, dtype=np.int64)
    image.to_filename(tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii").voxels.dtype == np.float32


def test_label_map_becomes_bytes(tmp_path: Path) -> None:
    """Rounding errors of other tools are removed; other values are refused."""
    voxels = np.resize(np.array([0, 0.9999, 2.0001, 255], np.float32), (4, 5, 3))
    label = read_label_map(save(tmp_path / "a.nii", voxels))
    assert label.voxels.dtype == np.uint8
    np.testing.assert_array_equal(label.voxels, np.rint(voxels))

    for wrong in (0.5, -1, 300, np.nan):
        voxels[0, 0, 0] = wrong
        message = rf"a\.nii must hold whole numbers.*Got {wrong}"
        with pytest.raises(ValueError, match=message):
            read_label_map(save(tmp_path / "a.nii", voxels))


def test_grids_agree_within_a_thousandth() -> None:
    """Shape and affine must agree; the message names the volume and the difference."""
    first = Volume(make_voxels(), OBLIQUE)
    shift = np.eye(4, k=3)

    assert same_grid(first, Volume(make_voxels(), OBLIQUE + 0.9e-3 * shift))
    with pytest.raises(ValueError, match="The mask must have the affine"):
        check_same_grid("The mask", Volume(make_voxels(), OBLIQUE + shift), first)
    with pytest.raises(ValueError, match=r"The mask must have the shape"):
        check_same_grid("The mask", Volume(make_voxels()[..., :2], OBLIQUE), first)


def test_small_facts() -> None:
    """An oblique voxel of 1 x 0.5 x 3 mm; the double ending, in capitals as well."""
    volume = Volume(make_voxels(), OBLIQUE)
    assert (*volume.spacing, volume.voxel_volume) == pytest.approx((1, 0.5, 3, 1.5))
    endings = [split_ending(name) for name in ("a.nii.gz", "x/a.b.NII", "a.png")]
    assert endings == [("a", ".nii.gz"), ("a.b", ".nii"), ("a.png", "")]


def test_half_a_file_is_not_whole(tmp_path: Path) -> None:
    """It is refused by its name; a whole one and other formats pass."""
    path = save(tmp_path / "a.nii.gz", make_voxels())
    check_whole(path)
    check_whole(tmp_path / "absent.mha")
    with pytest.raises(ValueError, match=r"a\.nii\.gz cannot be read"):
        check_whole(spoiled(path, lambda data: data[:-1]))
