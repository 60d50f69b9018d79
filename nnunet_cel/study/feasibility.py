"""Checks before the first job that a study can be done on this machine.

What can be known is checked here: that files are where the study says, that test scans
have lesions, that networks can be built, and that the disk has room. All that is wrong
is said at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nnunet_cel.files import read_json
from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.scans import find_label_maps
from nnunet_cel.settings import Settings
from nnunet_cel.study.models import (
    cel_datasets,
    model_folder,
    trainings,
    wmh_dataset,
)
from nnunet_cel.study.study import Data, Study
from nnunet_cel.volumes import read_label_map

__all__ = ["check_feasible", "count_parameters", "required_bytes"]

_BYTES_PER_VALUE = 4  # float32
_VALUES_PER_PARAMETER = 3  # itself, and the two moments of Adam
_CHECKPOINTS = 2  # the best and the final one of each fold
_PREPARED = 5  # preprocessed cases and label maps, in multiples of the raw ones
_BYTES_PER_PHANTOM_VOXEL = 12  # scan, raw and preprocessed case
_VOXELS = 182 * 218 * 182  # of a phantom of 1 mm
_CONVERT = "nnunet_cel.dataset_conversion.command"


def check_feasible(study: Study, out: Path, *, local: bool = True) -> None:
    """Check all that can be known before the first job.

    Args:
        study: The study.
        out: Folder of the study.
        local: Whether jobs run on this machine.

    Raises:
        ValueError: If anything is not what it must be; the message lists all of it.
    """
    problems: list[str] = []
    channels = {}
    for kind, data in (("wmh", study.wmh), ("cel", study.cel)):
        for check in (_check_sources, _check_phantoms, _check_options):
            problems += _problems(check, kind, data)
        if data.dataset:
            problems += _problems(_check_dataset, kind, data)
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                channels[kind] = len(_dataset_json(Path(data.dataset))["channel_names"])
    if len(set(channels.values())) > 1:
        problems.append(
            "The data sets 'data.wmh.dataset' and 'data.cel.dataset' must have the "
            "same number of channels, because weights go from one to the other. Got "
            f"{channels}."
        )
    if study.cel.dataset:
        problems += _problems(_check_test_half, study)
        if wmh_dataset(study)[:10] == cel_datasets(study)[0][:10]:
            problems.append(
                "The data sets 'data.wmh.dataset' and 'data.cel.dataset' must have "
                f"different numbers. Got {wmh_dataset(study)} and "
                f"{cel_datasets(study)[0]}: rename one."
            )
    built = _problems(_check_networks, study)
    problems += built
    if local:
        problems += _problems(_check_device, study)
    if study.nnunet.configurations:
        problems += _problems(_check_trainer, study)
    if not built:
        problems += _problems(_check_space, study, out)
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"The study has {len(problems)} problems:\n{listed}")


def count_parameters(study: Study, configuration: str) -> int:
    """Return the parameters of the network of a configuration, with two heads.

    Raises:
        ValueError: If the network cannot be built from its arguments.
        ImportError: If it needs a package that is not installed.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    declared = configurations()[configuration]
    arguments = study.training.arch_kwargs.get(declared["network"], {})
    entry = architecture(declared["network"], **arguments)
    stack = Settings(**declared["settings"]).stack_size
    try:
        network = get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"],
            entry["_kw_requires_import"],
            stack,
            2,
            allow_init=False,
        )
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"The 'training.arch_kwargs.{declared['network']}' of the study must be "
            f"what the network takes. Got {dict(arguments)}: {error}"
        ) from error
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def required_bytes(study: Study, out: Path) -> int:
    """Return about how many bytes the study is still going to write.

    Args:
        study: The study.
        out: Folder of the study, whose models need no more space.
    """
    planned = [p.parent.name for p in out.glob("preprocessed/*/FCADensePlans.json")]
    total = 0
    for data, names in (
        (study.wmh, [wmh_dataset(study)]),
        (study.cel, cel_datasets(study)),
    ):
        times = len(set(names) - set(planned))
        raw = sum(map(_size, data.sources.values()))
        total += times * raw * (1 + _PREPARED)
        total += times * _size(data.dataset) * _PREPARED if data.dataset else 0
        voxels = sum(data.phantoms.values()) * _VOXELS / data.spacing**3
        total += int(times * voxels) * _BYTES_PER_PHANTOM_VOXEL
    parameters: dict[str, int] = {}
    for stage, dataset, configuration in trainings(study):
        model = out / model_folder(study, stage, dataset, configuration)
        if stage == "nnunet" or model.is_dir():
            continue
        if configuration not in parameters:
            parameters[configuration] = count_parameters(study, configuration)
        folds = study.training.folds if stage == "pretrained" else 1
        values = parameters[configuration] * _VALUES_PER_PARAMETER * _CHECKPOINTS
        total += folds * values * _BYTES_PER_VALUE
    return total


