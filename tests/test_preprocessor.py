"""The preprocessor: errors name the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.planning.preprocessor import FCADensePreprocessor


def test_wrong_number_of_channels_is_refused(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    """A channel too many is refused by file name, not by an index."""
    plans = PlansManager(json.loads((tiny_dataset / "FCADensePlans.json").read_text()))
    files = [tmp_path / f"case_{channel:04d}.mha" for channel in range(2)]
    for file in files:
        image = SimpleITK.GetImageFromArray(np.ones((9, 9, 9), dtype=np.float32))
        SimpleITK.WriteImage(image, str(file))

    with pytest.raises(ValueError, match=r"0001.mha: .* the 1 channel.*Got 2 instead"):
        FCADensePreprocessor(verbose=False).run_case(
            [str(file) for file in files],
            None,
            plans,
            plans.get_configuration("2d"),
            json.loads((tiny_dataset / "dataset.json").read_text()),
        )


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "no voxel above zero"), (np.nan, "NaN or infinite")]
)
def test_error_names_the_image(
    tiny_dataset: Path, tmp_path: Path, value: float, message: str
) -> None:
    """A case of zeros and a case with NaN are refused by file name."""
    plans = PlansManager(json.loads((tiny_dataset / "FCADensePlans.json").read_text()))
    image = np.zeros((20, 20, 20), dtype=np.float32)
    image[5:9] = value
    # not NIfTI: its reader in SimpleITK turns NaN into 0 without a word
    file = tmp_path / "strange_0000.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image), str(file))

    with pytest.raises(ValueError, match=f"strange_0000.mha: KDE.*{message}"):
        FCADensePreprocessor(verbose=False).run_case(
            [str(file)],
            None,
            plans,
            plans.get_configuration("2d"),
            json.loads((tiny_dataset / "dataset.json").read_text()),
        )
