"""Convolutional Block Attention Module (CBAM) of Woo et al. 2018.

Channel attention, then spatial attention (paper section "CBAM in FCA-DenseNet" and
Figure 5). Reference: S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, "CBAM: Convolutional
Block Attention Module", ECCV 2018.

Parameter names, reduction and the batch normalization of the spatial map are those of
``timm.layers.cbam.CbamModule``, so that weights can be exchanged and timm serves as
oracle in the tests. timm itself is not imported: it needs torchvision, which cannot be
loaded beside a CPU-only torch.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CBAM", "ChannelAttention", "SpatialAttention"]


class ChannelAttention(nn.Module):
    """Scale every channel by a weight that depends on the whole slice.

    A shared two-layer perceptron sees the average and the maximum of every channel; the
    sigmoid of the sum of its two answers is the weight.

    Args:
        channels: Channels of the input.
        reduction: The hidden layer has ``channels / reduction`` units, at least one.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, int(channels / reduction + 0.5))
        self.fc1 = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features of the same shape."""
        average = features.mean(dim=(2, 3), keepdim=True)
        if features.device.type == "cpu" and not torch.is_grad_enabled():
            # six times as fast as amax in bfloat16; with gradients it would single out
            # one of several equal voxels, where amax shares among them
            maximum = F.adaptive_max_pool2d(features, 1)
        else:
            maximum = features.amax(dim=(2, 3), keepdim=True)
        low, high = (self.fc2(torch.relu(self.fc1(x))) for x in (average, maximum))
        return features * torch.sigmoid(low + high)


class SpatialAttention(nn.Module):
    """Scale every position by a weight that depends on its neighborhood.

    Average and maximum over the channels form a two-channel map; a convolution with
    batch normalization and a sigmoid turns it into the weight.

    Args:
        kernel_size: Edge length of the convolution in voxels, odd.
    """

    def __init__(self, *, kernel_size: int = 7) -> None:
        super().__init__()
        conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        norm = nn.BatchNorm2d(1)
        self.conv = nn.Sequential(OrderedDict(conv=conv, bn=norm))

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features of the same shape."""
        average = features.mean(dim=1, keepdim=True)
        maximum = features.amax(dim=1, keepdim=True)
        weight = self.conv(torch.cat([average, maximum], dim=1))
        return features * torch.sigmoid(weight)


class CBAM(nn.Module):
    """Channel attention followed by spatial attention.

    Args:
        channels: Channels of the input.
        reduction: See `ChannelAttention`.
        kernel_size: See `SpatialAttention`.
    """

    def __init__(
        self, channels: int, *, reduction: int = 16, kernel_size: int = 7
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction=reduction)
        self.spatial = SpatialAttention(kernel_size=kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features of the same shape."""
        attended: Tensor = self.spatial(self.channel(features))
        return attended
