"""The trainer that ``nnUNetv2_train ... -tr FCADenseTrainer`` runs.

It overrides nnU-Net's hooks where the paper differs (Huang et al. 2024, section
"Hyperparameter settings"): network, loss, Adam, sampling of slices, early stopping. All
numbers come from the settings of the configuration (`nnunet_cel.settings`).
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import (
    ConfigurationManager,
    PlansManager,
)
from torch import distributed, nn
from torch.utils.data import DataLoader

from nnunet_cel.files import locked, write_whole
from nnunet_cel.networks import SliceNetwork, TriplanarNetwork
from nnunet_cel.networks.allocator import freed_memory_kept
from nnunet_cel.planning.lifting import lift_plans
from nnunet_cel.settings import Settings
from nnunet_cel.training.loader import StackBatches, advice_on_lost_workers
from nnunet_cel.training.losses import build_loss
from nnunet_cel.training.pool import (
    StackRequest,
    draw_requests,
    fixed_batches,
    index_slices,
    lesion_labels,
)

__all__ = ["FCADenseTrainer"]

CHECKPOINT_EPOCHS = 10
CHECKPOINT_SECONDS = 600.0


class _EarlyStop(Exception):  # noqa: N818  no error: training is finished
    """Leaves nnU-Net's loop over the epochs."""


