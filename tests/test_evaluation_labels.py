"""Tests of what label values mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel.evaluation.labels import read_labels

FILE = Path("case.nii.gz")


def write(folder: Path, labels: Any) -> Path:
    """Write a ``dataset.json`` with these labels."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "name": "x"}))
    return folder


def test_first_file_names_the_ignore_label(tmp_path: Path) -> None:
    """The dataset.json of the references is asked before that of the predictions."""
    plain = write(tmp_path / "a", {"background": 0, "lesion": 1})
    ignoring = write(tmp_path / "b", {"background": 0, "lesion": 1, "ignore": 2})

    assert read_labels([tmp_path / "none", plain, ignoring]).ignore is None
    labels = read_labels([ignoring, plain])
    assert (labels.lesion, labels.ignore) == (1, 2)
    labels.check(FILE, np.array([0, 1, 2]))
    read_labels([ignoring], ignore=3).check(FILE, np.array([0, 1, 2, 3]))


def test_unexplained_values_are_refused(tmp_path: Path) -> None:
    """A mask of 0 and 255 is no empty label map, unless the user knows its values."""
    with pytest.raises(ValueError, match=r"case\.nii\.gz.*255.*--label"):
        read_labels([]).check(FILE, np.array([0, 255]))
    read_labels([], lesion=255).check(FILE, np.array([0, 1, 7, 255]))
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

    with pytest.raises(ValueError, match=r"dataset\.json"):
        read_labels([tmp_path])


@pytest.mark.parametrize(
    ("header", "lesion", "count", "channel"),
    [
        ({}, 1, 2, 1),
        ({}, 1, 1, 0),
        ({"background": 0, "lesion": 1, "ignore": 2}, 1, 2, 1),
        ({"background": 0, "a": 1, "b": 2}, 2, 3, 2),
        # regions have no channel for background
        ({"background": 0, "all": [1, 2], "core": 2}, 2, 2, 1),
        ({"background": 0, "core": [1], "all": [1, 2]}, 1, 2, 0),
        # none has a channel of its own
        ({}, 5, 3, None),
        ({"background": 0, "all": [1, 2], "core": 2}, 1, 2, None),
    ],
)
def test_channel_of_the_lesion(
    header: dict[str, Any], lesion: int, count: int, channel: int | None, tmp_path: Path
) -> None:
    """The channel is the label, or the place of the region, or it is not clear."""
    labels = read_labels([write(tmp_path, header)], lesion=lesion)
    if channel is not None:
        assert labels.channel(count) == channel
        return
    with pytest.raises(ValueError, match="channel for the lesion label"):
        labels.channel(count)
