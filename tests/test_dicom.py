"""DICOM series: where voxels lie, what is refused, what handling them leaves behind."""

from __future__ import annotations

import locale
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_cel.dicom import keep_locale
from nnunet_cel.volumes import read_volume


@keep_locale()
def write_series(
    folder: Path, change: Callable[[int, dict[str, str]], None] = lambda i, tags: None
) -> Path:
    """Write an oblique series of eight slices, 3 mm apart; some tags may be changed."""
    folder.mkdir()
    image = sitk.GetImageFromArray(
        np.arange(8 * 6 * 5, dtype=np.int16).reshape(8, 6, 5)
    )
    turn = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetDirection(turn.ravel().tolist())
    image.SetOrigin((-20, 30, 11))
    for i in range(8):
        piece = image[:, :, i]
        position = image.TransformIndexToPhysicalPoint((0, 0, i))
        tags = {
            "0008|0060": "MR",
            "0010|0010": "DOE^JANE",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0013": str(i),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.8f}" for value in turn.T[:2].ravel()),
            "0028|0030": "0.75\\0.5",
        }
        change(i, tags)
        row, column = map(float, tags["0028|0030"].split("\\"))
        piece.SetSpacing((column, row))
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"slice_{9 - i}.dcm"))
        writer.Execute(piece)
    return folder


def test_series_is_read_in_the_order_of_positions(tmp_path: Path) -> None:
    """Voxels and geometry are those of the scan, whatever the files are called."""
    before = locale.setlocale(locale.LC_ALL)

    volume = read_volume(write_series(tmp_path / "series"))

    np.testing.assert_array_equal(
        volume.voxels, np.arange(8 * 6 * 5).reshape(8, 6, 5).T
    )
    np.testing.assert_allclose(volume.spacing, (0.5, 0.75, 3.0), atol=1e-4)
    np.testing.assert_allclose(volume.affine[:3, 3], (20, -30, 11), atol=1e-4)
    assert locale.setlocale(locale.LC_ALL) == before


def tilted(i: int, tags: dict[str, str]) -> None:
    """Shift a slice sideways more with each, as with a tilted gantry."""
    x, rest = tags["0020|0032"].split("\\", 1)
    tags["0020|0032"] = f"{float(x) + i:.6f}\\{rest}"


def of_last(tag: str, value: str, i: int, tags: dict[str, str]) -> None:
    """Change a tag of the last slice."""
    if i == 7:
        tags[tag] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (tilted, "stacked along their normal"),
        (partial(of_last, "0020|0037", r"1\0\0\0\1\0"), "in different directions"),
        (partial(of_last, "0028|0030", r"0.8\0.5"), "pixels of different sizes"),
    ],
)
def test_slices_that_are_no_box_are_refused(
    tmp_path: Path, change: Callable[[int, dict[str, str]], None], message: str
) -> None:
    """Voxels would lie in a wrong place."""
    series = write_series(tmp_path / "series", change)

    with pytest.raises(ValueError, match=f"series(.|\n)*({message})"):
        read_volume(series)


def test_files_that_are_not_there_or_not_whole_are_refused(tmp_path: Path) -> None:
    """A missing slice would shift everything behind it, a cut one show noise."""
    series = write_series(tmp_path / "series")
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
    with pytest.raises(ValueError, match="Got 1 of a series"):
        read_volume(series)
    last.unlink()
    with pytest.raises(ValueError, match=r"exactly one DICOM series\. It holds 0"):
        read_volume(series)
