"""CBAM: equals timm's, weight for weight."""

from __future__ import annotations

import pytest
import torch

from nnunet_cel.networks.cbam import CBAM


@pytest.mark.parametrize("channels", [8, 96])
def test_equals_timm(channels: int) -> None:
    """With timm's weights the output is timm's, in training and in evaluation."""
    cbam = pytest.importorskip("timm.layers.cbam")
    theirs = cbam.CbamModule(channels)
    ours = CBAM(channels)
    ours.load_state_dict(theirs.state_dict())
    features = torch.randn(2, channels, 13, 10)

    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        torch.testing.assert_close(ours(features), theirs(features), rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