class FCADenseTrainer(nnUNetTrainer):
    """Train FCA-DenseNet, or any network of the plans, on stacks of three planes.

    Works on plans of `FCADensePlanner` and on plans of stock nnU-Net, which it lifts in
    its own copy (`nnunet_cel.planning.lifting`). The arguments are nnU-Net's.

    Raises:
        ValueError: If configuration, settings or network are not what they must be.
        RuntimeError: If nnUNet_results is not set.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int | str,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        plans, self.settings = lift_plans(
            plans, configuration, dataset_json, preprocessed=nnUNet_preprocessed.get()
        )
        nnUNet_results.require()  # nnU-Net would fail later, without naming it
        super().__init__(plans, configuration, fold, dataset_json, device)
        extent: int = self.configuration_manager.patch_size[0]
        self.window = self.settings.training_window or extent
        self.enable_deep_supervision = False
        self.initial_lr = self.settings.learning_rate
        self.weight_decay = 0.0
        self.num_epochs = self.settings.max_epochs
        self.oversample_foreground_percent = self.settings.oversample_foreground_percent
        # nnU-Net saves the latest epoch before it knows whether that was the best;
        # _save_latest does it afterwards, so that a resumed training has both
        self.save_every = self.num_epochs + 1
        self._last_checkpoint = time.monotonic()
        self._is_resumed = False

    # --- network, loss, optimizer ----------------------------------------------------

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network that the plans name, wrapped for volumes.

        The arguments are nnU-Net's; all networks have one output.
        """
        # nnU-Net's commands take a thread for every core with -device cpu, also where a
        # scheduler gives fewer to the process
        limit = os.environ.get("OMP_NUM_THREADS", "")
        if limit.isdecimal() and int(limit) > 0:
            torch.set_num_threads(min(int(limit), torch.get_num_threads()))
        settings = Settings.from_configuration(configuration_manager.configuration)
        network = get_network_from_plans(
            configuration_manager.network_arch_class_name,
            configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels * settings.stack_size,
            num_output_channels,
        )
        if isinstance(network, SliceNetwork):
            network.reset_parameters(heads=settings.heads)
        return TriplanarNetwork(
            network,
            neighbor_pairs=settings.neighbor_pairs,
            heads=settings.heads,
            input_channels=num_input_channels,
            slice_batch_size=settings.slice_batch_size,
            cpu_bfloat16=settings.cpu_bfloat16,
        )

    @property
    def triplanar_network(self) -> TriplanarNetwork:
        """The network without the wrapper of distributed training."""
        network = self.network.module if self.is_ddp else self.network
        assert isinstance(network, TriplanarNetwork)
        return network

    def initialize(self) -> None:
        """Build network, optimizer and loss; compile where nnU-Net would."""
        seed = self.settings.seed
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
            self.print_to_log_file(f"Seed of this training: {seed}")
        self._seed = seed
        # checkpoints hold these, so that a resumed training goes on with its seed
        self.my_init_kwargs["seed"] = seed
        torch.manual_seed(seed)  # of the initial weights
        super().initialize()
        self.inference_allowed_mirroring_axes = (
            (0, 1, 2) if self.settings.test_time_mirroring else None
        )
        slice_network = self.triplanar_network.network
        recomputes = any(  # which torch.compile cannot be combined with
            getattr(module, "gradient_checkpointing", False)
            for module in slice_network.modules()
        )
        if super()._do_i_compile() and not recomputes:
            self.print_to_log_file("Using torch.compile for the slice network...")
            slice_network.compile()

    def _do_i_compile(self) -> bool:
        """Tell nnU-Net to compile nothing: `initialize` compiles the slice network."""
        return False

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: there is one output."""

    def _build_loss(self) -> nn.Module:
        ignore_label = self.label_manager.ignore_label
        return build_loss(self.settings, ignore_label=ignore_label, ddp=self.is_ddp)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return Adam and a schedule that keeps its learning rate (paper)."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.initial_lr)
        constant = PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs, 0)
        return optimizer, constant

    # --- sampling --------------------------------------------------------------------

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return endless batches of stacks for training and online validation.

        Raises:
            ValueError: If no training case has a lesion.
        """
        dataset, validation_dataset = self.get_tr_and_val_datasets()
        labels = lesion_labels(self.label_manager)
        pool, validation_pool = (
            index_slices(each, labels, progress=self.local_rank == 0)
            for each in (dataset, validation_dataset)
        )
        if len(pool.lesion) == 0:
            raise ValueError(
                f"Fold {self.fold} must have a training case with a lesion (labels "
                f"{labels}). Got {len(pool.cases)} cases without any. Check labelsTr "
                "and splits_final.json."
            )
        if len(validation_pool.lesion) == 0:
            self.print_to_log_file(
                "No validation case has a lesion: online validation uses slices of the "
                "training cases instead."
            )
            validation_pool, validation_dataset = pool, dataset
        batch_size = self.configuration_manager.batch_size  # of all processes
        fixed = fixed_batches(
            validation_pool,
            self.settings.validation_iterations,
            batch_size=batch_size,
            rank=self.local_rank,
            world_size=distributed.get_world_size() if self.is_ddp else 1,
        )
        self.num_val_iterations_per_epoch = len(fixed)
        self.num_iterations_per_epoch = self.settings.iterations_per_epoch or -(
            -len(pool.lesion) // batch_size
        )
        self.print_to_log_file(
            f"{len(pool.lesion)} lesion-bearing slices in {len(pool.cases)} "
            f"training cases, {self.num_iterations_per_epoch} iterations per epoch; "
            f"{len(fixed)} validation batches."
        )
        draw = functools.partial(
            draw_requests,
            pool=pool,
            batch_size=self.batch_size,
            oversample_foreground_percent=self.oversample_foreground_percent,
            seed=self._seed,
            rank=self.local_rank,
        )
        workers = get_allowed_n_proc_DA()
        return (
            self._start_loader(
                dataset,
                draw,
                itertools.count(self.current_epoch * self.num_iterations_per_epoch),
                augmentation=self.settings.augmentation,
                num_workers=workers,
            ),
            self._start_loader(
                validation_dataset,
                fixed.__getitem__,
                itertools.cycle(range(len(fixed))),
                augmentation="none",
                num_workers=-(-workers // 2),
            ),
        )

    def _start_loader(
        self,
        dataset: Any,
        requests: Callable[[int], list[StackRequest]],
        numbers: Iterable[int],
        *,
        augmentation: str,
        num_workers: int,
    ) -> Iterator[dict[str, Any]]:
        batches = StackBatches(
            dataset,
            requests,
            labels=self.label_manager,
            augmentation=augmentation,
            window=self.window,
            neighbor_pairs=self.settings.neighbor_pairs,
        )
        # torch's loader rather than nnU-Net's: it keeps the order of the batches, hands
        # on the errors of its workers, and notices when one of them dies
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=numbers,
            num_workers=num_workers,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def do_split(self) -> Any:
        """Return training and validation cases, of a complete data set only.

        Raises:
            ValueError: If cases are missing when nnU-Net is to make the split.
        """
        folder = self.preprocessed_dataset_folder
        file = Path(self.preprocessed_dataset_folder_base, "splits_final.json")
        number = len(self.dataset_class.get_identifiers(folder))
        expected = self.dataset_json.get("numTraining", number)
        if number < expected and not file.is_file():
            raise ValueError(
                f"{folder} must have all {expected} training cases of dataset.json "
                f"when they are split into folds. Got {number}. Preprocess the data "
                "set again; it was probably interrupted."
            )
        return super().do_split()

    # --- schedule --------------------------------------------------------------------

    def run_training(self) -> None:
        """Train until the last epoch, or until there is no new best for too long.

        Raises:
            ValueError: If the fold is being trained already.
            RuntimeError: If a process that loads data is gone.
        """
        with self._lock(), advice_on_lost_workers(), freed_memory_kept(self.device):
            try:
                super().run_training()
            except _EarlyStop:
                self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, unless another process is at work on the fold."""
        with self._lock():
            super().perform_actual_validation(save_probabilities)

    def _lock(self) -> AbstractContextManager[None]:
        if self.local_rank != 0:  # rank 0 speaks for all
            return nullcontext()
        return locked(
            Path(self.output_folder, "training.lock"),
            "Only one training of a fold can run at a time. Got a second one for "
            f"{self.output_folder}, where another process is training or validating. "
            "Wait until it is done, or end it and continue with --c.",
        )

    def on_train_start(self) -> None:
        """Start as nnU-Net does; a training that had stopped early stays finished."""
        if not self.was_initialized:  # otherwise for --c or -pretrained_weights
            self.initialize()
            network = self.triplanar_network.network
            if isinstance(network, SliceNetwork):
                self.print_to_log_file(network.load_initial_weights())
        self._set_earlier_checkpoints_aside()
        super().on_train_start()
        self._stop_if_without_new_best()

    def on_epoch_start(self) -> None:
        """Seed dropout, so that a resumed epoch is the one that was interrupted."""
        super().on_epoch_start()
        key = (self._seed, self.local_rank, self.current_epoch)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log as nnU-Net does; stop before weights that are no numbers are saved.

        Where a gradient scaler skips steps, some losses may be no numbers, but not all.

        Raises:
            FloatingPointError: If training has diverged.
        """
        super().on_train_epoch_end(train_outputs)
        weights = self.triplanar_network.state_dict().values()
        learns = any(np.isfinite(output["loss"]) for output in train_outputs)
        if not learns or not all(bool(tensor.isfinite().all()) for tensor in weights):
            message = (
                "Training has diverged: losses and weights must be finite numbers, and "
                f"those of epoch {self.current_epoch} are not. Earlier checkpoints are "
                "kept. Train again with a lower 'learning_rate' in the plans, with a "
                "larger 'batch_size' or from pretrained weights, and look for images "
                "with extreme intensities."
            )
            self.print_to_log_file(message)
            raise FloatingPointError(message)

    def on_epoch_end(self) -> None:
        """Log and save as nnU-Net does, then stop early if it is time."""
        super().on_epoch_end()
        self._save_latest()
        self._stop_if_without_new_best()

    @property
    def epochs_without_new_best(self) -> int:
        """Epochs since the best moving Dice; until lesions are found, the best loss."""
        history = self.logger.get_value("ema_fg_dice", step=None)
        if not any(history):
            history = [-loss for loss in self.logger.get_value("val_losses", step=None)]
        return len(history) - 1 - int(np.argmax(history)) if history else 0

    def _stop_if_without_new_best(self) -> None:
        epochs = self.epochs_without_new_best
        if epochs >= self.settings.patience:
            self.print_to_log_file(f"Stopping early: {epochs} epochs without new best.")
            raise _EarlyStop

    def on_train_end(self) -> None:
        """Put the best weights back and save them as ``checkpoint_final.pth``."""
        best = Path(self.output_folder, "checkpoint_best.pth")
        if self.is_ddp:
            distributed.barrier()  # rank 0 may still be writing
        found_lesions = any(self.logger.get_value("ema_fg_dice", step=None))
        if found_lesions and best.is_file() and not self.disable_checkpointing:
            checkpoint = torch.load(best, map_location=self.device, weights_only=False)
            self.triplanar_network.load_state_dict(checkpoint["network_weights"])
            epoch = checkpoint["current_epoch"] - 1
            self.print_to_log_file(f"Restored the best weights, of epoch {epoch}.")
        else:
            self.print_to_log_file("Keeping the latest weights: none found lesions.")
        super().on_train_end()
        # ends their processes; nnU-Net knows its own loaders only
        self.dataloader_train = self.dataloader_val = None

    # --- checkpoints -----------------------------------------------------------------

    def _save_latest(self) -> None:
        waited = time.monotonic() - self._last_checkpoint >= CHECKPOINT_SECONDS
        is_due = waited or self.current_epoch % CHECKPOINT_EPOCHS == 0
        if is_due and self.current_epoch < self.num_epochs:
            # save_checkpoint stores the number of the next epoch, and on_epoch_end has
            # counted already (nnU-Net does the same at the end of the training)
            self.current_epoch -= 1
            self.save_checkpoint(str(Path(self.output_folder, "checkpoint_latest.pth")))
            self.current_epoch += 1
            self._last_checkpoint = time.monotonic()

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint whole or not at all, with CPU tensors.

        CPU tensors because ``-pretrained_weights`` loads checkpoints to where they were
        saved, which fails on machines without a GPU.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        buffer.seek(0)
        on_cpu = io.BytesIO()
        torch.save(torch.load(buffer, map_location="cpu", weights_only=False), on_cpu)
        write_whole(filename, on_cpu.getvalue())

    def _set_earlier_checkpoints_aside(self) -> None:
        """Keep those of another training: --c would go on with them, not with this."""
        folder = Path(self.output_folder)
        earlier = sorted(folder.glob("checkpoint_*.pth"))
        if self.local_rank != 0 or self._is_resumed or not earlier:
            return
        place = folder / f"earlier_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
        place.mkdir()
        for file in earlier:
            file.replace(place / file.name)
        self.print_to_log_file(f"Checkpoints of an earlier training are in {place} now")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load a checkpoint to resume from, with the seed of its training."""
        super().load_checkpoint(filename_or_checkpoint)
        self._is_resumed = True
        self._seed = self.my_init_kwargs.setdefault("seed", self._seed)
        # what nnU-Net stored may be older than the log beside it
        history = self.logger.get_value("ema_fg_dice", step=None)
        self._best_ema = max(history) if history else None
