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


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", None])
def test_other_files_are_refused(
    content: bytes | None, lesion: np.ndarray, tmp_path: Path
) -> None:
    """A file that is no archive or was cut off is refused with a message."""
    path = save(tmp_path / "case.npz", lesion)
    path.write_bytes(path.read_bytes()[:200] if content is None else content)

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
    probabilities[10:12, 10:12, 10:12] = 0.8  # which postprocessing may have removed
    mask = probabilities > 0.85

    for right in (mask, probabilities > 0.25, np.zeros_like(mask)):
        check_probabilities(Path("a.npz"), probabilities, right)
    with pytest.raises(ValueError, match=r"a\.npz.*turned the axes"):
        check_probabilities(Path("a.npz"), probabilities[::-1], mask)
