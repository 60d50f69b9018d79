"""Tests of what label values mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel.evaluation.labels import Labels, read_labels

FILE = Path("case.nii.gz")


def write(folder: Path, labels: Any) -> Path:
    """Write a ``dataset.json`` with these labels."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def test_ignore_label_is_that_of_nnunet(tmp_path: Path) -> None:
    """The label that nnU-Net calls `ignore` is left out."""
    write(tmp_path, {"background": 0, "lesion": 1, "ignore": 2})

    labels = read_labels([tmp_path])

    assert (labels.lesion, labels.ignore) == (1, 2)
    labels.check(FILE, np.array([0, 1, 2]))


def test_first_file_wins(tmp_path: Path) -> None:
    """The dataset.json of the references is asked before that of the predictions."""
    references = write(tmp_path / "a", {"background": 0, "lesion": 1})
    predictions = write(tmp_path / "b", {"background": 0, "lesion": 1, "ignore": 2})

    assert read_labels([tmp_path / "none", references, predictions]).ignore is None
    assert read_labels([predictions, references]).ignore == 2


def test_unexplained_values_are_refused() -> None:
    """A mask of 0 and 255 is no empty label map, and the message tells the cure."""
    with pytest.raises(ValueError, match=r"case\.nii\.gz.*255.*--label"):
        read_labels([]).check(FILE, np.array([0, 255]))


def test_named_label_makes_all_others_background() -> None:
    """Who names the lesion label knows that there are others."""
    labels = read_labels([], lesion=255)

    assert labels.lesion == 255
    labels.check(FILE, np.array([0, 1, 7, 255]))


def test_labels_of_the_data_set_are_known(tmp_path: Path) -> None:
    """Values that dataset.json names, in regions too, are background."""
    write(tmp_path, {"background": 0, "all": [1, 2], "core": 3})

    read_labels([tmp_path]).check(FILE, np.array([0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("lesion", "ignore"), [(0, None), (-1, None), (1, 1), (None, 0), (None, 1)]
)
def test_labels_that_clash_are_refused(lesion: int | None, ignore: int | None) -> None:
    """Lesion, background and ignore label must differ."""
    with pytest.raises(ValueError, match="lesion label must be"):
        read_labels([], lesion=lesion, ignore=ignore)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"labels": 3}', '{"labels": {"lesion": "one"}}']
)
def test_damaged_header_is_refused(tmp_path: Path, text: str) -> None:
    """A dataset.json without usable labels is named in the message."""
    (tmp_path / "dataset.json").write_text(text)

    with pytest.raises(ValueError, match=r"dataset\.json must have the entry 'labels'"):
        read_labels([tmp_path])


@pytest.mark.parametrize(
    ("header", "lesion", "count", "channel"),
    [
        (None, 1, 2, 1),
        (None, 1, 1, 0),
        ({"background": 0, "lesion": 1, "ignore": 2}, 1, 2, 1),
        ({"background": 0, "a": 1, "b": 2}, 2, 3, 2),
        # regions have no channel for background
        ({"background": 0, "all": [1, 2], "core": 2}, 2, 2, 1),
        ({"background": 0, "core": [1], "all": [1, 2]}, 1, 2, 0),
    ],
)
def test_channel_of_the_lesion(
    header: dict[str, Any] | None, lesion: int, count: int, channel: int
) -> None:
    """The channel is the label, or the place of the region."""
    assert Labels(lesion, header=header).channel(count) == channel


@pytest.mark.parametrize(
    ("header", "count"), [(None, 3), ({"background": 0, "all": [1, 2], "core": 2}, 2)]
)
def test_unclear_channel_is_refused(header: dict[str, Any] | None, count: int) -> None:
    """A label without a channel of its own is refused."""
    lesion = 5 if header is None else 1

    with pytest.raises(ValueError, match="channel for the lesion label"):
        Labels(lesion, header=header).channel(count)
