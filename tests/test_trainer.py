"""The trainer: paper's settings, early stopping, exact resuming, several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.crossval_split import generate_crossval_split
from torch import nn

from nnunet_cel.networks import FCADenseNet, TriplanarNetwork
from nnunet_cel.settings import BLOCK
from nnunet_cel.training.losses import DiceLoss, FocalLoss
from nnunet_cel.training.pool import index_slices
from nnunet_cel.training.trainer import FCADenseTrainer

MakeTrainer = Callable[..., FCADenseTrainer]

# Small and short; everything that a test does not name is the paper's.
SMALL_NETWORK = {
    "down_layers": [2, 2],
    "bottleneck_layers": 2,
    "stem_features": 8,
    "growth_rate": 4,
}
SHORT = {
    "max_epochs": 2,
    "iterations_per_epoch": 2,
    "validation_iterations": 2,
    "training_window": 32,
    "learning_rate": 1e-2,
}


REGIONS = {
    "channel_names": {"0": "FLAIR"},
    "labels": {"background": 0, "whole": [1, 2], "core": 1},
    "regions_class_order": [2, 1],
    "numTraining": 5,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def make_trainer(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTrainer:
    """Return trainers of the tiny data set with settings of the caller's choice."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    # a figure of a square meter for every epoch is not what these tests are about
    monkeypatch.setattr(
        "nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png",
        lambda self, folder: None,
    )

    def make(
        *,
        configuration: str = "2d",
        batch_size: int = 2,
        network: dict[str, Any] | None = None,
        dataset_json: dict[str, Any] | None = None,
        fold: int | str = 0,
        **settings: Any,
    ) -> FCADenseTrainer:
        plans = json.loads((tiny_dataset / "FCADensePlans.json").read_text())
        plans["continue_training"] = False
        entry = plans["configurations"][configuration]
        entry["batch_size"] = batch_size
        entry["architecture"]["arch_kwargs"] |= SMALL_NETWORK | (network or {})
        entry[BLOCK] |= SHORT | settings
        return FCADenseTrainer(
            plans,
            configuration,
            fold,
            dataset_json or json.loads((tiny_dataset / "dataset.json").read_text()),
            torch.device("cpu"),
        )

    return make


def weights(trainer: FCADenseTrainer) -> dict[str, torch.Tensor]:
    """Return a copy of the weights and buffers of a trainer's network."""
    return {k: v.clone() for k, v in trainer.triplanar_network.state_dict().items()}


def test_settings_of_the_paper(make_trainer: MakeTrainer) -> None:
    """Adam 2e-4, constant; focal loss; 300 epochs; batches of 16; no mirroring."""
    trainer = make_trainer(
        max_epochs=300, learning_rate=2e-4, training_window=None, batch_size=16
    )
    trainer.initialize()

    assert isinstance(trainer.optimizer, torch.optim.Adam)
    for epoch in (0, 150, 299):
        trainer.lr_scheduler.step(epoch)
        assert trainer.optimizer.param_groups[0]["lr"] == 2e-4
    assert trainer.optimizer.defaults["betas"] == (0.9, 0.999)
    assert trainer.optimizer.defaults["weight_decay"] == 0
    assert isinstance(trainer.loss, FocalLoss)
    assert (trainer.loss.lesion_weight, trainer.loss.gamma) == (0.75, 1)
    assert trainer.num_epochs == 300
    assert trainer.batch_size == 16
    assert trainer.window == 64
    assert trainer.inference_allowed_mirroring_axes is None
    assert isinstance(trainer.triplanar_network.network, FCADenseNet)


