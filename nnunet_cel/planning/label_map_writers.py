"""nnU-Net's readers and writers of images, with label maps that are whole or not there.

nnU-Net writes predicted label maps in place. One whose writing was killed stays behind
cut off, and ``nnUNetv2_predict --continue_prediction`` takes it for done. The classes
here read as nnU-Net's do and write under another name first. `FCADensePlanner` and the
lifting of stock plans enter them as ``image_reader_writer``.

A label map is the last file that nnU-Net writes for a case: where it is, the
probabilities are whole as well.
"""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
from nnunetv2.imageio import base_reader_writer
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import (
    SimpleITKIO,
    SimpleITKIOWithReorient,
)

from nnunet_cel.files import new_file
from nnunet_cel.volumes import check_whole

__all__ = [
    "WholeNibabelIO",
    "WholeNibabelIOWithReorient",
    "WholeSimpleITKIO",
    "WholeSimpleITKIOWithReorient",
    "writer_of_whole_files",
]


class _WholeFiles(base_reader_writer.BaseReaderWriter):
    """Writes what the other base class writes, whole or not at all."""

    def write_seg(
        self, seg: np.ndarray, output_fname: str, properties: dict[str, Any]
    ) -> None:
        """Write a label map ``(Z, Y, X)``; arguments are those of nnU-Net.

        Raises:
            OSError: If the file cannot be written; the message names it.
        """
        try:
            with new_file(output_fname) as partial:
                super().write_seg(seg, str(partial), properties)
                check_whole(partial)  # ITK is silent when the disk is full
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"Could not write {output_fname}: {error}",
            ) from error


class WholeSimpleITKIO(_WholeFiles, SimpleITKIO):
    """nnU-Net's SimpleITKIO with whole label maps."""


class WholeSimpleITKIOWithReorient(_WholeFiles, SimpleITKIOWithReorient):
    """nnU-Net's SimpleITKIOWithReorient with whole label maps."""


class WholeNibabelIO(_WholeFiles, NibabelIO):
    """nnU-Net's NibabelIO with whole label maps."""


class WholeNibabelIOWithReorient(_WholeFiles, NibabelIOWithReorient):
    """nnU-Net's NibabelIOWithReorient with whole label maps."""


_WRITERS = {
    "SimpleITKIO": WholeSimpleITKIO,
    "SimpleITKIOWithReorient": WholeSimpleITKIOWithReorient,
    "NibabelIO": WholeNibabelIO,
    "NibabelIOWithReorient": WholeNibabelIOWithReorient,
}


def writer_of_whole_files(name: str) -> str:
    """Return the name of our variant of one of nnU-Net's classes, or the name itself.

    Args:
        name: ``image_reader_writer`` of plans. The classes for 2D images, and for TIFF,
            whose spacing is in a second file, have no variant.
    """
    return _WRITERS[name].__name__ if name in _WRITERS else name
