"""The network that nnU-Net sees: a volume model that looks at slices.

In training it gets stacks ``(B, C, H, W)`` and hands them to the slice network. In
inference it gets volumes ``(B, C, X, Y, Z)``, cuts them into the stacks of three
planes, runs the slice network on them, puts the slices back and averages the
probabilities of the three planes (Huang et al. 2024, Figure 6).
"""

from __future__ import annotations

import logging
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from nnunet_cel.networks.allocator import freed_memory_kept
from nnunet_cel.slicing import PLANES, cut_stacks, empty_stacks, join_slices

__all__ = ["TriplanarNetwork", "has_native_bfloat16"]

logger = logging.getLogger(__name__)

# Pixels of the slices in one pass. A GPU gets 16 slices of 256 x 256, about 0.1 GB each
# in an FCA-DenseNet. On CPU, passes that outgrow the caches are slower per slice.
_DEFAULT_PIXELS = {"cuda": 16 * 256**2, "mps": 4 * 256**2, "cpu": 4 * 96**2}

# Probabilities this close to 0 and 1 are not told apart: the log-odds, 13.8, keep
# nnU-Net's float16 accumulation of weighted logits far from overflow.
_EPSILON = 1e-6

# The CPU allocator, oneDNN, C++ and MPS raise plain RuntimeErrors.
_SIGNS_OF_FULL_MEMORY = (
    "can't allocate memory",
    "could not create a memory",
    "could not create a primitive",
    "bad_alloc",
    "out of memory",
)


def has_native_bfloat16() -> bool:
    """Tell whether the CPU has instructions for bfloat16 (AVX512-BF16 or AMX)."""
    cpu = torch.cpu
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(cpu, check, bool)()) for check in checks)


class TriplanarNetwork(nn.Module):
    """Run a slice network on the stacks of three planes of a volume.

    Args:
        network: Slice network, stacks ``(B, C * (2k + 1), H, W)`` to logits
            ``(B, K, H, W)``.
        neighbor_pairs: Neighbors on either side of a slice, ``k``.
        heads: ``"softmax"`` or ``"sigmoid"``, what turns logits into probabilities.
        input_channels: Channels of the volumes, ``C``.
        slice_batch_size: Stacks per pass of the slice network. None stands for what
            suits the device: of 256 x 256 voxels, 16 on CUDA, 4 on MPS and 1 on CPU;
            more of smaller ones.
        cpu_bfloat16: Whether to run the slice network in bfloat16 on CPUs that have
            native instructions for it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        neighbor_pairs: int,
        heads: str,
        input_channels: int,
        slice_batch_size: int | None = None,
        cpu_bfloat16: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.neighbor_pairs = neighbor_pairs
        self.heads = heads
        self.input_channels = input_channels
        self.slice_batch_size = slice_batch_size
        self.cpu_bfloat16 = cpu_bfloat16 and has_native_bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        """Map stacks to logits, or volumes to the log of mean probabilities.

        Args:
            images: Stacks ``(B, C * (2k + 1), H, W)`` or volumes ``(B, C, X, Y, Z)``.

        Returns:
            For stacks logits ``(B, K, H, W)``. For volumes ``(B, K, X, Y, Z)`` in
            float32: log-probabilities (softmax heads) or log-odds (sigmoid heads), of
            which nnU-Net's own softmax or sigmoid makes the mean of the three planes.

        Raises:
            ValueError: If volumes have another number of channels.
            torch.OutOfMemoryError: If the volume and one stack do not fit into memory.
        """
        if images.ndim == 4:
            return self._slice_logits(images)
        if images.shape[1] != self.input_channels:
            raise ValueError(
                f"The model was trained on images with {self.input_channels} "
                f"channel(s). Got {images.shape[1]} instead. Give every case the "
                "channels that 'channel_names' in the model's dataset.json lists."
            )
        try:
            logits: Tensor = self._volume_logits(images)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise torch.OutOfMemoryError(
                f"A volume of {' x '.join(map(str, images.shape[2:]))} voxels must fit "
                f"into the memory of {images.device}, with the network and one slice "
                f"at a time. It does not: {error}. Let fewer processes run (-npp 1 "
                "-nps 1) or end what else uses it; for a GPU, try -device cpu."
            ) from error
        return logits

    def _slice_logits(self, stacks: Tensor) -> Tensor:
        in_bfloat16 = self.cpu_bfloat16 and stacks.device.type == "cpu"
        stacks = stacks.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16) if in_bfloat16 else nullcontext():
            logits: Tensor = self.network(stacks)
        return logits

    # Loops and skipping would only break the graph: the slice network is what is worth
    # compiling, and it still is when called from here.
    @torch.compiler.disable(recursive=False)  # type: ignore[no-untyped-call,untyped-decorator]  # torch's
    def _volume_logits(self, volumes: Tensor) -> Tensor:
        with freed_memory_kept(volumes.device):
            return torch.stack(
                [self._to_logits(self._mean_probabilities(each)) for each in volumes]
            )

    def _mean_probabilities(self, volume: Tensor) -> Tensor:
        total: Tensor | None = None
        for plane in PLANES:
            stacks = cut_stacks(volume, plane, self.neighbor_pairs)
            planar = join_slices(self._probabilities(stacks), plane)
            total = planar.contiguous() if total is None else total.add_(planar)
        assert total is not None
        return total.div_(len(PLANES))

    def _probabilities(self, stacks: Tensor) -> Tensor:
        """Predict stacks ``(N, C, H, W)``; all empty ones share one prediction."""
        empty = empty_stacks(stacks)
        filled = torch.nonzero(~empty).flatten().tolist()
        pixels = _DEFAULT_PIXELS.get(stacks.device.type, 0)
        fitting = max(1, pixels // (stacks.shape[-2] * stacks.shape[-1]))
        batch_size = self.slice_batch_size or fitting
        result: Tensor | None = None
        if bool(empty.any()):
            blank = self._activate(self._slice_logits(torch.zeros_like(stacks[:1])))
            result = blank.expand(len(stacks), -1, -1, -1).contiguous()
        position = 0
        while position < len(filled):
            chosen = filled[position : position + batch_size]
            try:
                predicted = self._activate(self._slice_logits(stacks[chosen]))
            except RuntimeError as error:
                if not _is_out_of_memory(error) or batch_size == 1:
                    raise
                # later planes and volumes start from what is known to fit
                self.slice_batch_size = batch_size = batch_size // 2
                if stacks.device.type == "cuda":
                    torch.cuda.empty_cache()
                logger.warning("Out of memory: now %d slices per pass.", batch_size)
                continue
            if result is None:
                result = predicted.new_empty((len(stacks), *predicted.shape[1:]))
            result[chosen] = predicted
            position += len(chosen)
        assert result is not None
        return result

    def _activate(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.sigmoid() if self.heads == "sigmoid" else logits.softmax(dim=1)

    def _to_logits(self, probabilities: Tensor) -> Tensor:
        if self.heads == "sigmoid":
            return torch.logit(probabilities, eps=_EPSILON)
        return probabilities.clamp_(min=_EPSILON).log_()


def _is_out_of_memory(error: RuntimeError) -> bool:
    signs = any(sign in str(error) for sign in _SIGNS_OF_FULL_MEMORY)
    return signs or isinstance(error, torch.OutOfMemoryError)
