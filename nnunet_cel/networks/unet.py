"""U-Net, ResUNet and Attention-UNet, comparison networks of the paper.

U-Net and ResUNet are nnU-Net's own networks, of the library
dynamic-network-architectures, and Attention-UNet is MONAI's, at sizes that fit Table 2
(2.0 M, 3.2 M and 2.1 M). The paper names its references 34 (O. Ronneberger et al.,
"U-Net", MICCAI 2015), 41 (F. I. Diakogiannis et al., "ResUNet-a", ISPRS Journal 2020)
and 42 (O. Oktay et al., "Attention U-Net", 2018), but no number of levels or channels.
So the channels are ours: 20 to start with, doubled at every level up to the number that
the printed digit asks for.

MONAI is no dependency of nnU-Net and takes seconds to load, so it is an extra that is
imported when a network is built.
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

__all__ = ["AttentionUNet", "ResUNet", "UNet"]


class _UNet(SliceNetwork):
    """A network of some library, of which the last convolution is our head.

    Slices are padded to multiples of ``2 ** (len(features) - 1)`` voxels.

    Args:
        input_channels: Channels of the input, ``C``.
        features: Channels of every level, the full resolution first.
        lesion_prior: Probability of lesion that the untrained network puts out.
    """

    network: nn.Module

    def __init__(
        self, input_channels: int, features: Sequence[int], lesion_prior: float
    ) -> None:
        multiple = 2 ** (len(features) - 1)
        super().__init__(input_channels, lesion_prior=lesion_prior, multiple=multiple)

    def _logits(self, stacks: Tensor) -> Tensor:
        logits: Tensor = self.head(self.network(stacks))
        return logits


class _LibraryUNet(_UNet):
    """A U-Net of dynamic-network-architectures with a head of our own name.

    The library has a segmentation layer at every level of its decoder, for deep
    supervision, and nnU-Net's ``-pretrained_weights`` leaves them out. The paper trains
    the last alone and fine-tunes whole networks, so it is our head, transferred as all.

    Arguments are those of `_UNet`, the library's class ``kind``, and the numbers of its
    ``blocks`` or convolutions at every level.
    """

    def __init__(
        self,
        kind: type[PlainConvUNet | ResidualEncoderUNet],
        input_channels: int,
        num_classes: int,
        features: Sequence[int],
        lesion_prior: float,
        **blocks: int,
    ) -> None:
        super().__init__(input_channels, features, lesion_prior)
        network: Any = kind(
            input_channels=input_channels,
            num_classes=num_classes,
            n_stages=len(features),
            features_per_stage=list(features),
            conv_op=nn.Conv2d,
            kernel_sizes=3,
            strides=[1] + [2] * (len(features) - 1),
            conv_bias=True,
            norm_op=nn.BatchNorm2d,
            nonlin=nn.ReLU,
            nonlin_kwargs={"inplace": True},
            **blocks,
        )
        decoder = network.decoder
        self.head = decoder.seg_layers[-1]
        decoder.seg_layers = nn.ModuleList(nn.Identity() for _ in decoder.seg_layers)
        self.network = network
        self.reset_parameters()


class UNet(_LibraryUNet):
    """U-Net: two convolutions at every level of either path, and skip connections.

    With the defaults 2,011,042 parameters for three channels and two heads. Arguments
    are those of `_UNet`, and ``convs_per_level``, in encoder and decoder.
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
        super().__init__(
            PlainConvUNet,
            input_channels,
            num_classes,
            features,
            lesion_prior,
            n_conv_per_stage=convs_per_level,
            n_conv_per_stage_decoder=convs_per_level,
        )


class ResUNet(_LibraryUNet):
    """U-Net with residual blocks in its encoder, as in nnU-Net's ResEnc presets.

    With the defaults 3,202,898 parameters for three channels and two heads. Arguments
    are those of `_UNet`, and ``blocks_per_level``: residual blocks in the encoder, of
    two convolutions. The decoder has one convolution at every level.
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
        super().__init__(
            ResidualEncoderUNet,
            input_channels,
            num_classes,
            features,
            lesion_prior,
            n_blocks_per_stage=blocks_per_level,
            n_conv_per_stage_decoder=1,
        )

    def reset_parameters(self, *, heads: str = "softmax") -> None:
        """Draw new weights as other networks do; residual branches start at zero."""
        super().reset_parameters(heads=heads)
        self.network.apply(init_last_bn_before_add_to_0)


class AttentionUNet(_UNet):
    """U-Net whose skip connections pass attention gates: MONAI's ``AttentionUnet``.

    With the defaults 2,144,936 parameters for three channels and two heads. Arguments
    are those of `_UNet`.

    Raises:
        ImportError: If MONAI is not installed.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        features: Sequence[int] = (20, 40, 80, 160, 192),
        lesion_prior: float = 0.01,
    ) -> None:
        try:
            from monai.networks.nets import AttentionUnet
        except ImportError as error:
            raise ImportError(
                "AttentionUNet is that of MONAI, which cannot be imported: "
                f"{error}. Install it: pip install 'nnunet-cel[attentionunet]'."
            ) from error
        super().__init__(input_channels, features, lesion_prior)
        network = AttentionUnet(
            spatial_dims=2,
            in_channels=input_channels,
            out_channels=num_classes,
            channels=list(features),
            strides=[2] * (len(features) - 1),
        )
        *body, head = network.model
        self.network = nn.Sequential(*body)
        self.head = head.conv
        self.reset_parameters()
