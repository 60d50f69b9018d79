"""DICOM series: where voxels lie, what is refused, what handling them leaves behind."""

from __future__ import annotations

import locale
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nnunet_cel.phantom.layouts import write_dicom
from nnunet_cel.volumes import Volume, read_volume

pydicom = pytest.importorskip("pydicom")

VOXELS = np.arange(5 * 6 * 8, dtype=np.int16).reshape(5, 6, 8)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("x", 20, degrees=True).as_matrix()
AFFINE[:3] *= (0.5, 0.75, 3.0, 1.0)
AFFINE[:3, 3] = (20, -30, 11)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """An oblique series of eight slices, 3 mm apart, the last one first by its name."""
    folder = tmp_path / "series"
    write_dicom(folder, Volume(VOXELS, AFFINE), "Doe_Jane")
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"slice_{9 - number}.dcm")
    return folder


def test_series_is_read_in_the_order_of_positions(series: Path) -> None:
    """Voxels and geometry are those of the scan, whatever the files are called."""
    before = locale.setlocale(locale.LC_ALL)

    volume = read_volume(series)

    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-4)
    assert locale.setlocale(locale.LC_ALL) == before


def test_slices_with_scales_of_their_own(series: Path) -> None:
    """Every slice has its slope, and positions are rounded to hundredths."""
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        number = int(dataset.InstanceNumber)
        dataset.RescaleSlope = 1 + (number - 1) / 8
        dataset.ImagePositionPatient = [
            round(x, 2) for x in dataset.ImagePositionPatient
        ]
        dataset.save_as(file)

    voxels = read_volume(series).voxels

    np.testing.assert_allclose(voxels, VOXELS * (1 + np.arange(8) / 8), rtol=1e-6)


@pytest.mark.parametrize(
    ("files", "tag", "value", "message"),
    [
        ("*", "ImagePositionPatient", None, "stacked along their normal"),
        ("*", "ImagePositionPatient", [1, 2, 3], "say that they lie at the same place"),
        ("*_2.dcm", "ImageOrientationPatient", [1, 0, 0, 0, 1, 0], "in different dir"),
        ("*_2.dcm", "PixelSpacing", [0.8, 0.5], "pixels of different sizes"),
    ],
)
def test_slices_that_are_no_box_are_refused(
    series: Path, files: str, tag: str, value: Any, message: str
) -> None:
    """Voxels would lie in a wrong place."""
    for number, file in enumerate(sorted(series.glob(files))):
        dataset = pydicom.dcmread(file)
        if value is None:  # as with a tilted gantry
            x, *others = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x + number, *others]
        else:
            setattr(dataset, tag, value)
        dataset.save_as(file)

    with pytest.raises(ValueError, match=f"series(.|\\n)*({message})"):
        read_volume(series)


def test_files_that_are_not_there_or_not_whole_are_refused(series: Path) -> None:
    """A missing slice would shift everything behind it, a cut one show noise."""
    middle, last = series / "slice_5.dcm", series / "slice_2.dcm"
    content = last.read_bytes()

    last.write_bytes(content[:-20])
    with pytest.raises(ValueError, match=r"slice_2\.dcm|cannot be read"):
        read_volume(series)
    last.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"1 that cannot be read \(slice_2\.dcm\)"):
        read_volume(series)
    last.write_bytes(content)
    middle.unlink()
    with pytest.raises(ValueError, match=r"equally far apart.*3\.000 mm"):
        read_volume(series)
    for path in series.iterdir():
        if path != last:
            path.unlink()
    with pytest.raises(ValueError, match="Got 1 of 1 series"):
        read_volume(series)
    last.unlink()
    with pytest.raises(ValueError, match="Got 0 of 0 series"):
        read_volume(series)
