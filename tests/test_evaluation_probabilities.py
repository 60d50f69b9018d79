"""Tests of reading the probabilities that nnU-Net saves."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.probabilities import check_probabilities, read_probabilities

SHAPE = (3, 4, 5)


@pytest.fixture
def lesion(rng: np.random.Generator) -> np.ndarray:
    """A lesion probability, shape (X, Y, Z)."""
    return rng.random(SHAPE, dtype=np.float32)


def save(path: Path, lesion: np.ndarray) -> Path:
    """Save probabilities of two classes in nnU-Net's order of axes."""
    both = np.stack([1 - lesion, lesion])
    np.savez_compressed(path, probabilities=both.transpose(0, 3, 2, 1))
    return path


def test_axes_are_those_of_the_label_map(lesion: np.ndarray, tmp_path: Path) -> None:
    """What was saved as (C, Z, Y, X) is read as (X, Y, Z)."""
    path = save(tmp_path / "case.npz", lesion)

    assert (read_probabilities(path, SHAPE, Labels()) == lesion).all()


def test_pickle_beside_it_is_not_opened(lesion: np.ndarray, tmp_path: Path) -> None:
    """The .pkl file, which could run code, may hold anything."""
    path = save(tmp_path / "case.npz", lesion)
    path.with_suffix(".pkl").write_bytes(b"no pickle")

    assert read_probabilities(path, SHAPE, Labels()).shape == SHAPE


def test_pickled_probabilities_are_refused(tmp_path: Path) -> None:
    """An array of objects is not unpickled."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "case.npz"
    array = np.empty(1, dtype=object)
    array[0] = Trap()
    np.savez(path, probabilities=array)
    assert pickle.dumps(array)

    with pytest.raises(ValueError, match="cannot be read"):
        read_probabilities(path, SHAPE, Labels())
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"softmax": np.zeros((2, 5, 4, 3))}, "cannot be read"),
        ({"probabilities": np.zeros((2, 3, 4, 5))}, "shape .classes, 5, 4, 3"),
        ({"probabilities": np.zeros((5, 4, 3))}, "shape .classes, 5, 4, 3"),
        ({"probabilities": np.zeros((2, 5, 4, 3), dtype=int)}, "of int64"),
        ({"probabilities": np.full((2, 5, 4, 3), 3.0)}, "from 0 to 1"),
        ({"probabilities": np.full((2, 5, 4, 3), np.nan)}, "from 0 to 1"),
    ],
)
def test_wrong_content_is_refused(
    content: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    """Another key, shape, type or range is refused, and the file is named."""
    path = tmp_path / "case.npz"
    np.savez(path, **content)

    with pytest.raises(ValueError, match=rf"case\.npz.*{message}"):
        read_probabilities(path, SHAPE, Labels())


def test_damaged_file_is_refused(lesion: np.ndarray, tmp_path: Path) -> None:
    """A file that was cut off is refused with a message, not a traceback."""
    path = save(tmp_path / "case.npz", lesion)
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(ValueError, match="cannot be read"):
        read_probabilities(path, SHAPE, Labels())


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is no archive is refused with a message."""
    path = tmp_path / "case.npz"
    path.write_bytes(content)

    with pytest.raises(ValueError, match="cannot be read"):
        read_probabilities(path, SHAPE, Labels())


def test_missing_file_tells_how_to_get_it(tmp_path: Path) -> None:
    """Without probabilities the message names the option that saves them."""
    with pytest.raises(FileNotFoundError, match="--save_probabilities"):
        read_probabilities(tmp_path / "case.npz", SHAPE, Labels())


def test_turned_axes_are_noticed(rng: np.random.Generator) -> None:
    """Probabilities of a flipped volume are refused, those of any threshold are not."""
    probabilities = rng.random((20, 20, 20)) * 0.3
    probabilities[2:6, 3:7, 4:8] = 0.9
    mask = probabilities > 0.5
    low = probabilities > 0.25

    check_probabilities(Path("a.npz"), probabilities, mask)
    check_probabilities(Path("a.npz"), probabilities, low)
    check_probabilities(Path("a.npz"), probabilities, np.zeros_like(mask))
    with pytest.raises(ValueError, match="turned the axes"):
        check_probabilities(Path("a.npz"), probabilities[::-1], mask)


def test_removed_lesions_are_no_reason_to_refuse(rng: np.random.Generator) -> None:
    """Probabilities of lesions that postprocessing removed are no mismatch."""
    probabilities = rng.random((20, 20, 20)) * 0.1
    probabilities[2:4, 2:4, 2:4] = 0.8
    probabilities[10:12, 10:12, 10:12] = 0.9
    mask = probabilities > 0.85

    check_probabilities(Path("a.npz"), probabilities, mask)
    mask[:] = False
    mask[2:4, 2:4, 2:4] = True
    check_probabilities(Path("a.npz"), probabilities, mask)
