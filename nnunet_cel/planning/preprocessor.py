"""nnU-Net's preprocessor with error messages that name the images."""

from __future__ import annotations

from typing import Any

from nnunetv2.preprocessing.preprocessors.default_preprocessor import (
    DefaultPreprocessor,
)

__all__ = ["FCADensePreprocessor"]


class FCADensePreprocessor(DefaultPreprocessor):
    """Preprocess as nnU-Net does, and say which images could not be.

    Normalization sees intensities only; what it refuses (NaN, constant images) becomes
    an error that names the files, in preprocessing as in prediction.
    """

    def run_case(self, image_files: list[str], *args: Any, **kwargs: Any) -> Any:
        """Preprocess one case; arguments and result are those of nnU-Net.

        Raises:
            ValueError: If the case cannot be normalized.
        """
        try:
            return super().run_case(image_files, *args, **kwargs)
        except ValueError as error:
            raise ValueError(f"{', '.join(image_files)}: {error}") from error
