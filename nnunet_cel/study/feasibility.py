"""Checks before the first job that a study can be done on this machine.

What can be known is checked here: that files are where the study says, that test scans
have lesions, that networks can be built, and that the disk has room. All that is wrong
is said at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_cel.files import read_json
from nnunet_cel.planning.declarations import configurations
from nnunet_cel.scans import find_label_maps
from nnunet_cel.study.models import (
    cel_datasets,
    model_folder,
    trainings,
    wmh_dataset,
)
from nnunet_cel.study.plans import count_parameters
from nnunet_cel.study.study import CelData, Study, WmhData
from nnunet_cel.volumes import read_label_map

__all__ = ["check_feasible"]

_BYTES_PER_PARAMETER = 2 * 3 * 4
"""Best and final checkpoint; value and two moments of Adam; float32."""

_PREPARED = 5  # preprocessed cases and label maps, in multiples of the raw ones
_BYTES_PER_PHANTOM = 12 * 182 * 218 * 182  # scan, raw and preprocessed case, at 1 mm


def check_feasible(study: Study, out: Path, *, local: bool = True) -> int:
    """Check all that can be known before the first job.

    Args:
        study: The study.
        out: Folder of the study.
        local: Whether jobs run on this machine.

    Returns:
        About how many bytes the study is still going to write.

    Raises:
        ValueError: If anything is not what it must be; the message lists all of it.
    """
    sizes: dict[str, int] = {}
    checks = [
        _check_data(study.data.wmh),
        _check_data(study.data.cel),
        _check_channels(study),
        _check_test_half(study),
        _check_networks(study, sizes),
        _check_trainer(study),
    ]
    if local:
        checks.append(_check_device(study))
    problems: list[str] = []
    for check in checks:
        try:
            problems += check
        except (ValueError, OSError, ImportError) as error:
            problems.append(str(error))
    needed = _required_bytes(study, out, sizes)
    problems += _check_space(out, needed)
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in dict.fromkeys(problems))
        raise ValueError(f"The study has {len(problems)} problems:\n{listed}")
    return needed


def _check_data(data: WmhData | CelData) -> Iterator[str]:
    """Check that scans are there."""
    for name, path in {**data.paths, "dataset": data.dataset}.items():
        if path is not None and not Path(path).exists():
            yield (
                f"The 'data.{data.kind}.{name}' of the study must exist. There is no "
                f"{path}."
            )


def _check_channels(study: Study) -> Iterator[str]:
    """Check that weights of one data set fit to the other."""
    channels = {}
    for data in (study.data.wmh, study.data.cel):
        path = Path(data.dataset or "") / "dataset.json"
        if data.dataset and path.parent.is_dir():
            try:
                channels[data.kind] = len(read_json(path)["channel_names"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                yield (
                    f"The 'data.{data.kind}.dataset' of the study must have a "
                    f"dataset.json with channel_names. {path} is none: {error!r}"
                )
    if len(set(channels.values())) > 1:
        yield (
            "The data sets 'data.wmh.dataset' and 'data.cel.dataset' must have the "
            "same number of channels, because weights go from one to the other. Got "
            f"{channels}."
        )


def _check_test_half(study: Study) -> Iterator[str]:
    """Check that the test half has references, and lesions in them."""
    folder = Path(study.data.cel.dataset or "")
    if not study.data.cel.dataset or not folder.is_dir():
        return
    what = "The 'data.cel.dataset' of the study"
    if not (folder / "labelsTs").is_dir() or not (folder / "imagesTs").is_dir():
        yield (
            f"{what} must have a test half, imagesTs and labelsTs. {folder} has none: "
            "'nnunet-cel convert cel' makes one."
        )
        return
    ignored = read_json(folder / "dataset.json").get("labels", {}).get("ignore")
    maps = find_label_maps(folder / "labelsTs")
    for path in maps.values():
        voxels = read_label_map(path).voxels
        if ((voxels > 0) & (voxels != ignored)).any():
            return
    yield (
        f"{what} must have lesions in its test half. None of the {len(maps)} label "
        f"maps in {folder / 'labelsTs'} has any: there is nothing to measure."
    )


def _check_networks(study: Study, sizes: dict[str, int]) -> Iterator[str]:
    """Build every network that is asked for, and note how many parameters it has."""
    for network, configuration in {
        configurations()[configuration]["network"]: configuration
        for stage, _, configuration in trainings(study)
        if stage != "nnunet"
    }.items():
        try:
            sizes[network] = count_parameters(study, configuration)
        except (ValueError, ImportError) as error:
            yield str(error)


def _check_device(study: Study) -> Iterator[str]:
    import torch

    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available[study.device]:
        there = [name for name, works in available.items() if works]
        yield (
            "The 'device' of the study must be one of this machine, "
            f"{' or '.join(there)}. Got {study.device!r} instead: change it, or run "
            "the jobs elsewhere with --profile."
        )


def _check_trainer(study: Study) -> Iterator[str]:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    if not study.nnunet.configurations:
        return
    try:
        recursive_find_trainer_class_by_name(study.nnunet.trainer)
    except RuntimeError:
        yield (
            "The 'nnunet.trainer' of the study must be a trainer that nnU-Net finds. "
            f"Got {study.nnunet.trainer!r} instead."
        )


def _check_space(out: Path, needed: int) -> Iterator[str]:
    place = next(p for p in (out, *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        yield (
            f"The disk of {place} must have room for the study, about "
            f"{needed / 1e9:.1f} GB. {free / 1e9:.1f} GB are free: make room, or name "
            "another folder with 'out'."
        )


def _required_bytes(study: Study, out: Path, sizes: dict[str, int]) -> int:
    """Return about how many bytes a study is still going to write.

    Args:
        study: The study.
        out: Its folder; what is planned and trained there needs no more space.
        sizes: Number of parameters of each network.
    """
    planned = {p.parent.name for p in out.glob("preprocessed/*/FCADensePlans.json")}
    total = 0
    for data, names in (
        (study.data.wmh, {wmh_dataset(study)}),
        (study.data.cel, {*cel_datasets(study)}),
    ):
        size = _size(data.dataset) * _PREPARED
        size += sum(map(_size, data.paths.values())) * (1 + _PREPARED)
        phantoms = sum(data.phantoms.values()) / data.spacing**3
        size += int(phantoms * _BYTES_PER_PHANTOM)
        total += len(names - planned) * size
    for stage, dataset, configuration in trainings(study):
        model = out / model_folder(study, stage, dataset, configuration)
        if stage != "nnunet" and not model.is_dir():
            folds = study.training.folds if stage == "pretrained" else 1
            network = configurations()[configuration]["network"]
            total += folds * sizes.get(network, 0) * _BYTES_PER_PARAMETER
    return total


def _size(path: str | None) -> int:
    """Return the bytes of a file or of all files in a folder, 0 if there is none."""
    if path is None:
        return 0
    root = Path(path)
    files = [root] if root.is_file() else root.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
