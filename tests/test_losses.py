"""Losses: equal known losses at their neutral settings, safe at any logit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_cel.settings import LOSSES, Settings
from nnunet_cel.training.losses import (
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    VoxelLoss,
    build_loss,
)


def example(heads: int, *, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Return random logits ``(2, heads, 9, 7)`` and a label map ``(2, 1, 9, 7)``."""
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(2, heads, 9, 7, generator=generator)
    target = torch.randint(0, classes or heads, (2, 1, 9, 7), generator=generator)
    return logits, target.to(torch.int16)


def test_focal_loss_is_equation_1() -> None:
    """Two voxels by hand: p = 0.8 on a lesion, p = 0.3 on background."""
    probability = torch.tensor([0.8, 0.3])
    logits = torch.stack([(1 - probability).log(), probability.log()]).view(1, 2, 1, 2)
    target = torch.tensor([1, 0]).view(1, 1, 1, 2)

    loss = FocalLoss(lesion_weight=0.75, gamma=1)(logits, target)

    # 0.75 * 0.2 * -ln 0.8 = 0.0334715; 0.25 * 0.3 * -ln 0.7 = 0.0267506
    assert loss.item() == pytest.approx((0.0334715 + 0.0267506) / 2, abs=1e-6)


@pytest.mark.parametrize("lesion_weight", [0.1, 0.25, 0.75])
def test_gamma_zero_is_weighted_cross_entropy(lesion_weight: float) -> None:
    """Without focusing only the weights remain, for two and for four classes."""
    for heads in (2, 4):
        logits, target = example(heads)
        weight = torch.tensor([1 - lesion_weight] + [lesion_weight] * (heads - 1))

        loss = FocalLoss(lesion_weight=lesion_weight, gamma=0)(logits, target)

        voxels = F.cross_entropy(logits, target[:, 0].long(), reduction="none")
        expected = (voxels * weight[target[:, 0].long()]).mean()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("lesion_weight", [0.25, 0.75])
def test_equals_torchvision(gamma: float, lesion_weight: float) -> None:
    """Sigmoid heads, and softmax with two heads, equal torchvision's focal loss."""
    focal = pytest.importorskip("torchvision.ops").sigmoid_focal_loss
    logits, target = example(2)
    regions = torch.cat([target == 1, target == 0], dim=1)
    options = {"alpha": lesion_weight, "gamma": gamma, "reduction": "mean"}
    loss = {"lesion_weight": lesion_weight, "gamma": gamma}

    sigmoid = FocalLoss(heads="sigmoid", **loss)(logits, regions)
    softmax = FocalLoss(**loss)(logits, target)

    torch.testing.assert_close(sigmoid, focal(logits, regions.float(), **options))
    difference = logits[:, 1] - logits[:, 0]
    expected = focal(difference, target[:, 0].float(), **options)
    torch.testing.assert_close(softmax, expected)


@pytest.mark.parametrize("heads", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_are_safe(heads: str, gamma: float, dtype: torch.dtype) -> None:
    """At |logit| = 100, right or wrong, loss and gradient are finite."""
    logits = torch.tensor([100.0, -100.0, 0.0, 100.0, -100.0, 100.0], dtype=dtype)
    logits = logits.view(1, 2, 1, 3).requires_grad_()
    if heads == "sigmoid":
        target = torch.tensor([1, 1, 0, 0, 1, 0]).view(1, 2, 1, 3)
    else:
        target = torch.tensor([0, 0, 1]).view(1, 1, 1, 3)

    loss = FocalLoss(gamma=gamma, heads=heads)(logits, target)
    loss.backward()

    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_loss_is_float32_under_autocast() -> None:
    """Autocast does not reach into the loss."""
    logits, target = example(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = FocalLoss()(logits, target)

    assert torch.equal(loss, FocalLoss()(logits, target))


@pytest.mark.parametrize("loss", ["focal", "cross_entropy", "dice"])
def test_ignored_voxels_do_not_count_with_softmax(loss: str) -> None:
    """Whatever the logits of ignored voxels are, loss and gradient ignore them."""
    logits, target = example(3)
    criterion = build_loss(Settings(loss=loss), ignore_label=3)
    target[:, :, :4] = 3
    changed = logits.clone()
    changed[:, :, :4] += 10 * torch.randn_like(changed[:, :, :4])
    changed.requires_grad_()

    result = criterion(changed, target)
    result.backward()

    torch.testing.assert_close(result, criterion(logits, target))
    assert changed.grad is not None
    assert (changed.grad[:, :, :4] == 0).all()
    assert (changed.grad[:, :, 4:] != 0).any()


@pytest.mark.parametrize("loss", ["focal", "cross_entropy", "dice"])
def test_ignored_voxels_do_not_count_with_sigmoid(loss: str) -> None:
    """The same for regions, whose ignore mask is the last channel of the target."""
    logits, target = example(2)
    ignored = torch.zeros_like(target, dtype=torch.bool)
    ignored[..., 5:] = True
    regions = torch.cat([target >= 0, target == 1, ignored], dim=1)
    criterion = build_loss(Settings(loss=loss, heads="sigmoid"), ignore_label=2)
    changed = logits.clone()
    changed[..., 5:] -= 7

    torch.testing.assert_close(criterion(changed, regions), criterion(logits, regions))


def test_mean_over_valid_voxels_only() -> None:
    """Half of the voxels ignored: the mean is that of the other half. All: 0."""
    logits, target = example(2)
    halved = target.clone()
    halved[1:] = 2
    loss = FocalLoss(ignore_label=2)

    torch.testing.assert_close(
        loss(logits, halved), FocalLoss()(logits[:1], target[:1])
    )
    assert loss(logits, torch.full_like(target, 2)).item() == 0


def test_cross_entropy_is_torchs() -> None:
    """Table 7's cross-entropy is torch's, for both kinds of heads."""
    logits, target = example(3)
    regions = torch.cat([target > 0, target == 1, target == 2], dim=1)

    torch.testing.assert_close(
        CrossEntropyLoss(heads="softmax", ignore_label=None)(logits, target),
        F.cross_entropy(logits, target[:, 0].long()),
    )
    torch.testing.assert_close(
        CrossEntropyLoss(heads="sigmoid", ignore_label=None)(logits, regions),
        F.binary_cross_entropy_with_logits(logits, regions.float()),
    )


def test_dice_of_a_perfect_prediction() -> None:
    """A certain and correct prediction has the lowest Dice loss, -1."""
    _, target = example(2)
    logits = 100.0 * torch.cat([target == 0, target == 1], dim=1).float()

    assert DiceLoss()(logits, target).item() == pytest.approx(-1, abs=1e-4)
    assert DiceLoss()(-logits, target).item() > -0.01


class ToyLoss(VoxelLoss):
    """A loss of somebody else, with a setting of ours as its argument."""

    def __init__(self, *, gamma: float, heads: str, ignore_label: int | None) -> None:
        super().__init__(heads=heads, ignore_label=ignore_label)
        self.gamma = gamma

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.gamma * torch.ones_like(logits)


def test_another_loss_needs_a_name_and_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss is added by its import path; it is given the settings that it names."""
    monkeypatch.setitem(LOSSES, "toy", f"{__name__}.ToyLoss")

    loss = build_loss(Settings(loss="toy", gamma=3), ignore_label=None)

    assert loss(*example(2)).item() == 3
