"""Reading and writing volumes: values and world positions survive, faults are named."""

from __future__ import annotations

import gzip
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
    [
        [-0.6, 0.8 * 0.5, 0.0, 12.0],
        [0.8, 0.6 * 0.5, 0.0, -30.0],
        [0.0, 0.0, 3.0, 5.5],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
DTYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64]


def make_voxels(dtype: Any = np.int16) -> np.ndarray:
    """Return voxels that are all different."""
    return np.arange(4 * 5 * 3).reshape(4, 5, 3).astype(dtype)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Draw any orientation, flips and permutations of axes included."""
    angles = draw(st.tuples(*[st.floats(-180, 180, width=32)] * 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 6)] * 3))
    origin = draw(st.tuples(*[st.floats(-300, 300, width=32)] * 3))
    affine = np.eye(4)
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = (axes[:, order] * signs) * spacing
    affine[:3, 3] = origin
    return affine


@given(
    affine=affines(),
    dtype=st.sampled_from(DTYPES),
    slope=st.sampled_from([None, 1.0, 0.5, 2.5, 1e-3, -1.5]),
    intercept=st.sampled_from([0.0, 10.0, -7.25]),
    form=st.sampled_from(["both", "sform", "qform"]),
    big_endian=st.booleans(),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_any_header_keeps_values_and_world_positions(
    tmp_path_factory: pytest.TempPathFactory,
    affine: np.ndarray,
    dtype: Any,
    slope: float | None,
    intercept: float,
    form: str,
    big_endian: bool,
    ending: str,
) -> None:
    """Whatever the header, reading, writing and reading gives the same, also to ITK."""
    folder = tmp_path_factory.mktemp("fuzz")
    source, target = folder / f"source{ending}", folder / f"target{ending}"
    order = ">" if big_endian else "<"
    stored = make_voxels(dtype).astype(np.dtype(dtype).newbyteorder(order))
    image = nib.Nifti1Image(stored, affine, nib.Nifti1Header(endianness=order))
    image.set_data_dtype(dtype)
    image.set_sform(affine, code=0 if form == "qform" else 2)
    image.set_qform(affine, code=0 if form == "sform" else 1)
    expected = stored.astype(np.float64)
    raw = image.to_bytes()
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
        expected = expected * np.float32(slope) + np.float32(intercept)
        # nibabel scales values down on writing; undo that
        raw = image.to_bytes()[:352] + stored.tobytes(order="F")
    source.write_bytes(gzip.compress(raw) if ending == ".nii.gz" else raw)
    known = nib.load(source)

    volume = read_volume(source)
    write_volume(target, volume)

    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(volume.affine, known.affine)
    again = read_volume(target)
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    assert again.affine.astype(np.float32).tobytes() == (
        volume.affine.astype(np.float32).tobytes()
    )
    other = sitk.ReadImage(str(target))
    corner = np.array(other.TransformContinuousIndexToPhysicalPoint((3.0, 4.0, 2.0)))
    world = (volume.affine @ [3, 4, 2, 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(corner, world, atol=1e-3)
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(other).T, volume.voxels, rtol=1e-6
    )


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
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


def spoiled(path: Path, start: float, stop: float) -> Path:
    """Write a file of which a part is zeros, or is missing up to its end."""
    save(path, np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    content = path.read_bytes()
    first, last = (int(len(content) * share) for share in (start, stop))
    rest = content[last:]
    path.write_bytes(content[:first] + (bytes(last - first) + rest) * bool(rest))
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


def text_file(path: Path) -> Path:
    """Write something else under the name of an image."""
    path.write_text("not an image at all, but long enough for a header " * 20)
    return path


COLORS = np.zeros((4, 5, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
SHEARED = np.eye(4) + 0.1 * np.eye(4, k=1) * [[1], [0], [0], [0]]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: spoiled(path, 0.5, 1), "cannot be read"),
        (lambda path: spoiled(path, 0.5, 0.51), "cannot be read"),
        (lambda path: spoiled(path, 0, 1), "cannot be read"),
        (text_file, "cannot be read"),
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
    with pytest.raises(ValueError, match=r"a\.png instead"):
        read_volume(text_file(tmp_path / "a.png"))
    for ending in (".nrrd", ".mha"):
        with pytest.raises(ValueError, match=r"bad\.\w+ cannot be read"):
            read_volume(text_file(tmp_path / f"bad{ending}"))


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
    with pytest.raises(ValueError, match=r"The mask.*\(4, 5, 3\).*Got \(4, 5, 2\)"):
        check_same_grid("The mask", Volume(make_voxels()[..., :2], OBLIQUE), first)


def test_header_holds_no_text(tmp_path: Path) -> None:
    """Nothing but numbers gets into a written file."""
    source = tmp_path / "source.nii"
    image = nib.Nifti1Image(make_voxels(), OBLIQUE)
    for name in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[name] = b"DOE JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE JANE"))
    image.to_filename(source)
    assert b"DOE JANE" in source.read_bytes()

    write_volume(tmp_path / "target.nii", read_volume(source))

    assert b"DOE" not in (tmp_path / "target.nii").read_bytes()


def test_spacing_and_volume_of_a_voxel() -> None:
    """An oblique voxel of 1 x 0.5 x 3 mm has 1.5 mm3."""
    volume = Volume(make_voxels(), OBLIQUE)

    assert volume.spacing == pytest.approx((1, 0.5, 3))
    assert volume.voxel_volume == pytest.approx(1.5)


def test_ending_is_split_off() -> None:
    """The double ending counts as one, in capitals as well."""
    assert split_ending("a.nii.gz") == ("a", ".nii.gz")
    assert split_ending("x/a.b.NII") == ("a.b", ".nii")
    assert split_ending("a.png") == ("a.png", "")


def test_half_a_compressed_file_is_not_whole(tmp_path: Path) -> None:
    """It is refused by its name; a whole one and other formats pass."""
    path = save(tmp_path / "a.nii.gz", make_voxels())
    check_whole(path)
    check_whole(tmp_path / "absent.mha")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.nii\.gz cannot be read"):
        check_whole(path)
