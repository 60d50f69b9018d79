"""Losses: equal known losses at their neutral settings, safe at any logit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_cel.settings import Settings
from nnunet_cel.training.losses import VoxelLoss, build_loss


def example(heads: int) -> tuple[Tensor, Tensor]:
    """Return random logits ``(2, heads, 9, 7)`` and a label map ``(2, 1, 9, 7)``."""
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(2, heads, 9, 7, generator=generator)
    target = torch.randint(0, heads, (2, 1, 9, 7), generator=generator)
    return logits, target.to(torch.int16)


def make(*, ignore_label: int | None = None, **settings: Any) -> VoxelLoss:
    """Return a loss by the settings that differ from the defaults."""
    return build_loss(Settings(**settings), ignore_label=ignore_label)


@pytest.mark.parametrize("heads", ["softmax", "sigmoid"])
def test_focal_loss_is_equation_1(heads: str) -> None:
    """Two voxels by hand: p = 0.8 on a lesion, p = 0.3 on background."""
    probability = torch.tensor([0.8, 0.3]).view(1, 1, 1, 2)
    target = torch.tensor([1, 0]).view(1, 1, 1, 2)
    logits = probability.logit()
    if heads == "softmax":
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)

    loss = make(lesion_weight=0.75, gamma=2.0, heads=heads)(logits, target)

    # 0.75 * 0.2^2 * -ln 0.8 = 0.0066943; 0.25 * 0.3^2 * -ln 0.7 = 0.0080252
    assert loss.item() == pytest.approx((0.0066943 + 0.0080252) / 2, abs=1e-7)


@pytest.mark.parametrize("heads", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extreme_logits_are_safe(heads: str, gamma: float, dtype: torch.dtype) -> None:
    """At |logit| = 100, right or wrong, loss and gradient are finite."""
    logits = torch.tensor([100.0, -100.0, 0.0, 100.0, -100.0, 100.0], dtype=dtype)
    logits = logits.view(1, 2, 1, 3).requires_grad_()
    labels = [1, 1, 0, 0, 1, 0] if heads == "sigmoid" else [0, 0, 1]

    with torch.autocast("cpu", dtype=torch.bfloat16):  # does not reach into the loss
        loss = make(gamma=gamma, heads=heads)(
            logits, torch.tensor(labels).view(1, -1, 1, 3)
        )
    loss.backward()

    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("heads", ["softmax", "sigmoid"])
@pytest.mark.parametrize("loss", ["focal", "cross_entropy", "dice"])
def test_ignored_voxels_do_not_count(loss: str, heads: str) -> None:
    """Whatever the logits of ignored voxels are, loss and gradient ignore them.

    For regions the mask of ignored voxels is the last channel of the target.
    """
    logits, target = example(3)
    ignored = torch.zeros_like(target, dtype=torch.bool)
    ignored[:, :, :4] = True
    if heads == "sigmoid":
        target = torch.cat([target >= 0, target > 0, target == 1, ignored], dim=1)
    else:
        target[ignored] = 3
    criterion = make(loss=loss, heads=heads, ignore_label=3)
    changed = logits.clone()
    changed[:, :, :4] -= 7
    changed.requires_grad_()

    result = criterion(changed, target)
    result.backward()

    torch.testing.assert_close(result, criterion(logits, target))
    assert changed.grad is not None
    assert (changed.grad[:, :, :4] == 0).all()
    assert (changed.grad[:, :, 4:] != 0).any()


def test_mean_over_valid_voxels_only() -> None:
    """Half of the voxels ignored: the mean is that of the other half. All: 0."""
    logits, target = example(2)
    halved = target.clone()
    halved[1:] = 2
    loss = make(ignore_label=2)

    torch.testing.assert_close(loss(logits, halved), make()(logits[:1], target[:1]))
    assert loss(logits, torch.full_like(target, 2)).item() == 0


def test_cross_entropy_is_torchs() -> None:
    """Table 7's cross-entropy is torch's; without focus focal loss weighs it."""
    logits, target = example(3)
    regions = torch.cat([target > 0, target == 1, target == 2], dim=1)
    labels = target[:, 0].long()

    voxels = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(
        make(loss="cross_entropy")(logits, target), voxels.mean()
    )
    torch.testing.assert_close(
        make(lesion_weight=0.9, gamma=0.0)(logits, target),
        (voxels * torch.tensor([0.1, 0.9, 0.9])[labels]).mean(),
    )
    torch.testing.assert_close(
        make(loss="cross_entropy", heads="sigmoid")(logits, regions),
        F.binary_cross_entropy_with_logits(logits, regions.float()),
    )


def test_dice_of_a_perfect_prediction() -> None:
    """A certain and correct prediction has the lowest Dice loss, -1."""
    _, target = example(2)
    logits = 100.0 * torch.cat([target == 0, target == 1], dim=1).float()

    assert make(loss="dice")(logits, target).item() == pytest.approx(-1, abs=1e-4)
    assert make(loss="dice")(-logits, target).item() > -0.01
