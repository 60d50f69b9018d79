"""FC-DenseNet and FCA-DenseNet, the networks of the paper.

FC-DenseNet is the fully convolutional DenseNet of S. Jegou et al., "The One Hundred
Layers Tiramisu", CVPR Workshops 2017. FCA-DenseNet (Huang et al. 2024, Figure 4) is the
same network with CBAM attention. The paper's "5 x 4 configuration", five dense blocks
of four layers on either path, is what the defaults build: FC-DenseNet57 with 1,375,058
and FCA-DenseNet with 1,401,478 parameters for two output channels (Table 2: 1.3 M,
1.4 M).

The paper says that CBAM is added, not where. The output of every down block is the
smallest placement that fits Table 2.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunet_cel.networks.cbam import CBAM
from nnunet_cel.networks.slice_network import SliceNetwork

__all__ = ["FCADenseNet", "FCDenseNet"]


@contextlib.contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put back the running statistics that a second forward pass updates."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, kept in zip(module.buffers(), before, strict=True):
            buffer.copy_(kept)


class ConvLayer(nn.Module):
    """BN, ReLU, convolution and dropout on the concatenation of its inputs.

    Its activations can be recomputed instead of stored, by a second forward pass.
    Running statistics are put back after it, so they and the gradients are exactly
    those without recomputation.

    Args:
        in_channels: Channels of the inputs together.
        out_channels: Channels of the output.
        kernel_size: Edge length of the convolution in voxels, odd.
        dropout: Makes a dropout layer.
        gradient_checkpointing: Whether activations are recomputed.
        pool: Whether 2 x 2 max pooling follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        dropout: Callable[[], nn.Module],
        gradient_checkpointing: bool,
        pool: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.norm = nn.BatchNorm2d(in_channels)
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding)
        self.dropout = dropout()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def _compute(self, *inputs: Tensor) -> Tensor:
        features = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        new: Tensor = self.pool(self.dropout(self.conv(self.norm(features).relu_())))
        return new

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map inputs of shape ``(B, C_i, H, W)`` to features ``(B, C, H, W)``."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            output: Tensor = checkpoint(
                self._compute,
                *inputs,
                use_reentrant=False,
                context_fn=lambda: (contextlib.nullcontext(), _buffers_kept(self)),
            )
            return output
        return self._compute(*inputs)

    def infer(self, features: Tensor) -> Tensor:
        """Return the same in evaluation mode, for a view ``(B, C, H, W)`` of a buffer.

        Batch normalization would copy the view first. Nothing is pooled.
        """
        norm: Any = self.norm
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        scale, shift = (each.view(1, -1, 1, 1) for each in (scale, shift))
        new: Tensor = self.conv(torch.addcmul(shift, features, scale).relu_())
        return new


class DenseBlock(nn.Module):
    """Dense layers, each of which sees the block's input and all layers before it.

    Args:
        in_channels: Channels of the input.
        num_layers: Number of layers.
        growth_rate: Channels that every layer adds.
        keep_input: Whether the output holds the input before the new features.
        layer: Further arguments of `ConvLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        num_layers: int,
        *,
        growth_rate: int,
        keep_input: bool,
        **layer: Any,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.keep_input = keep_input
        self.layers = nn.ModuleList(
            ConvLayer(
                in_channels + index * growth_rate, growth_rate, kernel_size=3, **layer
            )
            for index in range(num_layers)
        )
        self.new_channels = num_layers * growth_rate
        self.out_channels = self.new_channels + (in_channels if keep_input else 0)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map inputs ``(B, C_i, H, W)`` to features ``(B, out_channels, H, W)``.

        The inputs together have ``in_channels`` channels.
        """
        if self._infers_on_cpu(inputs[0]):
            return self._infer(*inputs)
        collected = list(inputs)
        for layer in self.layers:
            collected.append(layer(*collected))
        kept = collected if self.keep_input else collected[len(inputs) :]
        return torch.cat(kept, dim=1)

    def _infers_on_cpu(self, features: Tensor) -> bool:
        """Return whether nothing but the result is wanted; see `_infer`."""
        return (
            features.device.type == "cpu"
            and features.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and not any(
                # dropout at test time, or somebody who looks at features
                module.training or module._forward_hooks or module._forward_pre_hooks
                for module in self.modules()
            )
        )

    def _infer(self, *inputs: Tensor) -> Tensor:
        """Collect features in one buffer, so that no layer concatenates them again."""
        batch_size, _, height, width = inputs[0].shape
        channels = self.in_channels + self.new_channels
        size = (batch_size, channels, height, width)
        buffer = torch.empty(size, device="cpu", memory_format=torch.channels_last)
        filled = self.in_channels
        torch.cat(inputs, dim=1, out=buffer[:, :filled])
        for layer in self.layers:
            assert isinstance(layer, ConvLayer)
            new = layer.infer(buffer[:, :filled])
            buffer[:, filled : filled + new.shape[1]] = new
            filled += new.shape[1]
        return buffer if self.keep_input else buffer[:, self.in_channels :]


