"""Intensity normalization by kernel density estimation (KDE).

The density of a channel's tissue intensities is estimated with a Gaussian kernel, and
the image is divided by the position of a peak, so that this tissue becomes 1: the last
peak for T1w (white matter), the highest for FLAIR, T2w and PD. Zero background stays
zero, and the result does not depend on the scanner's unit.

The paper normalizes by "kernel density estimation" without details (section "Data
preprocessing and postprocessing"). This is the procedure of the code of its reference
15 (Zhang et al. 2019), which took it from FLEXCONN: intensities above the 99th
percentile q are left out, and the kernel's bandwidth is q / 80.
"""

from __future__ import annotations

import numpy as np
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    ImageNormalization,
)
from scipy.ndimage import gaussian_filter1d

__all__ = [
    "KDEHighestPeakNormalization",
    "KDELastPeakNormalization",
    "tissue_peak",
]

PERCENTILE = 99.0
BANDWIDTHS_BELOW_PERCENTILE = 80
BINS = 4096
# Voxels that are looked at, evenly spread: for the place of a peak that is plenty, and
# a 1 mm brain of two million voxels takes a third of the time.
SAMPLES = 2**19
# Peaks lower than this share of the highest are noise of the tail. The procedure's
# origin has no such limit and relies on its coarse grid instead.
MINIMUM_PEAK_DENSITY = 0.05


def tissue_peak(image: np.ndarray, *, last: bool) -> float:
    """Return the intensity of a peak of the density of a channel's tissue.

    Args:
        image: Intensities of one channel, any shape; what is not above zero is
            background.
        last: Whether to take the peak of highest intensity (white matter in T1w)
            instead of the highest peak.

    Returns:
        Position of the peak in the image's unit, > 0.

    Raises:
        ValueError: If an intensity is not finite, or all of the tissue has the same
            intensity, or there is no tissue.
    """
    # min and max see NaN and infinity without a temporary mask of the whole image
    if not np.isfinite(image.min(initial=0)) or not np.isfinite(image.max(initial=0)):
        bad = image.size - np.count_nonzero(np.isfinite(image))
        raise ValueError(
            "KDE normalization must get finite intensities. Got "
            f"{bad} voxels that are NaN or infinite instead. Repair the image, for "
            "example by setting them to 0."
        )
    tissue = image[image > 0]
    if tissue.size == 0 or tissue.min() == tissue.max():
        got = "no voxel above zero" if tissue.size == 0 else f"only {tissue[0]:g}"
        raise ValueError(
            "KDE normalization must get an image with different intensities above "
            f"zero (background is 0). Got {got} instead. Remove the case, or look at "
            "how the image was made."
        )
    tissue = tissue[:: max(1, tissue.size // SAMPLES)]
    upper = float(np.percentile(tissue, PERCENTILE))
    counts, edges = np.histogram(tissue, bins=BINS, range=(0.0, upper))
    density = gaussian_filter1d(
        counts.astype(float),
        sigma=BINS / BANDWIDTHS_BELOW_PERCENTILE,
        mode="constant",
    )
    centers = (edges[:-1] + edges[1:]) / 2
    peaks = np.flatnonzero(
        (density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])
    )
    peaks = peaks[density[peaks + 1] >= MINIMUM_PEAK_DENSITY * density.max()] + 1
    if last and len(peaks):
        return float(centers[peaks[-1]])
    return float(centers[density.argmax()])


class _KDENormalization(ImageNormalization):
    """Divide a channel by the position of a peak of its tissue density."""

    leaves_pixels_outside_mask_at_zero_if_use_mask_for_norm_is_true = True
    last_peak: bool

    def run(self, image: np.ndarray, seg: np.ndarray | None = None) -> np.ndarray:
        """Return the channel ``(X, Y, Z)``, divided by the peak of its tissue.

        Raises:
            ValueError: See `tissue_peak`.
        """
        image = image.astype(self.target_dtype, copy=False)
        image /= tissue_peak(image, last=self.last_peak)
        return image


class KDELastPeakNormalization(_KDENormalization):
    """The last peak becomes 1: white matter in T1w images, with or without contrast."""

    last_peak = True


class KDEHighestPeakNormalization(_KDENormalization):
    """The highest peak becomes 1: FLAIR, T2w and PD images."""

    last_peak = False
