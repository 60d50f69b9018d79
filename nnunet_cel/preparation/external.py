"""Finds the brain with programs that are installed beside this package.

Supported are FSL's ``bet`` and ``hd-bet`` of HD-BET 2. Each gets a NIfTI file in a
temporary folder and writes a mask there.

References: Smith, Hum Brain Mapp 2002;17:143-155 (BET); Isensee et al., Hum Brain Mapp
2019;40:4952-4964 (HD-BET).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.volumes import Volume, check_same_grid, read_label_map, write_volume

__all__ = ["FSL_BET", "HD_BET", "Program"]

Array = npt.NDArray[Any]

_LINES = 10  # of a program's output, in the message about its failure


@dataclass(frozen=True)
class Program:
    """A program that writes the brain mask of ``image.nii.gz``.

    Args:
        title: What to call it in messages.
        command: Name of the program on the PATH.
        arguments: What comes behind it; it runs in the folder of the image.
        mask: Name of the mask that it writes there.
        settings: Environment variables that it needs.
        cure: How to get it.
    """

    title: str
    command: str
    arguments: Sequence[str]
    mask: str
    settings: Mapping[str, str]
    cure: str

    def check(self) -> None:
        """Refuse to go on if the program is not installed.

        Raises:
            ValueError: If it is not on the PATH.
        """
        self._find()

    def run(self, image: Volume, scratch: Path | None = None) -> Array:
        """Return where the brain is, booleans of shape (X, Y, Z).

        Args:
            image: A head, with finite intensities.
            scratch: Folder for temporary files, None for the system's.

        Raises:
            ValueError: If the program is not there, fails, writes no mask, or one on
                another grid.
        """
        program = self._find()
        arguments = [
            _device() if argument == "DEVICE" else argument
            for argument in self.arguments
        ]
        with tempfile.TemporaryDirectory(prefix="nnunet-cel-", dir=scratch) as name:
            folder = Path(name)
            voxels = image.voxels.astype(np.float32)
            write_volume(folder / "image.nii.gz", Volume(voxels, image.affine))
            with _interruptible():
                done = subprocess.run(
                    [program, *arguments],
                    cwd=folder,
                    env={**os.environ, **self.settings},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    check=False,
                )
            said = "\n".join(done.stdout.strip().splitlines()[-_LINES:]) or "nothing"
            if done.returncode != 0:
                raise ValueError(
                    f"{self.title} ({program}) must end without an error. It ended "
                    f"with status {done.returncode} and said:\n{said}"
                )
            if not (folder / self.mask).is_file():
                raise ValueError(
                    f"{self.title} ({program}) must write the brain mask {self.mask}. "
                    f"It wrote none and said:\n{said}\n{self.cure}"
                )
            mask = read_label_map(folder / self.mask)
        check_same_grid(f"The brain mask of {self.title}", mask, image)
        return mask.voxels > 0

    def _find(self) -> str:
        """Return the full path of the program."""
        program = shutil.which(self.command)
        if program is None:
            raise ValueError(
                f"{self.title} must be installed, with its program {self.command!r} on "
                f"the PATH. It was not found: {self.cure}"
            )
        return program


FSL_BET = Program(
    title="FSL's BET",
    command="bet",
    # -R looks for the center of the brain again and again, because of the neck.
    arguments=("image.nii.gz", "brain.nii.gz", "-m", "-R"),
    mask="brain_mask.nii.gz",
    settings={"FSLOUTPUTTYPE": "NIFTI_GZ"},
    cure="install FSL (https://fsl.fmrib.ox.ac.uk) and set it up in this shell, or use "
    "another method, such as --bet.",
)
HD_BET = Program(
    title="HD-BET",
    command="hd-bet",
    arguments=(
        *("-i", "image.nii.gz", "-o", "brain.nii.gz", "-device", "DEVICE"),
        *("--save_bet_mask", "--no_bet_image"),
    ),
    mask="brain_bet.nii.gz",
    settings={},
    cure="install version 2 or newer (pip install hd-bet), best in an environment of "
    "its own, or use another method, such as --bet.",
)


def _device() -> str:
    """Return what a network is to run on."""
    return "cuda" if shutil.which("nvidia-smi") else "cpu"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a program that is started by a process which ignores Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    # Programs inherit that a signal is ignored, but not that a function handles it.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
