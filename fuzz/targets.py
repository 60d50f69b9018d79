"""The parsers of the package, each as a function of the bytes of a file.

A target writes the bytes to a file and reads it as the package does. What is wrong with
a file must end in a ValueError or an OSError; anything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A parser.

    Args:
        file: Name of the file that it reads.
        read: Reads the file.
        seed: Content of a file that is in order.
        wrap: Makes the file of the bytes that the fuzzer finds.
    """

    file: str
    read: Callable[[Path], Any]
    seed: Callable[[], bytes]
    wrap: Callable[[bytes], bytes] = bytes


def _volume(path: Path) -> None:
    from nnunet_cel.volumes import read_label_map, read_volume

    volume = read_volume(path)
    if not np.isfinite(volume.affine).all() or volume.voxels.ndim != 3:
        raise RuntimeError("a volume that is none")
    read_label_map(path)


def _nifti() -> bytes:
    from nnunet_cel.volumes import Volume, to_nifti

    volume = Volume(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    return to_nifti(volume, compressed=False)


def _labels(path: Path) -> None:
    from nnunet_cel.evaluation.labels import read_labels

    labels = read_labels([path.parent])
    labels.check(path, np.arange(3))
    labels.channel(path, 2)


def _transform(path: Path) -> None:
    from nnunet_cel.preparation.restore import read_grids

    read_grids(path)


def _grids() -> bytes:
    grid = {"shape": [2, 3, 4], "affine": np.eye(4).tolist()}
    record = {
        **{"case": "a", "source_sha256": "0", "original": grid, "prepared": grid},
        **{"crop": {"first": [0] * 3, "stop": [2, 3, 4]}, "settings": {}},
        "versions": {},
    }
    return json.dumps(record).encode()


def _protocol(path: Path) -> None:
    from nnunet_cel.evaluation.protocol import load_protocol

    load_protocol(path).to_dict()


def _paper() -> bytes:
    folder = resources.files("nnunet_cel.evaluation") / "protocols"
    return (folder / "anima.yaml").read_bytes()


def _scans(path: Path) -> None:
    from nnunet_cel.scans import find_described_scans

    for scan in find_described_scans(path):
        if "/" in scan.name or scan.name.startswith("."):
            raise RuntimeError("a name that is no name of a file")


def _pattern(path: Path) -> None:
    from nnunet_cel.scans import find_described_scans

    text = path.read_bytes().decode("utf-8", "replace")
    images, _, labels = text.partition("\n")
    find_described_scans(path.parent, images[:80], labels[:80])


def _evaluation(path: Path) -> None:
    from nnunet_cel.evaluation.comparison import read_evaluation

    (path.parent / "cases.csv").write_text("case\na\n")
    read_evaluation(path.parent)


def _table(path: Path) -> None:
    from nnunet_cel.evaluation.tables import read_table

    read_table(path)


def _probabilities(path: Path) -> None:
    from nnunet_cel.evaluation.labels import Labels, read_probabilities

    read_probabilities(path, np.zeros((4, 3, 2)), Labels())


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, probabilities=np.zeros((2, 2, 3, 4), np.float32))
    return stream.getvalue()


def _log(path: Path) -> None:
    from nnunet_cel.report.training_log import read_training

    read_training(path.parent)


def _folds(path: Path) -> None:
    from nnunet_cel.best_fold import choose, read_folds

    folder = path.parent / "fold_0" / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_bytes(path.read_bytes())
    choose(read_folds(path.parent), model=path.parent)


def _settings(path: Path) -> None:
    from nnunet_cel.settings import BLOCK, Settings

    content = json.loads(path.read_bytes().decode("utf-8", "replace"))
    settings = Settings.from_configuration({BLOCK: content})
    if Settings(**settings.to_block()) != settings:
        raise RuntimeError("settings that change when they are read back")


def _block() -> bytes:
    from nnunet_cel.settings import Settings

    return json.dumps(Settings().to_block()).encode()


def _study(path: Path) -> None:
    from nnunet_cel.study.study import read_study

    read_study(path)


def _checkpoint(path: Path) -> None:
    from nnunet_cel.model_export import read_checkpoint

    read_checkpoint(path)


def _saved() -> bytes:
    import torch

    stream = io.BytesIO()
    content = {
        "network_weights": {"a.weight": torch.zeros(1)},
        "trainer_name": "FCADenseTrainer",
        "current_epoch": 1,
        "init_args": {"configuration": "2d", "fold": 0, "plans": {}},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(content, stream)
    return stream.getvalue()


def _manifest(path: Path) -> None:
    from nnunet_cel.model_export import read_manifest

    read_manifest(path)


def _model() -> bytes:
    return b'{"format": "nnunet_cel weights", "version": 1, "plans": {}}'


def _text(content: str) -> Callable[[], bytes]:
    return lambda: content.encode()


_LOG = "Epoch 0\ntrain_loss 0.5\nval_loss nan\nPseudo dice [np.float32(0.5)]\n"

TARGETS = {
    "nifti": Target("a.nii", _volume, _nifti),
    "nifti-gz": Target(
        "a.nii.gz", _volume, _nifti, lambda data: gzip.compress(data, 1, mtime=0)
    ),
    "labels": Target("dataset.json", _labels, _text('{"labels": {"a": 0, "b": [1]}}')),
    "transform": Target("a.json", _transform, _grids),
    "protocol": Target("a.yaml", _protocol, _paper),
    "scans": Target("a.csv", _scans, _text("subject,image,label\na,a.csv,a.csv\n")),
    "pattern": Target("a.nii", _pattern, _text("{subject}.nii\n**/*{subject}.nii")),
    "evaluation": Target("summary.json", _evaluation, _text('{"protocol": {}}')),
    "table": Target("a.csv", _table, _text("case,DSC\n'=a,0.5\n")),
    "probabilities": Target("a.npz", _probabilities, _npz),
    "training-log": Target("training_log_1.txt", _log, _text(_LOG)),
    "folds": Target("a.json", _folds, _text('{"foreground_mean": {"Dice": 0.5}}')),
    "settings": Target("a.json", _settings, _block),
    "study": Target("a.yaml", _study, _text("data: {}\nnetworks: [unet]\nout: b\n")),
    "checkpoint": Target("a.pth", _checkpoint, _saved),
    "manifest": Target("model.json", _manifest, _model),
}
