"""The trainer: paper's settings, early stopping, exact resuming, several processes."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_trainer
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as host
from stock_workspace import SMALL
from torch import distributed, multiprocessing, nn

from nnunet_cel.networks import FCADenseNet, TriplanarNetwork
from nnunet_cel.planning.declarations import architecture
from nnunet_cel.settings import BLOCK
from nnunet_cel.training.losses import DiceLoss, FocalLoss
from nnunet_cel.training.trainer import FCADenseTrainer

# What a test does not name is the paper's, for a tiny network.
SHORT = {
    "max_epochs": 2,
    "iterations_per_epoch": 2,
    "validation_iterations": 2,
    "training_window": 32,
    "learning_rate": 1e-2,
}
LONGER = {"max_epochs": 8, "iterations_per_epoch": 12, "batch_size": 4}
REGIONS = {
    "channel_names": {"0": "FLAIR"},
    "labels": {"background": 0, "whole": [1, 2], "core": 1},
    "regions_class_order": [2, 1],
    "numTraining": 5,
    "file_ending": ".nii.gz",
}


@pytest.fixture(autouse=True)
def _folders(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process load the data."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


def make_trainer(**options: Any) -> FCADenseTrainer:
    """Return a trainer of the tiny data set with settings of the caller's choice."""
    dataset = Path(os.environ["nnUNet_preprocessed"], "Dataset501_Tiny")
    return tiny_trainer(dataset, **SHORT | options)


def weights(trainer: FCADenseTrainer) -> dict[str, torch.Tensor]:
    """Return a copy of the weights and buffers of a trainer's network."""
    return {k: v.clone() for k, v in trainer.triplanar_network.state_dict().items()}


def load(trainer: FCADenseTrainer, name: str) -> dict[str, Any]:
    """Return a checkpoint of a training."""
    file = Path(trainer.output_folder, f"checkpoint_{name}.pth")
    checkpoint: dict[str, Any] = torch.load(file, weights_only=False)
    return checkpoint


def test_settings_of_the_paper() -> None:
    """Adam 2e-4, constant; focal loss; windows as large as slices; no mirroring."""
    trainer = make_trainer(max_epochs=300, learning_rate=2e-4, training_window=None)
    trainer.initialize()

    assert isinstance(trainer.optimizer, torch.optim.Adam)
    for epoch in (0, 150, 299):
        trainer.lr_scheduler.step(epoch)
        assert trainer.optimizer.param_groups[0]["lr"] == 2e-4
    assert trainer.optimizer.defaults["betas"] == (0.9, 0.999)
    assert trainer.optimizer.defaults["weight_decay"] == 0
    assert isinstance(trainer.loss, FocalLoss)
    assert trainer.loss.settings == trainer.settings
    assert (trainer.num_epochs, trainer.window) == (300, 64)
    assert trainer.inference_allowed_mirroring_axes is None
    assert isinstance(trainer.triplanar_network.network, FCADenseNet)


