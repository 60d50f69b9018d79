"""The preprocessor: errors name the images."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.planning.preprocessor import FCADensePreprocessor


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0], "strange_0000.mha: KDE.*no voxel above zero"),
        ([np.nan], "strange_0000.mha: KDE.*NaN or infinite"),
        ([1.0, 1.0], "strange_0001.mha: .* the 1 channel.*Got 2 instead"),
        ([], "sheared.nii.gz: (.|\n)*'nnunet-cel prepare' mends them"),
    ],
)
def test_error_names_the_images(
    tiny_dataset: Path, tmp_path: Path, values: list[float], message: str
) -> None:
    """Zeros, NaN, a channel too many and crooked axes are refused."""
    plans = PlansManager(json.loads((tiny_dataset / "FCADensePlans.json").read_text()))
    files = [] if values else [str(tmp_path / "sheared.nii.gz")]
    if not values:
        affine = np.eye(4)
        affine[0, 1] = 5e-4
        picture = nibabel.Nifti1Image(np.ones((8, 8, 8), dtype=np.float32), affine)
        picture.set_qform(None, code=0)
        nibabel.save(picture, files[0])
    for channel, value in enumerate(values):
        image = np.zeros((20, 20, 20), dtype=np.float32)
        image[5:9] = value
        # not NIfTI: its reader in SimpleITK turns NaN into 0 without a word
        files.append(str(tmp_path / f"strange_{channel:04d}.mha"))
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image), files[-1])

    with pytest.raises(ValueError, match=message):
        FCADensePreprocessor(verbose=False).run_case(
            files,
            None,
            plans,
            plans.get_configuration("2d"),
            json.loads((tiny_dataset / "dataset.json").read_text()),
        )
