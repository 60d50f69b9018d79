"""Checks before the first job that a study can be done on this machine.

Files must be where the study says, test scans must have lesions, networks must be what
can be built. All that is wrong is said at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_cel.files import read_json
from nnunet_cel.planning.declarations import configurations
from nnunet_cel.scans import find_label_maps
from nnunet_cel.study.models import figure_methods, table_methods, table_names
from nnunet_cel.study.plans import count_parameters
from nnunet_cel.study.study import Study
from nnunet_cel.volumes import read_label_map

__all__ = ["check_feasible"]


def check_feasible(study: Study, *, local: bool = True) -> None:
    """Refuse what can be known to fail before the first job.

    Args:
        study: The study.
        local: Whether jobs run on this machine.

    Raises:
        ValueError: If anything is not what it must be; the message lists all of it.
    """
    problems = [*_missing_paths(study), *_networks_not_built(study)]
    dataset = study.data.cel.dataset
    if dataset and Path(dataset).is_dir() and not _has_test_lesions(Path(dataset)):
        problems.append(
            "The 'data.cel.dataset' of the study must have a test half with lesions. "
            f"None of the label maps in {Path(dataset) / 'labelsTs'} has any: there is "
            "nothing to measure. 'nnunet-cel convert cel' makes a test half."
        )
    if local and not _has_device(study.device):
        problems.append(
            f"The 'device' of the study must be one of this machine. Got "
            f"{study.device!r} instead: change it, or run the jobs elsewhere with "
            "--profile."
        )
    if problems:
        raise ValueError("\n".join(problems))


def _missing_paths(study: Study) -> Iterator[str]:
    wmh, cel = study.data.wmh, study.data.cel
    paths = {
        "data.wmh.dataset": wmh.dataset,
        "data.cel.dataset": cel.dataset,
        "data.cel.source": cel.source,
        **{f"data.wmh.sources.{name}": path for name, path in wmh.sources.items()},
        **{
            f"training.arch_kwargs.{network}.{name}": value
            for network, arguments in study.training.arch_kwargs.items()
            for name, value in arguments.items()
            if name.endswith("_file")
        },
    }
    for name, path in paths.items():
        if path and not Path(path).exists():
            yield f"The '{name}' of the study must exist. There is no {path}."


def _networks_not_built(study: Study) -> Iterator[str]:
    """Build every network that is asked for."""
    methods = [m for name in table_names(study) for m in table_methods(study, name)]
    methods += [m for figure in study.figures for m in figure_methods(study, figure)]
    declared = configurations()
    for configuration in {
        declared[method.configuration]["network"]: method.configuration
        for method in methods
        if method.stage != "nnunet"
    }.values():
        try:
            count_parameters(study, configuration)
        except (ValueError, ImportError) as error:
            yield str(error)


def _has_test_lesions(dataset: Path) -> bool:
    """Return whether a label map of the test half has a voxel of a lesion."""
    folder = dataset / "labelsTs"
    ignored = read_json(dataset / "dataset.json").get("labels", {}).get("ignore")
    files = find_label_maps(folder).values() if folder.is_dir() else []
    maps = (read_label_map(file).voxels for file in files)
    return any(((voxels > 0) & (voxels != ignored)).any() for voxels in maps)


def _has_device(name: str) -> bool:
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    return {"cpu": True, "cuda": cuda, "mps": mps}[name]