def test_settings_decide() -> None:
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
    assert trainer.inference_allowed_mirroring_axes == (0, 1, 2)
    assert next(trainer.dataloader_train)["data"].shape == (16, 5, 32, 32)
    validation = next(trainer.dataloader_val)["target"]
    assert validation.flatten(1).any(dim=1).sum() == 8
    log = Path(trainer.log_file).read_text()
    slices = int(log.split(" lesion-bearing slices")[0].split()[-1])
    assert trainer.num_iterations_per_epoch == -(-slices // 16)
    assert "Initial weights: random." in log


def test_training_learns_and_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesions are found; interrupted after five of eight epochs, to the same bits."""
    trained = make_trainer(**LONGER)
    trained.run_training()

    folder = Path(trained.output_folder)
    assert max(trained.logger.get_value("mean_fg_dice", None)) > 0.5
    assert {file.name for file in folder.glob("*checkpoint*")} == {
        "checkpoint_best.pth",
        "checkpoint_final.pth",
    }
    saved = json.loads((folder.parent / "plans.json").read_text())
    assert saved["configurations"]["2d"][BLOCK]["heads"] == "softmax"

    monkeypatch.setattr("nnunet_cel.training.trainer.CHECKPOINT_EPOCHS", 4)
    interrupted, resumed = make_trainer(**LONGER), make_trainer(**LONGER)
    start_of_epoch = interrupted.on_epoch_start

    def power_cut() -> None:
        if interrupted.current_epoch == 5:
            raise KeyboardInterrupt
        start_of_epoch()

    monkeypatch.setattr(interrupted, "on_epoch_start", power_cut)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run_training()
    resumed.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    assert resumed.current_epoch == 4
    resumed.run_training()

    torch.testing.assert_close(weights(resumed), weights(trained), rtol=0, atol=0)
    for name in ("mean_fg_dice", "train_losses"):
        history = trained.logger.get_value(name, None)
        assert resumed.logger.get_value(name, None) == history


def test_stops_early_with_the_best_weights_and_stays_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Best at epoch 1, patience 2: stops after epoch 3, and --c trains no further."""
    trainer = make_trainer(max_epochs=50, patience=2)
    scripted = [0.1, 0.6, 0.0, 0.0, 0.9]  # means: 0.1, 0.15, 0.135, 0.1215
    seen: list[dict[str, torch.Tensor]] = []

    def validate(outputs: object) -> None:
        seen.append(weights(trainer))
        epoch = trainer.current_epoch
        trainer.logger.log("mean_fg_dice", scripted[epoch], epoch)
        trainer.logger.log("dice_per_class_or_region", [scripted[epoch]], epoch)
        trainer.logger.log("val_losses", 0.0, epoch)

    monkeypatch.setattr(trainer, "on_validation_epoch_end", validate)
    trainer.run_training()
    resumed = make_trainer(max_epochs=50, patience=2)
    resumed.load_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    resumed.run_training()

    assert len(seen) == len(resumed.logger.get_value("train_losses", None)) == 4
    for actual in (weights(trainer), load(trainer, "final")["network_weights"]):
        torch.testing.assert_close(actual, seen[1], rtol=0, atol=0)
    torch.testing.assert_close(weights(resumed), seen[1], rtol=0, atol=0)
    assert not Path(trainer.output_folder, "checkpoint_latest.pth").exists()


@pytest.mark.parametrize(
    ("dice", "losses", "epochs"),
    [
        ([0.0, 0.0, 0.0], [0.9, 0.5, 0.6], 1),
        ([0.0, 0.0, 0.0, 0.1, 0.2], [0.5, 0.6, 0.7, 0.7, 0.7], 0),
        ([0.0, 0.1, 0.2, 0.1], [0.9, 0.8, 0.7, 0.6], 1),
        ([], [], 0),
    ],
)
def test_slow_starters_are_not_stopped(
    dice: list[float], losses: list[float], epochs: int
) -> None:
    """Until lesions are found, the validation loss says whether a network learns."""
    trainer = make_trainer()
    history = {"ema_fg_dice": dice, "val_losses": losses}
    trainer.logger.load_checkpoint(trainer.logger.get_checkpoint() | history)

    assert trainer.epochs_without_new_best == epochs


def test_checkpoints_are_due_after_ten_epochs_or_ten_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Epochs 10 and 20 are saved; any other only if the last was 10 minutes ago."""
    trainer = make_trainer(max_epochs=30)
    saved: list[int] = []
    monkeypatch.setattr(
        trainer, "save_checkpoint", lambda file: saved.append(trainer.current_epoch + 1)
    )
    trainer._last_checkpoint = 0.0
    for epoch, seconds in ((9, 1), (10, 2), (11, 3), (12, 650), (13, 651), (30, 9e9)):
        monkeypatch.setattr("time.monotonic", lambda now=seconds: now)
        trainer.current_epoch = epoch
        trainer._save_latest()

    assert saved == [10, 12]


def test_training_without_any_lesion_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no training case has a lesion there is nothing to learn."""
    trainer = make_trainer()
    monkeypatch.setattr(trainer, "do_split", lambda: (["case_04"], ["case_00"]))

    with pytest.raises(ValueError, match="must have a training case with a lesion"):
        trainer.run_training()


def test_regions_are_trained() -> None:
    """With sigmoid heads that start at the lesion prior."""
    trainer = make_trainer(dataset_json=REGIONS)
    trainer.run_training()

    assert trainer.triplanar_network.heads == "sigmoid"
    assert trainer.loss.sigmoid


@pytest.mark.parametrize(
    "network", ["fcdensenet", "unet", "resunet", "attentionunet", "transunet"]
)
def test_networks_of_the_paper_are_trained_and_transferred(network: str) -> None:
    """Each of them learns, and hands all weights to a training on other windows."""
    entry = architecture(network)
    name = entry["network_class_name"].rpartition(".")[2]
    entry["arch_kwargs"] |= SMALL[name]
    first, second = make_trainer(max_epochs=1), make_trainer(training_window=16)
    for trainer in (first, second):
        trainer.configuration_manager.configuration["architecture"] = entry

    first.run_training()
    second.initialize()
    final = Path(first.output_folder, "checkpoint_final.pth")
    load_pretrained_weights(second.network, str(final))

    assert type(first.triplanar_network.network).__name__ == name
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=0)
    assert "Initial weights: random" in Path(first.log_file).read_text()


def test_second_training_of_a_fold_is_refused() -> None:
    """While one trains or validates, another one of the same folder does not start."""
    trainer, other = make_trainer(), make_trainer()

    for action in (other.run_training, other.perform_actual_validation):
        with trainer._lock(), pytest.raises(ValueError, match="Only one training of"):
            action()


