"""A model of an earlier version, in ``data/earlier_model``, is of use as before.

Its plans name ``WholeSimpleITKIO``, a class of ours that is gone. That version trained
it for four epochs on heads of 16 x 18 x 14 voxels (`conftest.make_head`) and predicted
the probabilities beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_cel.files import read_json
from nnunet_cel.training.trainer import FCADenseTrainer

MODEL = Path(__file__).parent / "data" / "earlier_model"


def test_predicts_as_it_did() -> None:
    """nnU-Net's predictor reads, predicts and brings back to the image's grid."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(
        str(MODEL), (0,), "checkpoint_final.pth"
    )
    reader = predictor.plans_manager.image_reader_writer_class()
    scan = reader.read_images([str(MODEL / "case_0000.nii.gz")])

    _, probabilities = predictor.predict_single_npy_array(*scan, None, None, True)

    expected = np.load(MODEL / "lesion_probabilities.npz")["probabilities"]
    assert (expected > 0.5).sum() > 100
    np.testing.assert_allclose(probabilities[1], expected, rtol=0, atol=2e-3)


def test_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plans are accepted by the trainer, which loads its checkpoint."""
    for name in ("preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path))
    cases = tmp_path / "Dataset501_Before" / "FCADensePlans_2d"
    cases.mkdir(parents=True)
    (cases / "case_00.b2nd").touch()  # tells nnU-Net the format of the cases
    plans = read_json(MODEL / "FCADensePlans.json") | {"continue_training": True}
    dataset = read_json(MODEL / "dataset.json")
    trainer = FCADenseTrainer(plans, "2d", 0, dataset, torch.device("cpu"))

    trainer.load_checkpoint(str(MODEL / "fold_0" / "checkpoint_final.pth"))

    assert trainer.current_epoch == 4
    assert trainer.epochs_without_new_best == 0
