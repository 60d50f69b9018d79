"""Label maps are written whole or not at all, and as nnU-Net writes them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import (
    SimpleITKIO,
    SimpleITKIOWithReorient,
)

from nnunet_cel.planning import label_map_writers
from nnunet_cel.volumes import check_whole

STOCK = {
    each.__name__: each
    for each in (
        *(SimpleITKIO, SimpleITKIOWithReorient),
        *(NibabelIO, NibabelIOWithReorient),
    )
}
NAMES = list(STOCK)
STUFF = {"spacing": (1,) * 3, "origin": (0,) * 3, "direction": tuple(np.eye(3).flat)}

# Writes label maps, of noise so that compressing takes time, until it is killed.
ENDLESS = """
import itertools, sys
import numpy as np
from nnunet_cel.planning.label_map_writers import WholeSimpleITKIO
label_map = np.random.default_rng(0).integers(0, 200, (40, 200, 200), dtype=np.uint8)
stuff = {"spacing": (1, 1, 1), "origin": (0, 0, 0), "direction": (1,0,0,0,1,0,0,0,1)}
for number in itertools.count():
    name = f"{sys.argv[1]}/case_{number}.nii.gz"
    WholeSimpleITKIO().write_seg(label_map, name, {"sitk_stuff": stuff})
    print(number, flush=True)
"""

# Writes a label map of which the disk takes the first 100 kB only.
FULL_DISK = """
import resource, sys
import numpy as np
from nnunet_cel.planning.label_map_writers import WholeSimpleITKIO
label_map = np.random.default_rng(0).integers(0, 200, (40, 200, 200), dtype=np.uint8)
stuff = {"spacing": (1, 1, 1), "origin": (0, 0, 0), "direction": (1,0,0,0,1,0,0,0,1)}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
WholeSimpleITKIO().write_seg(label_map, sys.argv[1], {"sitk_stuff": stuff})
"""


def ours(name: str) -> Any:
    """Return an object of our variant of a class."""
    return getattr(label_map_writers, label_map_writers.writer_of_whole_files(name))()


@pytest.mark.parametrize("name", NAMES)
def test_writes_what_nnunet_writes(name: str, tmp_path: Path) -> None:
    """Same voxels and geometry as from nnU-Net's class, for an oblique image."""
    affine = np.array([[0, 0, 2.0, 5], [-1, 0, 0, 7], [0, 1.5, 0, 9], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.random((4, 5, 6), dtype=np.float32), affine)
    nibabel.save(image, tmp_path / "image.nii.gz")
    array, properties = ours(name).read_images([str(tmp_path / "image.nii.gz")])
    label_map = (array[0] > 0.5).astype(np.uint8)

    for folder, writer in (("ours", ours(name)), ("stock", STOCK[name]())):
        (tmp_path / folder).mkdir()
        writer.write_seg(label_map, str(tmp_path / folder / "a.nii.gz"), properties)

    written, expected = (
        nibabel.load(tmp_path / folder / "a.nii.gz") for folder in ("ours", "stock")
    )
    assert np.any(written.dataobj)
    np.testing.assert_array_equal(written.dataobj, expected.dataobj)
    np.testing.assert_array_equal(written.affine, expected.affine)
    assert [file.name for file in (tmp_path / "ours").iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("name", ["Tiff3DIO", "NaturalImage2DIO", "AnotherIO"])
def test_other_classes_stay(name: str) -> None:
    """What has no variant keeps its name."""
    assert label_map_writers.writer_of_whole_files(name) == name


def test_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    """The error names the label map."""
    missing = tmp_path / "gone" / "a.nii.gz"

    with pytest.raises(OSError, match=r"Could not write .*gone.a\.nii\.gz"):
        ours("SimpleITKIO").write_seg(
            np.zeros((2, 2, 2), np.uint8), str(missing), {"sitk_stuff": STUFF}
        )


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_full_disk_leaves_what_was_there(ending: str, tmp_path: Path) -> None:
    """ITK is silent about half a NIfTI file; here it is an error with the name."""
    file = tmp_path / f"a{ending}"
    ours("SimpleITKIO").write_seg(
        np.ones((2, 2, 2), np.uint8), str(file), {"sitk_stuff": STUFF}
    )
    before = file.read_bytes()

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert f"Could not write {file}: " in done.stderr
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    """Killed at 20 moments of writing, every label map that is there is whole."""
    written = 0
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(folder)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        time.sleep(number * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        files = list(folder.glob("*.nii.gz"))
        for file in files:
            check_whole(file)
        written += len(files)
        # All are written again, the interrupted one too, and nothing is left over. The
        # last whole one may have been about to lose its hidden folder, empty by then.
        again = [*files, folder / f"case_{len(files)}.nii.gz"]
        for file in again:
            ours("SimpleITKIO").write_seg(
                np.ones((2, 2, 2), np.uint8), str(file), {"sitk_stuff": STUFF}
            )
        assert sorted(folder.iterdir()) == sorted(again)

    assert written >= 20
