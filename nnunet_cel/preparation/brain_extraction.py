"""Finds the brain in an image of a head, or takes the user's own brain mask.

Words:

- *brain mask*: booleans on the grid of the image, True in the brain.
- *method*: ``bet`` (the Brain Extraction Tool in Python), ``mask`` (the user's own
  files, from whatever tool), ``none`` (the image has no skull, or is to keep it).

With BET a sphere inside the head grows until it meets the dark rim around the brain.
The program is brainextractor of PyPI, the extra `bet`. Three things are added here:

- It works on voxels of about 1 mm, so the image is resampled and the mask brought back.
- Its own mask lies one voxel off on each axis; ours comes from the same surface.
- It looks up voxels outside of the image where the surface nears the border, so it gets
  an image with a border of empty voxels.

Reference: Smith, Hum Brain Mapp 2002;17:143-155, doi:10.1002/hbm.10062.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_cel.resampling import (
    grid_of,
    grid_with_spacing,
    resample_image,
    resample_labels,
    to_ras,
)
from nnunet_cel.scans import case_name, walk_images
from nnunet_cel.volumes import Volume, check_same_grid, read_label_map

__all__ = ["BrainExtraction", "add_brain_arguments", "bet_mask", "brain_extraction"]

Array = npt.NDArray[Any]
Method: TypeAlias = Literal["bet", "mask", "none"]

_SUFFIXES = ("", "_mask", "_brain_mask", "_bet_mask", "_0000")
_REACH = 25  # voxels; BET looks 20 mm inwards and steps outwards by less than 5


@dataclass(frozen=True)
class BrainExtraction:
    """A way to find the brain.

    Args:
        method: Which way, see the words above.
        mask_folder: Folder with the user's own masks, for ``mask``.

    Raises:
        ImportError: If the package of the method is missing.
        ValueError: If there is no folder of masks.
    """

    method: Method = "bet"
    mask_folder: Path | None = None

    def __post_init__(self) -> None:
        if self.method == "bet" and importlib.util.find_spec("brainextractor") is None:
            raise ImportError(
                "Brain extraction with --bet needs the package brainextractor: "
                "pip install 'nnunet-cel[bet]', on Python 3.11 or newer. Other ways "
                "are masks of another tool (--brain-mask DIR) and --no-strip."
            )
        if self.method == "mask" and not (
            self.mask_folder and self.mask_folder.is_dir()
        ):
            raise ValueError(
                "The brain masks must be files in a folder. Got "
                f"{self.mask_folder} instead: check --brain-mask."
            )

    def versions(self, *packages: str) -> dict[str, str]:
        """Return the versions of Python, of packages and of the method's own."""
        own = ("brainextractor",) if self.method == "bet" else ()
        versions = {name: importlib.metadata.version(name) for name in packages + own}
        return {"python": platform.python_version(), **versions}

    def mask(self, names: Sequence[str], image: Volume) -> Array:
        """Return the brain mask of an image, booleans of shape (X, Y, Z).

        With the method ``none`` it holds all voxels that are not 0, and what they
        enclose. Voxels that are NaN or infinite count as 0. The user's own mask may go
        by any of the names of the case.

        Raises:
            ValueError: If no brain is found, or there is not exactly one mask of the
                user's own, on the grid of the image.
        """
        from scipy.ndimage import binary_fill_holes

        voxels = np.where(np.isfinite(image.voxels), image.voxels, 0)
        if self.method == "bet":
            mask = bet_mask(Volume(voxels, image.affine))
        elif self.method == "none":
            mask = binary_fill_holes(voxels != 0)
        else:
            path = self._own_mask(names)
            own = read_label_map(path)
            check_same_grid(f"The brain mask {path}", own, image)
            mask = own.voxels > 0
        if not mask.any():
            raise ValueError(
                f"The brain mask of {names[0]} must hold at least one voxel. It is "
                "empty: look whether the image is of a head, or use another method."
            )
        return mask

    def _own_mask(self, names: Sequence[str]) -> Path:
        folder = self.mask_folder or Path()
        wanted = {name + suffix for name in names for suffix in _SUFFIXES}
        found = [
            path
            for path, joined in walk_images(folder)
            if not wanted.isdisjoint((case_name(path), joined))
        ]
        if len(found) != 1:
            got = ", ".join(str(path) for path in found) or "none"
            raise ValueError(
                f"There must be exactly one brain mask for {names[0]} in {folder}, a "
                f"file named {' or '.join(names)}, which may go on with "
                f"{', '.join(_SUFFIXES[1:])}. Got {got}."
            )
        return found[0]


def add_brain_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`brain_extraction` reads."""
    group = parser.add_argument_group("brain extraction")
    options = group.add_mutually_exclusive_group()
    options.add_argument(
        "--brain-mask",
        type=Path,
        metavar="DIR",
        help="take brain masks of your own, from FSL, HD-BET or any other tool: files "
        "named like the case, on the grid of the image",
    )
    for option, method, text in (
        ("--bet", "bet", "BET in Python; needs the extra `bet` (default)"),
        ("--no-strip", "none", "none: images have no skull, or are to keep it"),
    ):
        options.add_argument(
            option, dest="brain_method", action="store_const", const=method, help=text
        )


def brain_extraction(args: argparse.Namespace) -> BrainExtraction:
    """Return the brain extraction that the user chose."""
    if args.brain_mask is not None:
        return BrainExtraction("mask", args.brain_mask)
    return BrainExtraction(args.brain_method or "bet")


def bet_mask(image: Volume) -> Array:
    """Return where BET finds the brain, booleans of shape (X, Y, Z), if it does.

    The result does not depend on the unit of the intensities, nor on the order of the
    axes. It is the same in every run. The image must be of a head with finite
    intensities, in which the brain is brighter than its rim (T1w, FLAIR).
    """
    turned = to_ras(image)  # so that axes that run the other way change nothing
    grid = grid_with_spacing(grid_of(turned), (1, 1, 1))
    mask = _extract(resample_image(turned, grid).voxels)
    found = resample_labels(Volume(mask.astype(np.uint8), grid.affine), grid_of(image))
    return found.voxels > 0


def _extract(voxels: Array) -> Array:
    """Return the brain mask of an image with voxels of 1 mm, empty if it has none."""
    from brainextractor import BrainExtractor

    mask = np.zeros(voxels.shape, dtype=bool)
    if voxels.min() == voxels.max():  # BET would go on for ever
        return mask
    head = nib.Nifti1Image(np.ascontiguousarray(voxels), np.eye(4))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # a line for each iteration
            extractor = BrainExtractor(head)
            # The border is added when it has set its thresholds.
            vertices = extractor.vertices
            outside = max(-vertices.min(), (vertices - voxels.shape).max(), 0)
            border = int(np.ceil(outside)) + _REACH
            extractor.data = np.pad(
                extractor.data, border, constant_values=extractor.tmin
            )
            extractor.vertices = vertices + border
            extractor.update_surface_attributes()
            extractor.run()
            points = extractor.surface.voxelized(1).fill().points
    except (ArithmeticError, IndexError):  # no head
        return mask
    indices = np.rint(points).astype(int) - border
    inside = ((indices >= 0) & (indices < voxels.shape)).all(axis=1)
    mask[tuple(indices[inside].T)] = True
    return mask
