"""Fixtures: seeded randomness, and a tiny data set that nnU-Net planned for us."""

from __future__ import annotations

import json
import locale
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import nibabel
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from nnunet_cel.training.trainer import FCADenseTrainer

# the same examples on every machine, however slow or busy it is
settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# nnU-Net starts eight processes for every validation and every prediction by default
os.environ.setdefault("nnUNet_def_n_proc", "2")
os.environ.setdefault("nnUNet_n_proc_DA", "2")

# the networks of the tests are too small for threads to pay; torch itself is imported
# where it is needed, because that takes seconds
os.environ.setdefault("OMP_NUM_THREADS", "1")

FOLDERS = ("raw", "preprocessed", "results")
LOCALE = locale.setlocale(locale.LC_ALL)


@pytest.fixture(autouse=True)
def _locale_of_the_start() -> Iterator[None]:
    """Begin and end every test in the locale in which the tests were started.

    GDCM, with which tests write DICOM files, leaves one behind that reads ASCII.
    """
    locale.setlocale(locale.LC_ALL, LOCALE)
    yield
    locale.setlocale(locale.LC_ALL, LOCALE)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(20241)


def make_head(
    rng: np.random.Generator, shape: tuple[int, int, int], lesions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return an ellipsoid of two tissues with bright round lesions, and their label."""
    axes = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape]
    position = np.stack(np.meshgrid(*axes, indexing="ij"))
    label = np.zeros(shape, dtype=np.uint8)
    for _ in range(lesions):
        center = rng.uniform(-0.4, 0.4, 3).reshape(3, 1, 1, 1)
        label[((position - center) ** 2).sum(0) < 0.14**2] = 1
    tissue = 300 + 60 * (position[0] > 0) + rng.normal(0, 8, shape)
    image = np.where((position**2).sum(0) < 0.9, tissue, 0) + 200 * label
    return image.astype(np.float32), label


def write_dataset(
    root: Path,
    name: str,
    *,
    cases: int = 5,
    channels: tuple[str, ...] = ("FLAIR",),
    shape: tuple[int, int, int] = (40, 44, 36),
    spacing: tuple[float, float, float] = (1, 1, 1),
    labels: dict[str, int | list[int]] | None = None,
    lesion_free: int = 0,
    seed: int = 0,
) -> Path:
    """Write an nnU-Net raw data set; the last ``lesion_free`` cases have no lesion."""
    rng = np.random.default_rng(seed)
    folder = root / name
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / sub).mkdir(parents=True)
    affine = np.diag([*spacing, 1.0])
    for index in range(cases):
        image, label = make_head(rng, shape, 3 if index < cases - lesion_free else 0)
        if labels and max(np.max(value) for value in labels.values()) > 1:
            label[: shape[0] // 2] *= 2
        for channel in range(len(channels)):
            file = f"case_{index:02d}_{channel:04d}.nii.gz"
            picture = nibabel.Nifti1Image(image + 10 * channel, affine)
            nibabel.save(picture, folder / "imagesTr" / file)
            if index == 0:
                nibabel.save(picture, folder / "imagesTs" / file)
        outline = nibabel.Nifti1Image(label, affine)
        nibabel.save(outline, folder / "labelsTr" / f"case_{index:02d}.nii.gz")
    description = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels or {"background": 0, "lesion": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="session")
def dataset_writer() -> Callable[..., Path]:
    """`write_dataset`, for tests of other modules."""
    return write_dataset


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders ``raw``, ``preprocessed`` and ``results`` that nnU-Net uses."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return tmp_path


@pytest.fixture(scope="session")
def planned_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nnU-Net's folders with ``Dataset501_Tiny``, planned, and one trained fold.

    Made once in a run, for all processes of pytest-xdist; not to be changed.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "planned"
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDERS:
            patch.setenv(f"nnUNet_{name}", str(root / name))
        with FileLock(f"{root}.lock"):
            if not (root / "done").exists():
                for name in FOLDERS:
                    (root / name).mkdir(parents=True)
                write_dataset(root / "raw", "Dataset501_Tiny", lesion_free=1)
                plan_and_preprocess(501)
                patch.setenv("nnUNet_n_proc_DA", "0")
                trainer = tiny_trainer(root / "preprocessed" / "Dataset501_Tiny")
                trainer.initialize()
                # the network would start at a lesion probability of 0.01
                list(trainer.network.parameters())[-1].data.zero_()
                trainer.run_training()
                (root / "done").touch()
        yield root


def tiny_plans(
    dataset: Path,
    *,
    network: Mapping[str, Any] | None = None,
    batch_size: int = 2,
    **settings: Any,
) -> dict[str, Any]:
    """Return the plans of a preprocessed data set with a tiny network in ``2d``.

    Args:
        dataset: Folder of the preprocessed data set.
        network: Arguments of the network that differ from the tiny ones.
        batch_size: Samples in a batch.
        settings: Settings that differ from those of a training of one step.
    """
    plans: dict[str, Any] = json.loads((dataset / "FCADensePlans.json").read_text())
    entry = plans["configurations"]["2d"]
    entry["batch_size"] = batch_size
    entry["architecture"]["arch_kwargs"] |= {
        "down_layers": [1],
        "bottleneck_layers": 1,
        "stem_features": 8,
    } | dict(network or {})
    entry["nnunet_cel"] |= {
        "max_epochs": 1,
        "iterations_per_epoch": 1,
        "validation_iterations": 1,
        "training_window": 16,
    } | settings
    return plans


def tiny_trainer(
    dataset: Path,
    *,
    dataset_json: dict[str, Any] | None = None,
    fold: int | str = 0,
    **options: Any,
) -> FCADenseTrainer:
    """Return a trainer on the CPU; the options are those of `tiny_plans`."""
    import torch

    from nnunet_cel.training.trainer import FCADenseTrainer

    trainer = FCADenseTrainer(
        tiny_plans(dataset, **options) | {"continue_training": False},
        "2d",
        fold,
        dataset_json or json.loads((dataset / "dataset.json").read_text()),
        torch.device("cpu"),
    )
    # a figure of a square meter for every epoch is not what tests are about
    trainer.logger.plot_progress_png = lambda folder: None
    return trainer


@pytest.fixture
def tiny_model(planned_folders: Path, tmp_path: Path) -> Path:
    """A copy of the model folder of the tiny training; noise is lesion for it."""
    name = "results/Dataset501_Tiny/FCADenseTrainer__FCADensePlans__2d"
    shutil.copytree(planned_folders / name, tmp_path / name)
    return tmp_path / name


def plan_and_preprocess(dataset: int, planner: str = "FCADensePlanner") -> str:
    """Plan and preprocess a data set in this process; return the name of the plans."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    # each process that nnU-Net starts would import torch, which takes seconds
    threads = SimpleNamespace(Pool=ThreadPool)
    with mock.patch("multiprocessing.get_context", return_value=threads):
        api.extract_fingerprints(
            [dataset], num_processes=1, check_dataset_integrity=False
        )
        plans: str = api.plan_experiments([dataset], planner)
        api.preprocess([dataset], plans, ["2d"], num_processes=[1])
    return plans


@pytest.fixture
def tiny_dataset(
    planned_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The preprocessed folder of ``Dataset501_Tiny``, with results of its own."""
    monkeypatch.setenv("nnUNet_raw", str(planned_folders / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(planned_folders / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return planned_folders / "preprocessed" / "Dataset501_Tiny"
