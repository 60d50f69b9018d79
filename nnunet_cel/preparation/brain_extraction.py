"""Finds the brain in an image of a head, in one of several ways.

Words:

- *brain mask*: booleans on the grid of the image, True in the brain.
- *method*: ``bet`` (the Brain Extraction Tool in Python), ``fsl-bet`` and ``hd-bet``
  (programs on the PATH), ``mask`` (the user's own files), ``none`` (the image has no
  skull, or is to keep it).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from nnunet_cel.preparation.bet import bet_mask
from nnunet_cel.preparation.external import FSL_BET, HD_BET
from nnunet_cel.scans import walk_images
from nnunet_cel.volumes import Volume, check_same_grid, read_label_map

__all__ = ["BrainExtraction", "Method", "add_brain_arguments", "brain_extraction"]

Array = npt.NDArray[Any]
Method: TypeAlias = Literal["bet", "fsl-bet", "hd-bet", "mask", "none"]

_PROGRAMS = {"fsl-bet": FSL_BET, "hd-bet": HD_BET}
_SUFFIXES = ("", "_mask", "_brain_mask", "_bet_mask", "_0000")


@dataclass(frozen=True)
class BrainExtraction:
    """A way to find the brain.

    Args:
        method: Which way, see the words above.
        mask_folder: Folder with the user's own masks, for ``mask``.
    """

    method: Method = "bet"
    mask_folder: Path | None = None

    def check(self) -> None:
        """Refuse what cannot work, before any work is done.

        Raises:
            ImportError: If a package is missing.
            ValueError: If a program or the folder of masks is missing.
        """
        if self.method not in get_args(Method):
            raise ValueError(
                "The method of brain extraction must be one of "
                f"{', '.join(get_args(Method))}. Got {self.method!r} instead."
            )
        if self.method == "bet" and importlib.util.find_spec("brainextractor") is None:
            raise ImportError(
                "Brain extraction with --bet needs the package brainextractor: "
                "pip install 'nnunet-cel[bet]', on Python 3.11 or newer. Other ways "
                "are --fsl-bet, --hd-bet, masks of your own (--brain-mask DIR), and "
                "--no-strip for images without a skull."
            )
        if self.method in _PROGRAMS:
            _PROGRAMS[self.method].check()
        if self.method == "mask" and not (
            self.mask_folder and self.mask_folder.is_dir()
        ):
            raise ValueError(
                "The brain masks must be files in a folder. Got "
                f"{self.mask_folder} instead: check --brain-mask."
            )

    def mask(
        self, names: Sequence[str], image: Volume, *, scratch: Path | None = None
    ) -> Array:
        """Return the brain mask of an image, booleans of shape (X, Y, Z).

        With the method ``none`` it holds all voxels that are not 0, and what they
        enclose.

        Args:
            names: Names of the case, by any of which the user's own mask may go.
            image: A head. Voxels that are NaN or infinite count as 0.
            scratch: Folder for temporary files, None for the system's.

        Raises:
            ValueError: If no brain is found, or there is not exactly one mask of the
                user's own, on the grid of the image.
        """
        image = Volume(
            np.where(np.isfinite(image.voxels), image.voxels, 0), image.affine
        )
        if self.method == "bet":
            mask = bet_mask(image)
        elif self.method in _PROGRAMS:
            mask = _PROGRAMS[self.method].run(image, scratch)
        elif self.method == "none":
            mask = _filled(image.voxels != 0)
        else:
            mask = self._own_mask(names, image)
        if not mask.any():
            raise ValueError(
                f"The brain mask of {names[0]} must hold at least one voxel. It is "
                "empty: look at the image, or use another method."
            )
        return mask

    def _own_mask(self, names: Sequence[str], image: Volume) -> Array:
        """Return the user's own mask."""
        self.check()
        folder = self.mask_folder or Path()
        wanted = {name + suffix for name in names for suffix in _SUFFIXES}
        found = [
            path
            for path, name, joined in walk_images(folder)
            if name in wanted or joined in wanted
        ]
        if len(found) != 1:
            got = ", ".join(str(path) for path in found) or "none"
            raise ValueError(
                f"There must be exactly one brain mask for {names[0]} in {folder}, a "
                f"file named {' or '.join(names)}, which may go on with "
                f"{', '.join(_SUFFIXES[1:])}. Got {got}."
            )
        mask = read_label_map(found[0])
        check_same_grid(f"The brain mask {found[0]}", mask, image)
        return mask.voxels > 0


def add_brain_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`brain_extraction` reads."""
    group = parser.add_argument_group("brain extraction")
    options = group.add_mutually_exclusive_group()
    options.add_argument(
        "--brain-mask",
        type=Path,
        metavar="DIR",
        help="take brain masks of your own: files named like the case, on the grid of "
        "the image",
    )
    for option, method, text in (
        ("--bet", "bet", "BET in Python; needs the extra `bet` (default)"),
        ("--fsl-bet", "fsl-bet", "FSL's bet, which must be on the PATH"),
        ("--hd-bet", "hd-bet", "HD-BET 2, whose hd-bet must be on the PATH"),
        ("--no-strip", "none", "none: images have no skull, or are to keep it"),
    ):
        options.add_argument(
            option, dest="brain_method", action="store_const", const=method, help=text
        )


def brain_extraction(
    args: argparse.Namespace, default: Method = "bet"
) -> BrainExtraction:
    """Return the brain extraction that the user chose."""
    if args.brain_mask is not None:
        return BrainExtraction("mask", args.brain_mask)
    return BrainExtraction(args.brain_method or default)


def _filled(mask: Array) -> Array:
    """Return a mask without holes."""
    from scipy.ndimage import binary_fill_holes

    filled: Array = binary_fill_holes(mask)
    return filled
