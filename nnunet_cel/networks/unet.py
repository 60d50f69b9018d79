"""U-Net and ResUNet, two comparison networks of the paper.

Both are nnU-Net's own networks, of the library dynamic-network-architectures, at a size
that fits Table 2 (2.0 M and 3.2 M). The paper names its references 34 (O. Ronneberger
et al., "U-Net", MICCAI 2015) and 41 (F. I. Diakogiannis et al., "ResUNet-a", ISPRS
Journal 2020), but no number of levels or channels; ResUNet-a itself is far larger than
3.2 M. So the channels are ours: one width of 20 to start with, doubled at every level
up to the number that the printed digit asks for. Batch normalization and ReLU as in
the other networks of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.architectures.unet import (
    PlainConvUNet,
    ResidualEncoderUNet,
)
from dynamic_network_architectures.initialization.weight_init import (
    init_last_bn_before_add_to_0,
)
from torch import Tensor, nn

from nnunet_cel.networks.slice_network import SliceNetwork

__all__ = ["ResUNet", "UNet"]


def _common_arguments(
    input_channels: int, num_classes: int, features: Sequence[int]
) -> dict[str, Any]:
    if len(features) < 2:
        raise ValueError(
            "The 'features' argument of a U-Net must name the channels of at least two "
            f"levels. Got {list(features)!r} instead."
        )
    return {
        "input_channels": input_channels,
        "num_classes": num_classes,
        "n_stages": len(features),
        "features_per_stage": list(features),
        "conv_op": nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1] + [2] * (len(features) - 1),
        "conv_bias": True,
        "norm_op": nn.BatchNorm2d,
        "nonlin": nn.ReLU,
        "nonlin_kwargs": {"inplace": True},
    }


class _LibraryUNet(SliceNetwork):
    """A U-Net of dynamic-network-architectures with a head of our own name.

    The library has a segmentation layer at every level of its decoder, for deep
    supervision, which the paper does not use: only the last would be trained.
    nnU-Net's ``-pretrained_weights`` leaves these layers out, whereas the paper
    fine-tunes whole networks. Under another name the head is transferred like all else.
    """

    def __init__(self, network: Any, input_channels: int, lesion_prior: float) -> None:
        levels = len(network.encoder.output_channels)
        super().__init__(
            input_channels, lesion_prior=lesion_prior, multiple=2 ** (levels - 1)
        )
        decoder = network.decoder
        self.head = decoder.seg_layers[-1]
        decoder.seg_layers = nn.ModuleList(nn.Identity() for _ in decoder.seg_layers)
        self.network = network
        self.reset_parameters()

    def _logits(self, stacks: Tensor) -> Tensor:
        logits: Tensor = self.head(self.network(stacks))
        return logits


class UNet(_LibraryUNet):
    """U-Net: two convolutions at every level of either path, and skip connections.

    With the defaults 2,011,042 parameters for three channels and two heads. Slices are
    padded to multiples of 16 voxels: ``2 ** (len(features) - 1)``.

    Args:
        input_channels: Channels of the input, ``C``.
        num_classes: Channels of the output, ``K``.
        features: Channels of every level, the full resolution first.
        convs_per_level: Convolutions at every level, in encoder and decoder.
        lesion_prior: Probability of lesion that the untrained network puts out.

    Raises:
        ValueError: If there are fewer than two levels.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        features: Sequence[int] = (20, 40, 80, 160, 160),
        convs_per_level: int = 2,
        lesion_prior: float = 0.01,
    ) -> None:
        network = PlainConvUNet(
            **_common_arguments(input_channels, num_classes, features),
            n_conv_per_stage=convs_per_level,
            n_conv_per_stage_decoder=convs_per_level,
        )
        super().__init__(network, input_channels, lesion_prior)


class ResUNet(_LibraryUNet):
    """U-Net with residual blocks in its encoder, as in nnU-Net's ResEnc presets.

    With the defaults 3,202,898 parameters for three channels and two heads. Slices are
    padded to multiples of 16 voxels: ``2 ** (len(features) - 1)``. Residual blocks
    start as identities.

    Args:
        input_channels: Channels of the input, ``C``.
        num_classes: Channels of the output, ``K``.
        features: Channels of every level, the full resolution first.
        blocks_per_level: Residual blocks, of two convolutions, at every level of the
            encoder. The decoder has one convolution at every level.
        lesion_prior: Probability of lesion that the untrained network puts out.

    Raises:
        ValueError: If there are fewer than two levels.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        features: Sequence[int] = (20, 40, 80, 160, 192),
        blocks_per_level: int = 2,
        lesion_prior: float = 0.01,
    ) -> None:
        network = ResidualEncoderUNet(
            **_common_arguments(input_channels, num_classes, features),
            n_blocks_per_stage=blocks_per_level,
            n_conv_per_stage_decoder=1,
        )
        super().__init__(network, input_channels, lesion_prior)

    def reset_parameters(self, *, heads: str = "softmax") -> None:
        """Draw new weights as the other networks do; residual branches start at zero.

        Args:
            heads: ``"softmax"`` or ``"sigmoid"``, what the logits are meant for.
        """
        super().reset_parameters(heads=heads)
        self.network.apply(init_last_bn_before_add_to_0)
