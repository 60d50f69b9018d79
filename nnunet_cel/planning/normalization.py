"""Intensity normalization by kernel density estimation (KDE).

The density of a channel's tissue intensities is estimated with a Gaussian kernel, and
the image is divided by the position of a peak, so that this tissue becomes 1: the last
peak for T1w (white matter), the highest for FLAIR, T2w and PD. Zero background stays
zero, and the result does not depend on the scanner's unit.

The paper normalizes by "kernel density estimation" without details (section "Data
preprocessing and postprocessing"). This is the procedure of the code of its reference
15 (Zhang et al. 2019), which took it from FLEXCONN: intensities above the 99th
percentile q are left out, and the kernel's bandwidth is q / 80.

It is made for images without skull. In a head, the noise of the air has the highest
peak; where it does, the air is left out first.
"""

from __future__ import annotations

import numpy as np
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    ImageNormalization,
)
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from skimage.filters import threshold_otsu

__all__ = ["KDEHighestPeakNormalization", "KDELastPeakNormalization", "tissue_peak"]

PERCENTILE = 99.0
BANDWIDTHS_BELOW_PERCENTILE = 80
BINS = 4096
# Voxels that are looked at, evenly spread: for the place of a peak that is plenty, and
# a 1 mm brain of two million voxels takes a third of the time.
SAMPLES = 2**19
# Peaks lower than this share of the highest are vessels, lesions, fat and noise of the
# tail. In 13 real T1w scans fat has at most .07, and narrow peaks of 3 % of a brain's
# voxels have .1 (docs/real_scans.md). The procedure's origin has no such limit and
# relies on its coarse grid instead.
MINIMUM_PEAK_DENSITY = 0.25
# A peak below this share of the 90th percentile is air: without skull the highest peaks
# of real scans are at .83 and more, the air of heads at .2 and less.
AIR = 0.3


def tissue_peak(image: np.ndarray, *, last: bool) -> float:
    """Return the intensity of a peak of the density of a channel's tissue.

    Args:
        image: Intensities of one channel, any shape; what is not above zero is
            background. The noise of air around a head may be there, and is left out.
        last: Whether to take the peak of highest intensity (white matter in T1w)
            instead of the highest peak.

    Returns:
        Position of the peak in the image's unit, > 0.

    Raises:
        ValueError: If an intensity is not finite, there are no two different ones, or
            the corners of the image are below zero, so that background is not zero.
    """
    tissue, got = image[image > 0], None
    # min and max see NaN and infinity without a temporary mask of the whole image
    if not np.isfinite([image.min(initial=0), image.max(initial=0)]).all():
        got = "voxels that are NaN or infinite"
    elif tissue.size == 0:
        got = "no voxel above zero"
    elif tissue.min() == tissue.max():
        got = f"only {tissue[0]:g}"
    elif (corner := np.median(image[np.ix_(*[(0, -1)] * image.ndim)])) < 0:
        got = f"{corner:g} in the corners of the image"
    if got:
        raise ValueError(
            "KDE normalization must get finite and different intensities above zero, "
            f"and a background of 0. Got {got} instead. Set the background to 0, or "
            "repair or remove the image."
        )
    tissue = tissue[:: max(1, tissue.size // SAMPLES)]
    centers, density = _density(tissue)
    bright = np.percentile(tissue, 90)
    air = centers < AIR * bright
    if density[air].max() > density[~air].max() / 2:
        # fat, which is brighter than the brain, must not draw the threshold upwards
        air_and_tissue = np.minimum(tissue, bright)
        centers, density = _density(tissue[tissue > threshold_otsu(air_and_tissue)])
    peaks, _ = find_peaks(density, height=MINIMUM_PEAK_DENSITY * density.max())
    return float(centers[peaks[-1] if last and len(peaks) else density.argmax()])


def _density(tissue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intensities, evenly spread, and the density of voxels at each."""
    upper = float(np.percentile(tissue, PERCENTILE))
    counts, edges = np.histogram(tissue, bins=BINS, range=(0.0, upper))
    sigma = BINS / BANDWIDTHS_BELOW_PERCENTILE
    density = gaussian_filter1d(counts.astype(float), sigma, mode="constant")
    return (edges[:-1] + edges[1:]) / 2, density


class _KDENormalization(ImageNormalization):
    """Divide a channel by the position of a peak of its tissue density."""

    leaves_pixels_outside_mask_at_zero_if_use_mask_for_norm_is_true = True
    last_peak: bool

    def run(self, image: np.ndarray, seg: np.ndarray | None = None) -> np.ndarray:
        """Return the channel ``(X, Y, Z)``, divided by the peak of its tissue."""
        image = image.astype(self.target_dtype, copy=False)
        image /= tissue_peak(image, last=self.last_peak)
        return image


class KDELastPeakNormalization(_KDENormalization):
    """The last peak becomes 1: white matter in T1w images, with or without contrast."""

    last_peak = True


class KDEHighestPeakNormalization(_KDENormalization):
    """The highest peak becomes 1: FLAIR, T2w and PD images."""

    last_peak = False
