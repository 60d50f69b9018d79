"""Slice networks, and the volume model that nnU-Net sees.

The import paths ``nnunet_cel.networks.FCDenseNet`` and
``nnunet_cel.networks.FCADenseNet`` are stored in plans and checkpoints: they never
change.
"""

from nnunet_cel.networks.fcdensenet import FCADenseNet, FCDenseNet
from nnunet_cel.networks.triplanar import TriplanarNetwork

__all__ = ["FCADenseNet", "FCDenseNet", "TriplanarNetwork"]