def test_divergence_stops_training_and_keeps_the_best(
    monkeypatch: pytest.MonkeyPatch,
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
        checkpoint = load(trainer, name)
        assert checkpoint["current_epoch"] <= 2
        assert all(v.isfinite().all() for v in checkpoint["network_weights"].values())


def test_checkpoint_knows_seed_and_best() -> None:
    """The seed that was drawn, and the counter of early stopping, survive."""
    trainer = make_trainer(seed=None)
    trainer.initialize()
    history = {"ema_fg_dice": [0.2, 0.5, 0.4], "mean_fg_dice": [0.2, 0.5, 0.4]}
    trainer.logger.load_checkpoint(trainer.logger.get_checkpoint() | history)
    trainer._best_ema = 0.2  # what nnU-Net stores before it has compared
    file = Path(trainer.output_folder, "checkpoint_latest.pth")
    trainer.save_checkpoint(str(file))
    resumed = make_trainer(seed=None)

    resumed.load_checkpoint(str(file))

    assert resumed._seed == trainer._seed
    assert resumed._best_ema == 0.5
    assert resumed.epochs_without_new_best == 1


def test_training_from_scratch_puts_earlier_checkpoints_aside() -> None:
    """Killed and continued it would otherwise go on with those."""
    trainer = make_trainer()
    folder = Path(trainer.output_folder)
    for name in ("final", "best"):
        (folder / f"checkpoint_{name}.pth").write_text(name)

    trainer.on_train_start()

    assert not list(folder.glob("checkpoint_*"))
    aside = sorted(path.name for path in folder.glob("earlier_*/*"))
    assert aside == ["checkpoint_best.pth", "checkpoint_final.pth"]


def test_incomplete_data_are_not_split(tmp_path: Path) -> None:
    """The split is nnU-Net's, made when all cases are there."""
    trainer = make_trainer(fold=1)
    trainer.preprocessed_dataset_folder_base = str(tmp_path)
    trainer.initialize()
    trainer.dataset_json["numTraining"] = 6
    with pytest.raises(ValueError, match=r"must have all 6 training cases.*Got 5"):
        trainer.do_split()
    assert not (tmp_path / "splits_final.json").exists()
    trainer.dataset_json["numTraining"] = 5
    assert [len(cases) for cases in trainer.do_split()] == [4, 1]


def test_only_the_slice_network_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nnU-Net compiles, the slice network is compiled, keys stay as they are."""
    monkeypatch.setattr(host.nnUNetTrainer, "_do_i_compile", lambda self: True)
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    trainer = make_trainer()
    trainer.initialize()

    assert isinstance(trainer.network, TriplanarNetwork)
    assert compiled == [trainer.triplanar_network.network]

    compiled.clear()
    make_trainer(network={"gradient_checkpointing": True}).initialize()
    assert compiled == []


def train_distributed(rank: int, folder: Path) -> None:
    """Train as one of two processes and write down how it went."""
    group = {"init_method": f"file://{folder}/store", "rank": rank, "world_size": 2}
    distributed.init_process_group("gloo", timeout=timedelta(minutes=2), **group)
    # what needs GPUs: nnU-Net's choice of device, SyncBatchNorm, DDP's device
    host.torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda network: network
    parallel = nn.parallel.DistributedDataParallel
    host.DDP = lambda network, device_ids: parallel(network)
    host.nnUNetTrainer._save_debug_information = lambda self: None
    options = {"max_epochs": 20, "patience": 2, "learning_rate": 1e-6, "batch_size": 4}
    trainer = make_trainer(network={"dropout": 0.0}, **options)
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    samples: list[float] = []
    step = trainer.train_step

    def remember(batch: dict[str, Any]) -> Any:
        samples.append(batch["data"].sum().item())
        return step(batch)

    trainer.train_step = remember  # type: ignore[method-assign]  # listens in
    trainer.run_training()
    result = {
        "dice": [float(d) for d in trainer.logger.get_value("mean_fg_dice", None)],
        "batch": trainer.batch_size,
        "samples": samples,
        "weights": weights(trainer),
    }
    torch.save(result, folder / f"rank{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.campaign
def test_two_processes(tmp_path: Path) -> None:
    """Different samples, same weights, same decision to stop; rank 0 writes."""
    multiprocessing.spawn(train_distributed, args=(tmp_path,), nprocs=2)

    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert first["batch"] == second["batch"] == 2
    assert set(first["samples"]).isdisjoint(second["samples"])
    assert first["dice"] == second["dice"]
    assert len(first["dice"]) < 20
    for name, tensor in first["weights"].items():
        if "running" not in name:  # statistics of batches, each its own
            torch.testing.assert_close(tensor, second["weights"][name])
    assert len(list(tmp_path.glob("results/**/checkpoint_final.pth"))) == 1


def test_threads_are_no_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS lowers the number of torch's threads and never raises it."""
    before = torch.get_num_threads()
    try:
        for limit, expected in (("64", 2), ("x", 2), ("1", 1)):
            torch.set_num_threads(2)
            monkeypatch.setenv("OMP_NUM_THREADS", limit)
            make_trainer().initialize()
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