def test_settings_decide(make_trainer: MakeTrainer) -> None:
    """Loss, number of input channels, mirroring, and one pass over all slices."""
    trainer = make_trainer(
        loss="dice",
        neighbor_pairs=2,
        test_time_mirroring=True,
        iterations_per_epoch=None,
        batch_size=16,
    )
    trainer.on_train_start()

    assert isinstance(trainer.loss, DiceLoss)
    assert trainer.triplanar_network.network.input_channels == 5
    assert trainer.inference_allowed_mirroring_axes == (0, 1, 2)
    log = Path(trainer.log_file).read_text()
    slices = int(log.split(" lesion-bearing slices")[0].split()[-1])
    assert trainer.num_iterations_per_epoch == -(-slices // 16)
    assert "Initial weights: random." in log


def test_training_runs_and_leaves_what_nnunet_expects(
    make_trainer: MakeTrainer,
) -> None:
    """Two epochs: checkpoints with CPU tensors, plans for inference, no leftovers."""
    trainer = make_trainer()

    trainer.run_training()

    folder = Path(trainer.output_folder)
    assert {file.name for file in folder.glob("checkpoint*")} == {
        "checkpoint_best.pth",
        "checkpoint_final.pth",
    }
    assert not list(folder.glob("*.partial"))
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "FCADenseTrainer"
    assert all(not v.is_cuda for v in checkpoint["network_weights"].values())
    saved = json.loads((folder.parent / "plans.json").read_text())
    assert saved["configurations"]["2d"][BLOCK]["heads"] == "softmax"
    assert len(trainer.logger.get_value("train_losses", None)) == 2


def test_training_learns(make_trainer: MakeTrainer) -> None:
    """Bright lesions on a dark head are learned within a few epochs."""
    trainer = make_trainer(
        max_epochs=8, iterations_per_epoch=12, batch_size=4, network={"dropout": 0.0}
    )

    trainer.run_training()

    assert max(trainer.logger.get_value("mean_fg_dice", None)) > 0.5


@pytest.mark.parametrize("augmentation", ["paper", "nnunet"])
def test_batches_of_both_augmentations(
    make_trainer: MakeTrainer, augmentation: str
) -> None:
    """Windows of the training's size; validation has lesion-free samples, too."""
    trainer = make_trainer(
        augmentation=augmentation, batch_size=8, validation_iterations=1
    )
    trainer.on_train_start()

    training = next(trainer.dataloader_train)
    validation = next(trainer.dataloader_val)

    assert training["data"].shape == (8, 3, 32, 32)
    assert training["target"].flatten(1).any(dim=1).all()
    assert validation["data"].shape == (8, 3, 32, 32)
    assert validation["target"].flatten(1).any(dim=1).sum() == 4


def test_stops_early_and_restores_the_best_weights(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best at epoch 1, patience 2: stops after epoch 3 with the weights of epoch 1.

    nnU-Net compares a moving average: 0.1, then 0.15, 0.135 and 0.1215.
    """
    trainer = make_trainer(max_epochs=50, patience=2)
    scripted = [0.1, 0.6, 0.0, 0.0, 0.9]
    seen: list[dict[str, torch.Tensor]] = []

    def validate(outputs: object) -> None:
        seen.append(weights(trainer))
        epoch = trainer.current_epoch
        trainer.logger.log("mean_fg_dice", scripted[epoch], epoch)
        trainer.logger.log("dice_per_class_or_region", [scripted[epoch]], epoch)
        trainer.logger.log("val_losses", 0.0, epoch)

    monkeypatch.setattr(trainer, "on_validation_epoch_end", validate)
    trainer.run_training()

    assert len(seen) == 4
    torch.testing.assert_close(weights(trainer), seen[1], rtol=0, atol=0)
    final = Path(trainer.output_folder, "checkpoint_final.pth")
    saved = torch.load(final, weights_only=False)
    torch.testing.assert_close(saved["network_weights"], seen[1], rtol=0, atol=0)
    assert not Path(trainer.output_folder, "checkpoint_latest.pth").exists()


def test_stopped_training_stays_finished(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--c on a training that stopped early trains no further epoch."""
    trainer = make_trainer(max_epochs=50, patience=1)
    monkeypatch.setattr(FCADenseTrainer, "epochs_without_new_best", 1)
    trainer.on_train_start = FCADenseTrainer.__mro__[1].on_train_start.__get__(trainer)  # type: ignore[method-assign]  # let the first epoch run
    trainer.run_training()
    before = weights(trainer)

    resumed = make_trainer(max_epochs=50, patience=1)
    resumed.load_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    resumed.run_training()

    assert len(resumed.logger.get_value("train_losses", None)) == 1
    torch.testing.assert_close(weights(resumed), before, rtol=0, atol=0)


def test_resumed_training_equals_an_uninterrupted_one(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after two of four epochs and resumed: same weights, to the bit."""
    monkeypatch.setattr("nnunet_cel.training.trainer.CHECKPOINT_EPOCHS", 2)
    torch.manual_seed(7)
    whole = make_trainer(max_epochs=4)
    whole.initialize()
    initial = weights(whole)
    whole.run_training()
    expected = weights(whole)
    history = whole.logger.get_value("mean_fg_dice", None)

    interrupted = make_trainer(max_epochs=4)
    interrupted.initialize()
    interrupted.triplanar_network.load_state_dict(initial)
    start_of_epoch = interrupted.on_epoch_start

    def power_cut() -> None:
        if interrupted.current_epoch == 3:
            raise KeyboardInterrupt
        start_of_epoch()

    monkeypatch.setattr(interrupted, "on_epoch_start", power_cut)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run_training()

    resumed = make_trainer(max_epochs=4)
    latest = Path(interrupted.output_folder, "checkpoint_latest.pth")
    resumed.load_checkpoint(str(latest))
    assert resumed.current_epoch == 2
    resumed.run_training()

    torch.testing.assert_close(weights(resumed), expected, rtol=0, atol=0)
    assert resumed.logger.get_value("mean_fg_dice", None) == history


def test_latest_checkpoint_knows_the_best_so_far(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter of early stopping survives: it is derived from the log."""
    monkeypatch.setattr("nnunet_cel.training.trainer.CHECKPOINT_EPOCHS", 1)
    trainer = make_trainer(max_epochs=3)
    trainer.on_train_start()
    trainer.logger.load_checkpoint(
        trainer.logger.get_checkpoint()
        | {"ema_fg_dice": [0.2, 0.5, 0.4], "mean_fg_dice": [0.2, 0.5, 0.4]}
    )
    trainer._best_ema = 0.2  # what nnU-Net stores before it has compared
    trainer.current_epoch = 2
    trainer._save_latest()

    resumed = make_trainer(max_epochs=3)
    resumed.load_checkpoint(str(Path(trainer.output_folder, "checkpoint_latest.pth")))

    assert resumed._best_ema == 0.5
    assert resumed.epochs_without_new_best == 1


def test_checkpoints_are_due_after_ten_epochs_or_ten_minutes(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs 10 and 20 are saved; any other only if the last was 10 minutes ago."""
    trainer = make_trainer(max_epochs=30)
    saved: list[int] = []
    monkeypatch.setattr(
        trainer, "save_checkpoint", lambda file: saved.append(trainer.current_epoch + 1)
    )
    clock = [0.0]
    monkeypatch.setattr("nnunet_cel.training.trainer.time.monotonic", lambda: clock[0])
    trainer._last_checkpoint = 0.0

    for epoch, seconds in ((9, 1), (10, 2), (11, 3), (12, 650), (13, 651), (30, 9e9)):
        trainer.current_epoch, clock[0] = epoch, seconds
        trainer._save_latest()

    assert saved == [10, 12]


def test_failed_write_leaves_the_old_checkpoint(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk full while saving: the checkpoint that was there is untouched."""
    trainer = make_trainer()
    trainer.initialize()
    file = Path(trainer.output_folder, "checkpoint_latest.pth")
    trainer.save_checkpoint(str(file))
    before = file.read_bytes()

    def no_space(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match=r"Could not write .*No space left"):
        trainer.save_checkpoint(str(file))

    assert file.read_bytes() == before
    assert not list(file.parent.glob(".checkpoint*"))


def test_transfer_takes_all_weights(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """-pretrained_weights copies every tensor, the head and BatchNorm included."""
    pretrained = make_trainer()
    pretrained.initialize()
    for buffer in pretrained.triplanar_network.buffers():
        buffer.add_(1)
    file = tmp_path / "pretrained.pth"
    pretrained.save_checkpoint(str(file))

    trainer = make_trainer()
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(file))

    torch.testing.assert_close(weights(trainer), weights(pretrained), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training_window": 128}, "at most the patch size, 64 voxels. Got 128"),
        ({"loss": "focl"}, "'loss' of the block .* '2d' must be one of"),
        ({"neighbour_pairs": 1}, "Did you mean 'neighbor_pairs'"),
    ],
)
def test_wrong_settings_are_refused(
    make_trainer: MakeTrainer, settings: dict[str, Any], message: str
) -> None:
    """Settings that cannot work end in an error before anything is trained."""
    with pytest.raises(ValueError, match=message):
        make_trainer(**settings)


def test_seed_decides_about_the_initial_weights(make_trainer: MakeTrainer) -> None:
    """Same seed, same weights; another seed or none, other weights."""
    stems = []
    for seed in (1, 1, 2, None):
        trainer = make_trainer(seed=seed)
        trainer.initialize()
        stems.append(weights(trainer)["network.stem.weight"])

    assert torch.equal(stems[0], stems[1])
    assert not any(torch.equal(stems[0], stem) for stem in stems[2:])


def test_training_without_any_lesion_is_refused(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no training case has a lesion there is nothing to learn."""
    trainer = make_trainer()
    monkeypatch.setattr(trainer, "do_split", lambda: (["case_04"], ["case_00"]))

    with pytest.raises(ValueError, match="must have a training case with a lesion"):
        trainer.run_training()


UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
PLAIN_UNET = {
    "network_class_name": UNET,
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.Conv2d",
        "kernel_sizes": [3, 3],
        "strides": [1, 2],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "norm_op": "torch.nn.BatchNorm2d",
        "nonlin": "torch.nn.ReLU",
    },
    "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
}


@pytest.mark.parametrize("architecture", [None, PLAIN_UNET])
def test_regions_are_trained(
    make_trainer: MakeTrainer, architecture: dict[str, Any] | None
) -> None:
    """Sigmoid heads; ours start at the lesion prior, networks of others do not."""
    trainer = make_trainer(dataset_json=REGIONS)
    if architecture:
        trainer.configuration_manager.configuration["architecture"] = architecture
    trainer.initialize()

    assert trainer.triplanar_network.heads == "sigmoid"
    if not architecture:
        with torch.inference_mode():
            trainer.network.eval()
            probability = trainer.network(torch.randn(1, 3, 32, 32)).sigmoid().mean()
        assert probability.item() == pytest.approx(0.01, rel=0.3)
    trainer.run_training()


def test_second_training_of_a_fold_is_refused(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one trains or validates, another one of the same folder does not start."""
    trainer, other = make_trainer(), make_trainer()

    def start() -> None:
        with pytest.raises(ValueError, match="Only one training of a fold"):
            other.run_training()
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "on_train_start", start)

    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()


def test_divergence_stops_training_and_keeps_the_best(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate that goes through the roof: advice, and finite checkpoints."""
    monkeypatch.setattr("nnunet_cel.training.trainer.CHECKPOINT_EPOCHS", 1)
    trainer = make_trainer(max_epochs=9)
    start_of_epoch = trainer.on_train_epoch_start

    def too_fast() -> None:
        start_of_epoch()
        if trainer.current_epoch == 2:
            trainer.optimizer.param_groups[0]["lr"] = 1e38

    monkeypatch.setattr(trainer, "on_train_epoch_start", too_fast)
    with pytest.raises(FloatingPointError, match=r"'learning_rate'.*'batch_size'"):
        trainer.run_training()

    assert "Training has diverged" in Path(trainer.log_file).read_text()
    for name in ("best", "latest"):
        file = Path(trainer.output_folder, f"checkpoint_{name}.pth")
        checkpoint = torch.load(file, weights_only=False)
        assert checkpoint["current_epoch"] <= 2
        assert all(v.isfinite().all() for v in checkpoint["network_weights"].values())


def test_drawn_seed_is_kept_by_a_resumed_training(make_trainer: MakeTrainer) -> None:
    """Without a seed in the plans the checkpoint says which one was drawn."""
    trainer = make_trainer(seed=None)
    trainer.initialize()
    file = Path(trainer.output_folder, "checkpoint_latest.pth")
    trainer.save_checkpoint(str(file))
    resumed = make_trainer(seed=None)

    resumed.load_checkpoint(str(file))

    assert resumed._seed == trainer._seed


def test_training_from_scratch_puts_earlier_checkpoints_aside(
    make_trainer: MakeTrainer,
) -> None:
    """Killed and continued it would otherwise go on with those."""
    trainer = make_trainer()
    folder = Path(trainer.output_folder)
    for name in ("final", "best"):
        (folder / f"checkpoint_{name}.pth").write_text(name)

    trainer.on_train_start()

    assert not list(folder.glob("checkpoint_*"))
    aside = sorted(path.name for path in folder.glob("earlier_*/*"))
    assert aside == ["checkpoint_best.pth", "checkpoint_final.pth"]


def test_incomplete_data_are_not_split(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """The split is nnU-Net's, made when all cases are there."""
    trainer = make_trainer(fold=1)
    trainer.preprocessed_dataset_folder_base = str(tmp_path)
    trainer.initialize()
    trainer.dataset_json["numTraining"] = 6
    with pytest.raises(ValueError, match=r"must have all 6 training cases.*Got 5"):
        trainer.do_split()
    assert not (tmp_path / "splits_final.json").exists()
    trainer.dataset_json["numTraining"] = 5

    training, validation = trainer.do_split()

    stock = generate_crossval_split([f"case_{i:02d}" for i in range(5)])[1]
    assert (training, validation) == (stock["train"], stock["val"])


@pytest.mark.parametrize("ending", ["_seg.b2nd", ".pkl"])
def test_half_preprocessed_case_is_named(
    tiny_dataset: Path, tmp_path: Path, ending: str
) -> None:
    """Preprocessing that was killed is found out before training."""
    folder = tmp_path / "cases"
    shutil.copytree(tiny_dataset / "FCADensePlans_2d", folder)
    file = folder / f"case_01{ending}"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])

    with pytest.raises(ValueError, match=r"files of case_01 in .* Preprocess the data"):
        index_slices(nnUNetDatasetBlosc2(str(folder)), [1], progress=False)


def test_checkpointed_training_equals_plain_training(make_trainer: MakeTrainer) -> None:
    """Gradient checkpointing gives the same weights after two epochs."""
    plain = make_trainer()
    plain.initialize()
    recomputing = make_trainer(network={"gradient_checkpointing": True})
    recomputing.initialize()
    recomputing.triplanar_network.load_state_dict(weights(plain))

    plain.run_training()
    recomputing.run_training()

    torch.testing.assert_close(weights(recomputing), weights(plain), rtol=0, atol=0)


def test_only_the_slice_network_is_compiled(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nnU-Net compiles, the slice network is compiled, keys stay as they are."""
    monkeypatch.setattr(
        "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer._do_i_compile",
        lambda self: True,
    )
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    trainer = make_trainer()
    trainer.initialize()

    assert isinstance(trainer.network, TriplanarNetwork)
    assert compiled == [trainer.triplanar_network.network]

    compiled.clear()
    make_trainer(network={"gradient_checkpointing": True}).initialize()
    assert compiled == []


HYBRID = {
    "position_extent": 64,
    "backbone_layers": [1, 1],
    "backbone_features": [128, 128],
    "embedding": 8,
    "depth": 1,
    "num_heads": 1,
    "bridge_features": 8,
    "decoder_features": [8, 8, 4],
}


def test_training_from_scratch_starts_from_the_pretrained_file(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """--c, -pretrained_weights and predictions do not need the file any more."""
    file = tmp_path / "gone.pth"

    def hybrid() -> FCADenseTrainer:
        trainer = make_trainer()
        trainer.configuration_manager.configuration["architecture"] = {
            "network_class_name": "nnunet_cel.networks.TransUNet",
            "arch_kwargs": HYBRID | {"pretrained_file": str(file)},
            "_kw_requires_import": [],
        }
        return trainer

    trainer = hybrid()
    trainer.initialize()  # as nnU-Net does before it loads weights
    before = weights(trainer)

    trainer.on_train_start()

    torch.testing.assert_close(weights(trainer), before, rtol=0, atol=0)
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        hybrid().run_training()


DISTRIBUTED = """
import json, sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as host
from nnunet_cel.settings import BLOCK
from nnunet_cel.training.trainer import FCADenseTrainer

rank, store, folder, block, network = sys.argv[1:]
distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=int(rank), world_size=2
)
# what needs GPUs: nnU-Net's choice of device, SyncBatchNorm, DDP's device
host.torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda network: network
parallel = torch.nn.parallel.DistributedDataParallel
host.DDP = lambda network, device_ids: parallel(network)
host.nnUNetTrainer._save_debug_information = lambda self: None
host.MetaLogger.plot_progress_png = lambda self, folder: None

folder = Path(folder)
plans = json.loads((folder / "FCADensePlans.json").read_text())
plans["continue_training"] = False
entry = plans["configurations"]["2d"]
entry["batch_size"] = 4
entry[BLOCK] |= json.loads(block)
entry["architecture"]["arch_kwargs"] |= json.loads(network)
trainer = FCADenseTrainer(
    plans, "2d", 0, json.loads((folder / "dataset.json").read_text())
)
trainer.device, trainer.grad_scaler = torch.device("cpu"), None
samples = []
step = trainer.train_step

def remember(batch):
    samples.append(batch["data"].sum().item())
    return step(batch)

trainer.train_step = remember
trainer.run_training()
state = trainer.triplanar_network.state_dict()
print("RESULT", json.dumps({
    "epochs": len(trainer.logger.get_value("train_losses", None)),
    "dice": [float(d) for d in trainer.logger.get_value("mean_fg_dice", None)],
    "batch": trainer.batch_size,
    "samples": samples,
    "weights": float(sum(p.double().abs().sum() for p in trainer.network.parameters())),
    "log": str(trainer.output_folder),
}))
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    """Different samples, same weights, same decision to stop; rank 0 writes."""
    block = SHORT | {"max_epochs": 20, "patience": 2, "learning_rate": 1e-6}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                DISTRIBUTED,
                str(rank),
                str(tmp_path / "store"),
                str(tiny_dataset),
                json.dumps(block),
                json.dumps(SMALL_NETWORK | {"dropout": 0.0}),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"nnUNet_n_proc_DA": "0"},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    first, second = (
        json.loads(output.split("RESULT ")[1].splitlines()[0]) for output in outputs
    )

    assert first["batch"] == second["batch"] == 2
    assert set(first["samples"]).isdisjoint(second["samples"])
    assert first["epochs"] == second["epochs"] < 20
    assert first["dice"] == second["dice"]
    assert first["weights"] == pytest.approx(second["weights"], rel=1e-6)
    assert Path(first["log"], "checkpoint_final.pth").is_file()


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("64", 2), ("x", 2)])
def test_threads_are_no_more_than_allowed(
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    expected: int,
) -> None:
    """OMP_NUM_THREADS lowers the number of torch's threads and never raises it."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    trainer = make_trainer()
    try:
        torch.set_num_threads(2)

        trainer.initialize()

        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
