"""DICOM files: what handling them leaves behind."""

from __future__ import annotations

import locale
from pathlib import Path

import numpy as np

from nnunet_cel.dicom import keep_locale, read_series
from nnunet_cel.phantom.layouts import write_dicom
from nnunet_cel.volumes import Volume


def test_locale_is_restored_after_a_block() -> None:
    """Whatever a block sets, the process has its former locale afterwards."""
    before = locale.setlocale(locale.LC_ALL)

    with keep_locale():
        locale.setlocale(locale.LC_ALL, "C")

    assert locale.setlocale(locale.LC_ALL) == before


def test_dicom_leaves_the_locale_alone(tmp_path: Path) -> None:
    """Text is read as before after a series was written and read."""
    volume = Volume(np.arange(8 * 9 * 4, dtype=np.int16).reshape(8, 9, 4), np.eye(4))
    before = locale.setlocale(locale.LC_ALL)

    write_dicom(tmp_path / "scan", volume, "P_1")
    image = read_series(tmp_path / "scan")

    assert locale.setlocale(locale.LC_ALL) == before
    assert image.GetSize() == (8, 9, 4)
