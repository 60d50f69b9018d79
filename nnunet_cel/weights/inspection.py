"""Says what a checkpoint holds, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nnunet_cel.weights.checkpoint import Checkpoint, read_checkpoint
from nnunet_cel.weights.export import check_finite, dtype_name
from nnunet_cel.weights.manifest import read_json
from nnunet_cel.weights.network import build_network, check_fit, find_trainer
from nnunet_cel.weights.plans import (
    check_dataset,
    check_plans,
    reduce_dataset,
    reduce_plans,
    refuse,
)

__all__ = ["describe", "find_problems", "read_checkpoint", "table_of_tensors"]


def describe(read: Checkpoint, path: Path) -> list[tuple[str, str]]:
    """Return what a checkpoint holds as rows of a name and a text."""
    weights = read.weights
    # a tied tensor counts once; batch normalization counts its own batches
    fractions = {
        (tensor.data_ptr(), tensor.shape): tensor.numel()
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not name.endswith(_STATISTICS)
    }
    axes = read.mirroring_axes
    return [
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        ("entries", ", ".join(f"{entry}" for entry in read.entries)),
        ("trainer", read.trainer),
        ("configuration", read.configuration),
        ("epochs", "unknown" if read.epochs is None else str(read.epochs)),
        ("mirroring axes", ", ".join(map(str, axes)) if axes else "none"),
        ("tensors", str(len(weights))),
        ("parameters", f"{sum(fractions.values()):,}"),
        ("types", ", ".join(sorted({dtype_name(t) for t in weights.values()}))),
    ]


def table_of_tensors(weights: Mapping[str, Tensor]) -> list[tuple[str, str, str]]:
    """Return name, type and shape of each tensor."""
    return [
        (name, dtype_name(tensor), " x ".join(map(str, tensor.shape)) or "1 number")
        for name, tensor in weights.items()
    ]


def find_problems(
    read: Checkpoint, path: Path, *, plans: Path | None = None
) -> list[str]:
    """Return why the weights cannot be used; an empty list if they can.

    Args:
        read: The checkpoint.
        path: Its file, for messages.
        plans: Plans of a model folder, with ``dataset.json`` beside them or in the
            checkpoint; None for no comparison.

    Raises:
        OSError: If the plans cannot be read.
        ImportError: If their network needs a package that is not installed.
    """
    problems = []
    for check in (
        lambda: find_trainer(read.trainer),
        lambda: check_finite(read.weights, source=path),
        lambda: _check_plans(read, path, plans),
    ):
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _check_plans(read: Checkpoint, path: Path, plans: Path | None) -> None:
    if plans is None:
        return
    content, beside = read_json(plans), plans.with_name("dataset.json")
    dataset = read_json(beside) if beside.is_file() else read.dataset
    if not isinstance(content, dict) or not isinstance(dataset, dict):
        raise refuse(f"plans {plans} and their dataset.json", "objects", dataset)
    reduced, described = (
        reduce_plans(content, read.configuration),
        reduce_dataset(dataset),
    )
    check_plans(reduced, read.configuration)
    check_dataset(described)
    network = build_network(
        reduced, described, configuration=read.configuration, trainer=read.trainer
    )
    check_fit(read.weights, network, source=path)