class TransitionUp(nn.Module):
    """3 x 3 transposed convolution with stride 2, cut to the extent of the skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Return the features ``(B, C, H, W)``, upsampled to the extent of the skip."""
        upsampled: Tensor = self.conv(features)
        height, width = skip.shape[2:]
        top = (upsampled.shape[2] - height) // 2
        left = (upsampled.shape[3] - width) // 2
        return upsampled[:, :, top : top + height, left : left + width]


class FCDenseNet(SliceNetwork):
    """Fully convolutional DenseNet: stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    Any input of at least ``2 ** len(down_layers)`` voxels along both axes will do.

    Args:
        input_channels: Channels of the input, ``C``.
        num_classes: Channels of the output, ``K``.
        down_layers: Layers of every dense block of the downsampling path.
        bottleneck_layers: Layers of the dense block at the lowest resolution.
        stem_features: Channels of the first convolution.
        growth_rate: Channels that every dense layer adds.
        dropout: Dropout rate.
        dropout_op: Class of the dropout layers; Dropout2d drops whole channels as the
            code of the paper's reference 15 does.
        attention: Where CBAM is: nowhere (``"none"``), or on the output of every down
            block (``"down"``).
        gradient_checkpointing: Whether dense layers and transitions recompute their
            activations in the backward pass: less than half of the memory, same
            gradients and statistics.
        lesion_prior: Probability of lesion that the untrained network puts out.

    Raises:
        ValueError: If ``attention`` is unknown.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        down_layers: Sequence[int] = (4, 4, 4, 4, 4),
        bottleneck_layers: int = 4,
        stem_features: int = 48,
        growth_rate: int = 12,
        dropout: float = 0.2,
        dropout_op: type[nn.Module] = nn.Dropout2d,
        attention: str = "none",
        gradient_checkpointing: bool = False,
        lesion_prior: float = 0.01,
    ) -> None:
        super().__init__(input_channels, lesion_prior=lesion_prior)
        if attention not in ("none", "down"):
            raise ValueError(
                f"The 'attention' argument of {type(self).__name__} must be 'none' or "
                f"'down'. Got {attention!r} instead."
            )
        common: dict[str, Any] = {
            "dropout": lambda: dropout_op(dropout),
            "gradient_checkpointing": gradient_checkpointing,
        }
        block: Callable[..., DenseBlock] = functools.partial(
            DenseBlock, growth_rate=growth_rate, **common
        )
        self.stem = nn.Conv2d(input_channels, stem_features, kernel_size=3, padding=1)
        channels, skip_channels = stem_features, []
        self.down_blocks = nn.ModuleList()
        self.down_attention = nn.ModuleList()
        self.transitions_down = nn.ModuleList()
        for num_layers in down_layers:
            down = block(channels, num_layers, keep_input=True)
            channels = down.out_channels
            skip_channels.append(channels)
            self.down_blocks.append(down)
            if attention == "down":
                self.down_attention.append(CBAM(channels))
            pooled = ConvLayer(channels, channels, kernel_size=1, pool=True, **common)
            self.transitions_down.append(pooled)

        self.bottleneck = block(channels, bottleneck_layers, keep_input=False)
        channels = self.bottleneck.out_channels
        self.transitions_up = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(down_layers))):
            self.transitions_up.append(TransitionUp(channels))
            channels += skip_channels[level]
            # only the block at full resolution hands its input on, to the head
            up = block(channels, down_layers[level], keep_input=level == 0)
            channels = up.out_channels
            self.up_blocks.append(up)

        self.head = nn.Conv2d(channels, num_classes, kernel_size=1)
        self.reset_parameters()

    def _logits(self, stacks: Tensor) -> Tensor:
        features = self.stem(stacks)
        skips = []
        for level, block in enumerate(self.down_blocks):
            features = block(features)
            if self.down_attention:
                features = self.down_attention[level](features)
            skips.append(features)
            features = self.transitions_down[level](features)

        features = self.bottleneck(features)
        for transition, block in zip(self.transitions_up, self.up_blocks, strict=True):
            skip = skips.pop()
            features = block(transition(features, skip), skip)
        logits: Tensor = self.head(features)
        return logits


class FCADenseNet(FCDenseNet):
    """FC-DenseNet with CBAM attention: ``attention`` is ``"down"`` by default."""

    def __init__(self, input_channels: int, num_classes: int, **arguments: Any) -> None:
        arguments = {"attention": "down"} | arguments
        super().__init__(input_channels, num_classes, **arguments)
