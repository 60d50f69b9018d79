"""The trainer that ``nnUNetv2_train ... -tr FCADenseTrainer`` runs.

It overrides nnU-Net's hooks where the paper differs (Huang et al. 2024, section
"Hyperparameter settings"): network, loss, Adam, sampling of slices, early stopping. All
numbers come from the settings of the configuration (`nnunet_cel.settings`).
"""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import pickle
import pydoc
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.data_augmentation.compute_initial_patch_size import (
    get_patch_size,
)
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import (
    ConfigurationManager,
    PlansManager,
)
from torch import distributed, nn

from nnunet_cel.files import write_whole
from nnunet_cel.networks import SliceNetwork, TriplanarNetwork
from nnunet_cel.networks.allocator import freed_memory_kept
from nnunet_cel.settings import Settings
from nnunet_cel.training.augmentation import (
    IN_PLANE_AXES,
    paper_transforms,
    rotation_margin,
)
from nnunet_cel.training.lifting import lift_plans
from nnunet_cel.training.loader import (
    StackBatches,
    advice_on_lost_workers,
    batch_iterator,
)
from nnunet_cel.training.lock import lock_folder
from nnunet_cel.training.losses import build_loss
from nnunet_cel.training.pool import (
    SlicePool,
    StackRequest,
    draw_requests,
    fixed_requests,
    index_slices,
)
from nnunet_cel.training.watch import error_if_process_dies

__all__ = ["FCADenseTrainer"]

CHECKPOINTS = ("final", "latest", "best")
PARTIAL = ".partial"
CHECKPOINT_EPOCHS = 10
CHECKPOINT_SECONDS = 600.0

# Losses that are no numbers in a row before training stops, where the gradient scaler
# skips such steps. Where there is none the first one has spoiled the weights.
SKIPPED_STEPS = 10

# Epochs without any lesion found after which the log says so.
COLLAPSED_EPOCHS = 20

# Seconds after which a training looks whether its folder is still there.
LOOK_SECONDS = 20.0

# What torch.load and nnU-Net raise for a file that is no checkpoint, or half of one.
_UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class _EarlyStop(Exception):  # noqa: N818  no error: training is finished
    """Leaves nnU-Net's loop over the epochs."""