def _problems(check: Callable[..., Iterator[str]], *arguments: Any) -> list[str]:
    """Return what a check complains of, with its errors."""
    found: list[str] = []
    try:
        found.extend(check(*arguments))
    except (ValueError, OSError, ImportError) as error:
        found.append(str(error))
    return found


def _check_sources(kind: str, data: Data) -> Iterator[str]:
    for name, path in data.sources.items():
        if not Path(path).exists():
            key = "source" if kind == "cel" else f"sources.{name}"
            yield (
                f"The 'data.{kind}.{key}' of the study must exist. There is no {path}."
            )


def _check_phantoms(kind: str, data: Data) -> Iterator[str]:
    if data.phantoms and importlib.util.find_spec("nilearn") is None:
        yield (
            f"The 'data.{kind}.phantoms' of the study needs nilearn, which is not "
            "installed: pip install 'nnunet-cel[demo]'"
        )


def _check_options(kind: str, data: Data) -> Iterator[str]:
    """Let the command that gets the options say what it thinks of them."""
    if not data.options:
        return
    command = importlib.import_module(_CONVERT)
    parser = argparse.ArgumentParser(prog="nnunet-cel convert", add_help=False)
    command.add_arguments(parser)
    source = ["wmh"] if kind == "wmh" else ["cel", "SOURCE"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args([*source, *data.options])
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        yield (
            f"The 'data.{kind}.options' of the study must be options of 'nnunet-cel "
            f"convert {kind}'. Got {list(data.options)}: {reason}"
        )


def _check_dataset(kind: str, data: Data) -> Iterator[str]:
    """Check that a raw data set is one."""
    folder = Path(data.dataset)
    key = f"data.{kind}.dataset"
    if not folder.is_dir():
        yield f"The '{key}' of the study must exist. There is no {folder}."
        return
    if not re.fullmatch(r"Dataset\d{3}_\w+", folder.name):
        yield (
            f"The '{key}' of the study must be called as nnU-Net wants it, "
            f"Dataset502_CEL. Got {folder.name!r} instead: rename it."
        )
    _dataset_json(folder)
    for name in ("imagesTr", "labelsTr"):
        if not (folder / name).is_dir():
            yield f"The '{key}' of the study must have {name}. {folder} has none."


def _dataset_json(folder: Path) -> dict[str, Any]:
    """Return what describes a raw data set."""
    path = folder / "dataset.json"
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"The file {path} is not JSON: {error}.") from error
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The data set {folder} must have a dataset.json. It has none."
        ) from None
    if not isinstance(content, dict) or "channel_names" not in content:
        raise ValueError(f"The file {path} must have channel_names. It has none.")
    return content


def _check_test_half(study: Study) -> Iterator[str]:
    """Check that the test half has references, and lesions in them."""
    folder = Path(study.cel.dataset)
    if not folder.is_dir():
        return
    what = "The 'data.cel.dataset' of the study"
    if not (folder / "labelsTs").is_dir() or not (folder / "imagesTs").is_dir():
        yield (
            f"{what} must have a test half, imagesTs and labelsTs. {folder} has none: "
            "'nnunet-cel convert cel' makes one."
        )
        return
    labels = _dataset_json(folder).get("labels", {})
    ignored = labels.get("ignore") if isinstance(labels, dict) else None
    maps = find_label_maps(folder / "labelsTs")
    free = []
    for case, path in maps.items():
        voxels = read_label_map(path).voxels
        lesion = voxels > 0 if ignored is None else (voxels > 0) & (voxels != ignored)
        if not lesion.any():
            free.append(case)
    if len(free) == len(maps):
        yield (
            f"{what} must have lesions in its test half. None of the {len(maps)} label "
            f"maps in {folder / 'labelsTs'} has any: there is nothing to measure."
        )


def _check_networks(study: Study) -> Iterator[str]:
    """Build every network that is asked for."""
    wanted = {c: stage for stage, _, c in trainings(study) if stage != "nnunet"}
    built: set[str] = set()
    for configuration in wanted:
        network = configurations()[configuration]["network"]
        if network not in built:
            built.add(network)
            yield from _problems(_build, study, configuration)


def _build(study: Study, configuration: str) -> Iterator[str]:
    count_parameters(study, configuration)
    yield from ()


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

    name = study.nnunet.trainer
    try:
        found = recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        found = None
    if found is None:
        yield (
            "The 'nnunet.trainer' of the study must be a trainer that nnU-Net finds. "
            f"Got {name!r} instead."
        )


def _check_space(study: Study, out: Path) -> Iterator[str]:
    place = out.absolute()
    while not place.exists():
        place = place.parent
    needed, free = required_bytes(study, out), shutil.disk_usage(place).free
    if needed > free:
        yield (
            f"The disk of {place} must have room for the study, about "
            f"{needed / 1e9:.1f} GB. {free / 1e9:.1f} GB are free: make room, or name "
            "another folder with 'out'."
        )


def _size(path: str) -> int:
    """Return the bytes of a file or of all files in a folder, 0 if there is none."""
    root = Path(path)
    if root.is_file():
        return root.stat().st_size
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
