"""Attention-UNet, a comparison network of the paper: MONAI's, at a size of its own.

O. Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018 (the
paper's reference 42). The paper gives 2.1 M parameters (Table 2) and no channels; they
start at 20 and double at every level, as those of our U-Net, up to the number that the
printed digit asks for.

MONAI is no dependency of nnU-Net and takes seconds to load, so it is an extra that is
imported when a network is built.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_cel.networks.slice_network import SliceNetwork

__all__ = ["AttentionUNet"]


class AttentionUNet(SliceNetwork):
    """U-Net whose skip connections pass attention gates: MONAI's ``AttentionUnet``.

    With the defaults 2,144,936 parameters for three channels and two heads. Slices are
    padded to multiples of 16 voxels: ``2 ** (len(features) - 1)``.

    Args:
        input_channels: Channels of the input, ``C``.
        num_classes: Channels of the output, ``K``.
        features: Channels of every level, the full resolution first.
        lesion_prior: Probability of lesion that the untrained network puts out.

    Raises:
        ImportError: If MONAI is not installed.
        ValueError: If there are fewer than two levels.
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
        if len(features) < 2:
            raise ValueError(
                "The 'features' argument of AttentionUNet must name the channels of at "
                f"least two levels. Got {list(features)!r} instead."
            )
        halvings = len(features) - 1
        super().__init__(
            input_channels, lesion_prior=lesion_prior, multiple=2**halvings
        )
        network = AttentionUnet(
            spatial_dims=2,
            in_channels=input_channels,
            out_channels=num_classes,
            channels=list(features),
            strides=[2] * halvings,
        )
        *body, head = network.model
        self.network = nn.Sequential(*body)
        self.head = head.conv
        self.reset_parameters()

    def _logits(self, stacks: Tensor) -> Tensor:
        logits: Tensor = self.head(self.network(stacks))
        return logits