def _keep_to_thread_limit() -> None:
    """Let torch use no more threads than OMP_NUM_THREADS says, where it is set.

    nnU-Net's commands take a thread for every core of a machine with ``-device cpu``,
    also where a cluster's scheduler, or another training, has some of the cores.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and 0 < int(limit) < torch.get_num_threads():
        torch.set_num_threads(int(limit))


class FCADenseTrainer(nnUNetTrainer):
    """Train FCA-DenseNet, or any network of the plans, on stacks of three planes.

    Works on plans of `FCADensePlanner` and on plans of stock nnU-Net, which it lifts in
    its own copy (`nnunet_cel.training.lifting`). The arguments are nnU-Net's.

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
        plans = lift_plans(
            plans, configuration, dataset_json, preprocessed=nnUNet_preprocessed.get()
        )
        nnUNet_results.require()  # nnU-Net would fail later, without naming it
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = Settings.from_configuration(
            self.configuration_manager.configuration, name=configuration
        )
        self.window = self._training_window()
        self.enable_deep_supervision = False
        self.initial_lr = self.settings.learning_rate
        self.weight_decay = 0.0
        self.num_epochs = self.settings.max_epochs
        self.oversample_foreground_percent = self.settings.oversample_foreground_percent
        # nnU-Net saves the latest epoch before it knows whether that was the best;
        # _save_latest does it afterwards, so that a resumed training has both
        self.save_every = self.num_epochs + 1
        self._last_checkpoint = time.monotonic()
        self._last_look = time.monotonic()
        self._is_resumed = False
        self._lost_steps = 0

    # --- network -------------------------------------------------------------------

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network that the plans name, wrapped for volumes.

        Args:
            plans_manager: Plans.
            configuration_manager: Configuration.
            num_input_channels: Channels of the images, ``C``.
            num_output_channels: Segmentation heads, ``K``.
            enable_deep_supervision: Ignored: the networks have one output.
        """
        _keep_to_thread_limit()
        settings = Settings.from_configuration(configuration_manager.configuration)
        class_name = configuration_manager.network_arch_class_name
        if not isinstance(pydoc.locate(class_name), type):
            raise ValueError(
                "The 'network_class_name' of a configuration's 'architecture' must be "
                f"the import path of a network. Got {class_name!r}, which is no class "
                "that can be imported. Correct the plans file."
            )
        try:
            network = get_network_from_plans(
                class_name,
                configuration_manager.network_arch_init_kwargs,
                configuration_manager.network_arch_init_kwargs_req_import,
                num_input_channels * settings.stack_size,
                num_output_channels,
            )
        except (TypeError, KeyError) as error:
            raise ValueError(
                "The 'arch_kwargs' of a configuration's 'architecture' must be what "
                f"{class_name} takes. It says: {error}. Correct the plans file."
            ) from error
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
        """Build network, optimizer and loss; compile where nnU-Net would.

        Raises:
            ValueError: If the network cannot take slices of the training window or of
                the patch size.
        """
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
        for edge in (self.window, self.configuration_manager.patch_size[0]):
            self._refuse_window_that_does_not_fit(edge)
        slice_network = self.triplanar_network.network
        recomputes = any(
            getattr(module, "gradient_checkpointing", False)
            for module in slice_network.modules()
        )
        if super()._do_i_compile():
            if recomputes:
                self.print_to_log_file(
                    "torch.compile is off: it cannot be combined with the gradient "
                    "checkpointing that these plans ask for."
                )
            else:
                self.print_to_log_file("Using torch.compile for the slice network...")
                slice_network.compile()

    def _load_initial_weights(self) -> None:
        """Let the network load what a training from scratch starts from.

        nnU-Net initializes a trainer before it loads a checkpoint or pretrained weights
        into it, and leaves a training from scratch to initialize itself. All processes
        of a distributed training load the same file.
        """
        if self.was_initialized:
            self.print_to_log_file(
                "Initial weights: those that the network had when training started "
                "(--c or -pretrained_weights)."
            )
            return
        self.initialize()
        slice_network = self.triplanar_network.network
        if isinstance(slice_network, SliceNetwork):
            self.print_to_log_file(slice_network.load_initial_weights())

    def _do_i_compile(self) -> bool:
        """Tell nnU-Net to compile nothing: `initialize` compiles the slice network."""
        return False

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: the networks have one output."""

    def _training_window(self) -> int:
        extent: int = self.configuration_manager.patch_size[0]
        window = self.settings.training_window or extent
        if window > extent:
            raise ValueError(
                f"The 'training_window' setting of configuration "
                f"{self.configuration_name!r} must be at most the patch size, {extent} "
                f"voxels. Got {window} instead."
            )
        return window

    def _refuse_window_that_does_not_fit(self, edge: int) -> None:
        # the meta device runs shapes only: no memory, no time
        network = deepcopy(self.triplanar_network.network).to("meta").eval()
        stack = torch.zeros(
            (1, self.num_input_channels * self.settings.stack_size, edge, edge),
            device="meta",
        )
        try:
            with torch.no_grad():
                shape = network(stack).shape[2:]
            if shape != stack.shape[2:]:
                raise ValueError(f"its output has {tuple(shape)} voxels")
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"Configuration {self.configuration_name!r} must use slices that its "
                f"network can take. Got {edge} x {edge} voxels ('training_window' or "
                f"'patch_size'), and {type(network).__name__} says: {error}. Choose a "
                "multiple of 32."
            ) from error

    def _build_loss(self) -> nn.Module:
        return build_loss(
            self.settings, ignore_label=self.label_manager.ignore_label, ddp=self.is_ddp
        )

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return Adam and a schedule that keeps its learning rate (paper)."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.initial_lr)
        constant = PolyLRScheduler(
            optimizer, self.initial_lr, self.num_epochs, exponent=0
        )
        return optimizer, constant

    # --- data ----------------------------------------------------------------------

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return endless batches of stacks for training and online validation.

        Raises:
            ValueError: If no training case has a lesion.
        """
        dataset_tr, dataset_val = self.get_tr_and_val_datasets()
        lesion_labels = self._lesion_labels()
        progress = self.local_rank == 0
        pool = index_slices(dataset_tr, lesion_labels, progress=progress)
        if pool.num_lesion_slices == 0:
            raise ValueError(
                f"Fold {self.fold} must have a training case with a lesion (labels "
                f"{lesion_labels}). Got {len(pool.cases)} cases without any. Check "
                "labelsTr and splits_final.json."
            )
        validation_pool = index_slices(dataset_val, lesion_labels, progress=progress)
        if validation_pool.num_lesion_slices == 0:
            self.print_to_log_file(
                "No validation case has a lesion: online validation uses slices of the "
                "training cases instead."
            )
            validation_pool, dataset_val = pool, dataset_tr

        world_size = distributed.get_world_size() if self.is_ddp else 1
        global_batch_size = self.configuration_manager.batch_size
        self.num_iterations_per_epoch = (
            self.settings.iterations_per_epoch or pool.iterations(global_batch_size)
        )
        validation_batches = self._validation_batches(
            validation_pool, global_batch_size, world_size
        )
        self.num_val_iterations_per_epoch = len(validation_batches)
        self.print_to_log_file(
            f"{pool.num_lesion_slices} lesion-bearing slices in {len(pool.cases)} "
            f"training cases, {self.num_iterations_per_epoch} iterations per epoch; "
            f"{len(validation_batches)} validation batches."
        )

        draw = functools.partial(
            draw_requests,
            pool=pool,
            batch_size=self.batch_size,
            oversample_foreground_percent=self.oversample_foreground_percent,
            seed=self._seed,
            rank=self.local_rank,
        )
        plain = self._label_transforms()
        transforms, margin = self._augmentation(plain)
        workers = get_allowed_n_proc_DA()
        return (
            self._start_loader(
                dataset_tr,
                draw,
                workers,
                transforms=transforms,
                plain_transforms=plain,
                margin=margin,
                first_batch=self.current_epoch * self.num_iterations_per_epoch,
            ),
            self._start_loader(
                dataset_val,
                functools.partial(_cycle, validation_batches),
                max(1, workers // 2) if workers else 0,
                transforms=plain,
                plain_transforms=plain,
            ),
        )

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return training and validation cases, from a file that is always whole.

        nnU-Net's own way of writing ``splits_final.json`` could leave half a file.

        Raises:
            ValueError: If the file cannot be read, or cases are missing that it would
                list.
        """
        file = Path(self.preprocessed_dataset_folder_base, "splits_final.json")
        if self.fold != "all" and not file.is_file():
            folder = self.preprocessed_dataset_folder
            dataset_class = self.dataset_class or infer_dataset_class(folder)
            cases = dataset_class.get_identifiers(folder)
            expected = self.dataset_json.get("numTraining", len(cases))
            if len(cases) < expected:
                raise ValueError(
                    f"{folder} must have all {expected} training cases ('numTraining' "
                    f"in dataset.json) when they are split into folds. Got "
                    f"{len(cases)}. Preprocess the data set again; it was probably "
                    "interrupted."
                )
            splits = generate_crossval_split(sorted(cases), seed=12345, n_splits=5)
            write_whole(file, json.dumps(splits, indent=4))
        try:
            training, validation = super().do_split()
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} must list the cases of every fold. Reading it failed: "
                f"{error!r}. Restore it. If it was not yours, remove it: nnU-Net's own "
                "split is always the same."
            ) from error
        return training, validation

    def _lesion_labels(self) -> list[int]:
        return [int(label) for label in self.label_manager.all_labels if label != 0]

    def _validation_batches(
        self, pool: SlicePool, global_batch_size: int, world_size: int
    ) -> list[list[StackRequest]]:
        """Return this process's share of every validation batch."""
        requests = fixed_requests(
            pool, self.settings.validation_iterations * global_batch_size
        )
        batches = [
            requests[start : start + global_batch_size]
            for start in range(0, len(requests), global_batch_size)
        ]
        # a process without a share of the last batch would hang the others
        return [batch[self.local_rank :: world_size] or batch[:1] for batch in batches]

    def _label_transforms(self) -> BasicTransform:
        return self.get_validation_transforms(
            None,
            regions=self._regions(),
            ignore_label=self.label_manager.ignore_label,
        )

    def _regions(self) -> Any:
        manager = self.label_manager
        return manager.foreground_regions if manager.has_regions else None

    def _augmentation(self, plain: BasicTransform) -> tuple[BasicTransform, int]:
        """Return the training transforms and the margin that they want."""
        if self.settings.augmentation == "paper":
            return paper_transforms(self.window, plain), rotation_margin(self.window)
        rotation = (-np.pi, np.pi)  # nnU-Net's for square 2D patches
        patch_size = (self.window, self.window)
        larger = get_patch_size(patch_size, rotation, rotation, rotation, (0.85, 1.25))
        margin = -(-int(max(larger) - self.window) // 2)
        transforms = self.get_training_transforms(
            patch_size,
            rotation,
            None,
            IN_PLANE_AXES,
            do_dummy_2d_data_aug=False,
            use_mask_for_norm=None,
            regions=self._regions(),
            ignore_label=self.label_manager.ignore_label,
        )
        return transforms, margin

    def _start_loader(
        self,
        dataset: Any,
        requests: Any,
        workers: int,
        *,
        first_batch: int = 0,
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        batches = StackBatches(
            dataset,
            requests,
            window=self.window,
            neighbor_pairs=self.settings.neighbor_pairs,
            lesion_labels=self._lesion_labels(),
            num_regions=len(self._regions() or ()),
            **kwargs,
        )
        return batch_iterator(
            batches,
            first_batch=first_batch,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
        )

    # --- schedule ------------------------------------------------------------------

    def run_training(self) -> None:
        """Train until the last epoch, or until there is no new best for too long.

        Raises:
            RuntimeError: If the fold is being trained already, or a process that loads
                data is gone.
            FloatingPointError: If the loss or the weights are no numbers any more.
            OSError: If the disk is full or the output folder is gone.
        """
        try:
            with self._locked_output_folder(), advice_on_lost_workers():
                self._train()
        except OSError as error:
            self._refuse_removed_folder()
            if error.errno not in _DISK_ERRORS:
                raise
            raise OSError(
                error.errno,
                f"Training must be able to write to {self.output_folder}. Got: "
                f"{error}. The checkpoints there are whole. Free or mount the disk, "
                "then continue with --c.",
            ) from error

    def _train(self) -> None:
        with freed_memory_kept(self.device):
            try:
                super().run_training()
            except _EarlyStop:
                self.on_train_end()

    def _locked_output_folder(self) -> AbstractContextManager[None]:
        """Refuse a fold that another process trains; rank 0 speaks for all."""
        return lock_folder(self.output_folder if self.local_rank == 0 else None)

    def _refuse_removed_folder(self) -> None:
        self._last_look = time.monotonic()
        # of a distributed training on several machines, rank 0's is the one that counts
        if self.local_rank == 0 and not Path(self.output_folder).is_dir():
            raise FileNotFoundError(
                "The output folder of a training must stay where it is. Got "
                f"{self.output_folder}, which is gone, with its checkpoints. Put it "
                "back and continue with --c, or start the training again."
            )

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, unless another process is at work on the fold.

        Args:
            save_probabilities: Whether to save probabilities beside label maps.

        Raises:
            RuntimeError: If the fold is being trained or validated already, or a
                process that writes predictions dies.
        """
        advice = (
            "The processes that write the predictions of the validation must be able "
            "to run. Got one that was killed or crashed; memory was probably short. "
            "Let fewer run (environment variable nnUNet_def_n_proc), then validate "
            "again with --val."
        )
        with self._locked_output_folder(), error_if_process_dies(advice):
            super().perform_actual_validation(save_probabilities)

    def on_train_start(self) -> None:
        """Start as nnU-Net does; a training that had stopped early stays finished."""
        self._load_initial_weights()
        self._clear_output_folder()
        super().on_train_start()
        self._stop_if_without_new_best()

    def on_epoch_start(self) -> None:
        """Seed dropout, so that a resumed epoch is the one that was interrupted."""
        self._refuse_removed_folder()
        super().on_epoch_start()
        torch.manual_seed(
            int(
                np.random.SeedSequence(
                    (self._seed, self.local_rank, self.current_epoch)
                ).generate_state(1)[0]
            )
        )

    def on_epoch_end(self) -> None:
        """Log and save as nnU-Net does, then stop early if it is time."""
        super().on_epoch_end()
        self._save_latest()
        self._stop_if_without_new_best()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take a step as nnU-Net does, and stop if the loss is no number.

        Args:
            batch: Batch of the loader.

        Raises:
            FloatingPointError: If training has diverged.
        """
        if time.monotonic() - self._last_look > LOOK_SECONDS:
            self._refuse_removed_folder()
        result: dict[str, Any] = super().train_step(batch)
        self._lost_steps = 0 if np.isfinite(result["loss"]) else self._lost_steps + 1
        if self._lost_steps >= (1 if self.grad_scaler is None else SKIPPED_STEPS):
            self._stop_diverged("the training loss")
        return result

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log as nnU-Net does; stop before weights that are no numbers are saved.

        Args:
            val_outputs: What the validation steps returned.

        Raises:
            FloatingPointError: If training has diverged.
        """
        super().on_validation_epoch_end(val_outputs)
        if not np.isfinite(self.logger.get_value("val_losses", step=-1)):
            state = self.triplanar_network.state_dict().values()
            if not all(bool(torch.isfinite(tensor).all()) for tensor in state):
                self._stop_diverged("the weights")
        history = self.logger.get_value("mean_fg_dice", step=None)
        found = [epoch for epoch, dice in enumerate(history) if dice > 0]
        if len(history) - 1 - (found[-1] if found else -1) == COLLAPSED_EPOCHS:
            self.print_to_log_file(
                f"WARNING: No lesion was found in the validation slices of the last "
                f"{COLLAPSED_EPOCHS} epochs: the network may have collapsed to "
                "background. Check labels and intensities, or train with a lower "
                "'learning_rate', another 'loss' or from pretrained weights."
            )

    def _stop_diverged(self, what: str) -> None:
        message = (
            f"Training has diverged: {what} of fold {self.fold} must be finite numbers "
            f"and are not, in epoch {self.current_epoch}. Checkpoints of earlier "
            "epochs are kept. Train again with a lower 'learning_rate' "
            f"({self.settings.learning_rate:g} now) in the plans, with larger batches "
            "('batch_size') or from pretrained weights, and look for images with "
            "extreme intensities."
        )
        self.print_to_log_file(message)
        raise FloatingPointError(message)

    @property
    def epochs_without_new_best(self) -> int:
        """Epochs since the moving average of the validation Dice was at its best."""
        history = self.logger.get_value("ema_fg_dice", step=None)
        return len(history) - 1 - int(np.argmax(history)) if history else 0

    def _stop_if_without_new_best(self) -> None:
        if self.epochs_without_new_best >= self.settings.patience:
            self.print_to_log_file(
                f"Stopping early: {self.epochs_without_new_best} epochs without a new "
                "best."
            )
            raise _EarlyStop

    def on_train_end(self) -> None:
        """Put the best weights back and save them as ``checkpoint_final.pth``."""
        self._restore_best_weights()
        super().on_train_end()
        # ends their processes; nnU-Net knows its own loaders only
        self.dataloader_train = self.dataloader_val = None

    def _restore_best_weights(self) -> None:
        best = Path(self.output_folder, "checkpoint_best.pth")
        if self.is_ddp:
            distributed.barrier()  # rank 0 may still be writing
        history = self.logger.get_value("ema_fg_dice", step=None)
        if self.disable_checkpointing or not best.is_file() or not any(history):
            self.print_to_log_file(
                "Keeping the latest weights: there is no checkpoint of an epoch whose "
                "validation Dice was above 0."
            )
            return
        checkpoint = torch.load(best, map_location=self.device, weights_only=False)
        self.triplanar_network.load_state_dict(checkpoint["network_weights"])
        self.print_to_log_file(
            f"Restored the best weights, of epoch {checkpoint['current_epoch'] - 1}."
        )

    # --- checkpoints ---------------------------------------------------------------

    def _save_latest(self) -> None:
        elapsed = time.monotonic() - self._last_checkpoint
        due = (
            self.current_epoch % CHECKPOINT_EPOCHS == 0 or elapsed >= CHECKPOINT_SECONDS
        )
        if due and self.current_epoch < self.num_epochs:
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
        checkpoint = torch.load(buffer, map_location="cpu", weights_only=False)
        # to memory first: torch wraps what a full disk says
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        partial = Path(f"{filename}{PARTIAL}")
        try:
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(filename)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _clear_output_folder(self) -> None:
        """Clear what an earlier training left behind, so that --c cannot take it up.

        Half-written checkpoints go. If this training starts from scratch, checkpoints
        of another one move to a folder beside them: continued after a fault, this one
        would otherwise go on with them.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        folder = Path(self.output_folder)
        for partial in folder.glob(f"checkpoint_*{PARTIAL}"):
            partial.unlink()
        earlier = [folder / f"checkpoint_{name}.pth" for name in CHECKPOINTS]
        earlier = [file for file in earlier if file.is_file()]
        if self._is_resumed or not earlier:
            return
        place = folder / f"earlier_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
        place.mkdir(exist_ok=True)
        for file in earlier:
            file.replace(place / file.name)
        self.print_to_log_file(
            f"Training starts from scratch: the checkpoints of an earlier training are "
            f"in {place} now."
        )

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load a checkpoint to resume from.

        Raises:
            ValueError: If it cannot be read, or is of another network.
        """
        name = f"The checkpoint {filename_or_checkpoint}"
        try:
            super().load_checkpoint(filename_or_checkpoint)
        except (torch.OutOfMemoryError, FileNotFoundError):
            raise
        except _UNREADABLE as error:
            if not self.was_initialized:  # the plans are wrong, not the checkpoint
                raise
            if "state_dict" not in str(error):
                raise ValueError(
                    f"{name} must be one that nnU-Net wrote. Reading it failed: "
                    f"{error!r}. If it is damaged, put it aside: --c continues from "
                    "another one, or starts again."
                ) from error
            raise ValueError(
                f"{name} must be of configuration {self.configuration_name!r} as it is "
                f"planned now. Its weights do not fit: {error} Train from scratch into "
                "another folder, or restore the plans that the checkpoint was trained "
                "with."
            ) from error
        self._is_resumed = True
        self._seed = self.my_init_kwargs.setdefault("seed", self._seed)
        # what nnU-Net stored may be older than the log beside it
        history = self.logger.get_value("ema_fg_dice", step=None)
        self._best_ema = max(history) if history else None


def _cycle(batches: list[list[StackRequest]], batch_number: int) -> list[StackRequest]:
    return batches[batch_number % len(batches)]
