"""Slice networks, and the volume model that nnU-Net sees.

The import paths ``nnunet_cel.networks.FCADenseNet``, ``FCDenseNet``, ``UNet``,
``ResUNet``, ``AttentionUNet`` and ``TransUNet`` are stored in plans and checkpoints:
they never change.
"""

from nnunet_cel.networks.fcdensenet import FCADenseNet, FCDenseNet
from nnunet_cel.networks.slice_network import SliceNetwork
from nnunet_cel.networks.transunet import TransUNet
from nnunet_cel.networks.triplanar import TriplanarNetwork
from nnunet_cel.networks.unet import AttentionUNet, ResUNet, UNet

__all__ = [
    "AttentionUNet",
    "FCADenseNet",
    "FCDenseNet",
    "ResUNet",
    "SliceNetwork",
    "TransUNet",
    "TriplanarNetwork",
    "UNet",
]
