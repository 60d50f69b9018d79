"""Convolutional Block Attention Module (CBAM) of Woo et al. 2018.

Channel attention, then spatial attention (paper section "CBAM in FCA-DenseNet" and
Figure 5). Reference: S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, "CBAM: Convolutional
Block Attention Module", ECCV 2018.

Parameter names, sizes and the batch normalization of the spatial map are those of
``timm.layers.cbam.CbamModule``, the oracle of the tests. timm itself is not imported:
it needs torchvision, which cannot be loaded beside a torch of another build.
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
    sigmoid of the sum of its two answers is the weight. Its hidden layer has a
    sixteenth of the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, int(channels / 16 + 0.5))
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
    """

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)
        self.conv = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(1)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features of the same shape."""
        average = features.mean(dim=1, keepdim=True)
        maximum = features.amax(dim=1, keepdim=True)
        weight = self.conv(torch.cat([average, maximum], dim=1))
        return features * torch.sigmoid(weight)


class CBAM(nn.Sequential):
    """Channel attention followed by spatial attention."""

    def __init__(self, channels: int) -> None:
        parts = {"channel": ChannelAttention(channels), "spatial": SpatialAttention()}
        super().__init__(OrderedDict(parts))
