"""nnU-Net's preprocessor with error messages that name the images."""

from __future__ import annotations

from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors import default_preprocessor

from nnunet_cel.volumes import check_whole

__all__ = ["FCADensePreprocessor"]


class FCADensePreprocessor(default_preprocessor.DefaultPreprocessor):
    """Preprocess as nnU-Net does, and say which images could not be.

    Normalization sees intensities only; what it refuses (NaN, constant images) becomes
    an error that names the files, in preprocessing as in prediction.
    """

    def run_case(
        self, image_files: list[str], seg_file: str | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Preprocess one case; arguments and result are those of nnU-Net.

        Raises:
            ValueError: If a file is cut off or nnU-Net's reader refuses it, or the case
                cannot be normalized or has another number of channels than the plans.
        """
        for file in (*image_files, seg_file):
            if file is not None:
                check_whole(file)  # nnU-Net's readers may fill what is missing
        try:
            return super().run_case(image_files, seg_file, *args, **kwargs)
        except (ValueError, RuntimeError) as error:
            cure = ""
            if "orthonormal" in str(error):
                cure = " Axes must be at right angles: 'nnunet-cel prepare' mends them."
            raise ValueError(f"{', '.join(image_files)}: {error}{cure}") from error

    def run_case_npy(self, data: np.ndarray, *args: Any) -> Any:
        """Preprocess one case in memory; arguments and result are those of nnU-Net."""
        channels = len(args[3].normalization_schemes)  # of nnU-Net's configuration
        if len(data) != channels:
            raise ValueError(
                f"Every case must have the {channels} channel(s) that 'channel_names' "
                f"in dataset.json lists. Got {len(data)} instead."
            )
        return super().run_case_npy(data, *args)
