"""What a study asks for: the content of ``study.yaml``, parsed and checked.

Everything that can be told from the file alone is checked here; what only the machine
can tell is in :mod:`nnunet_cel.study.feasibility`. ``docs/protocol.md`` explains every
key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nnunet_cel.evaluation.protocol import PROTOCOLS, load_protocol
from nnunet_cel.phantom.layouts import LAYOUTS
from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.schema import Model, closest, parse
from nnunet_cel.settings import Settings

__all__ = [
    "RESOURCES",
    "CelData",
    "Data",
    "Study",
    "WmhData",
    "declared_networks",
    "parse_study",
    "read_study",
]

RESOURCES: Mapping[str, Mapping[str, int]] = {
    "convert": {"threads": 4, "mem_mb": 8_000, "runtime": 240},
    "plan": {"threads": 4, "mem_mb": 16_000, "runtime": 240},
    "train": {"threads": 8, "mem_mb": 24_000, "runtime": 4320, "gpu": 1},
    "predict": {"threads": 4, "mem_mb": 16_000, "runtime": 240, "gpu": 1},
    "evaluate": {"threads": 4, "mem_mb": 8_000, "runtime": 60},
    "report": {"threads": 1, "mem_mb": 8_000, "runtime": 60},
}
"""What a job of each kind may take: threads, MB of memory, minutes, GPUs."""

# What sets the rows of the tables apart, and what planner and trainer write.
_NOT_FOR_ALL = {"neighbor_pairs", "loss", "lesion_weight", "heads"}
# Options of `nnunet-cel convert` that the workflow gives itself.
_OURS = [
    *("-o", "--out", "-d", "--dataset-id", "--name", "--seed", "--overwrite"),
    *("-np", "--processes", "--no-progress", "--linking-table", "--list"),
]


def declared_networks() -> list[str]:
    """Return the names of the networks that ``plans/`` declares for all tables."""
    return [c["network"] for c in configurations().values() if not c["settings"]]


def _require(allowed: object, rule: str, got: object, cure: str = "") -> None:
    """Refuse what is not allowed."""
    if not allowed:
        raise ValueError(f"must {rule}. Got {got!r} instead.{cure}")


def _require_names(names: Collection[str], known: Collection[str], what: str) -> None:
    for name in names:
        rule = f"name {what}: {', '.join(known)}"
        _require(name in known, rule, name, closest(name, known))


def _absolute(path: str, info: ValidationInfo) -> str:
    """Return a path that does not depend on the current folder."""
    _require(path.strip(), "be a path", path)
    return str(Path(info.context or "") / path)


def _file(path: str, info: ValidationInfo) -> str:
    """Return the absolute path of a file that exists."""
    whole = _absolute(path, info)
    _require(Path(whole).is_file(), "be a file that exists", path)
    return whole


def _dataset(path: str) -> str:
    """Refuse a raw data set that nnU-Net would not find."""
    name = Path(path).name
    rule = "be called as nnU-Net wants it, Dataset502_CEL"
    _require(re.fullmatch(r"Dataset\d{3}_\w+", name), rule, name, " Rename it.")
    return path


def _networks(names: list[str]) -> list[str]:
    """Return networks in the order of the tables."""
    known = declared_networks()
    _require_names(names, known, "networks")
    _require(names, "name at least one network", names)
    return [name for name in known if name in names]


def _protocol(value: str, info: ValidationInfo) -> str:
    """Return the name of a protocol of the evaluation, or the path of its file."""
    if value in PROTOCOLS:
        return value
    path = _file(value, info)
    load_protocol(path)
    return path


def _trainer(name: str) -> str:
    """Refuse what a shell could take for more than a name."""
    _require(name.isidentifier(), "be the name of a trainer", name)
    return name


def _shared(settings: Settings) -> Settings:
    """Refuse settings that make rows of tables, or that planner and trainer write."""
    own = sorted(settings.model_fields_set & _NOT_FOR_ALL)
    _require(not own, "be settings that all rows can share", own, " Leave them out.")
    return settings


def _arguments(
    given: dict[str, dict[str, Any]], info: ValidationInfo
) -> dict[str, dict[str, Any]]:
    """Return arguments of networks, with absolute paths of files."""
    _require_names(given, declared_networks(), "networks")
    whole = {network: dict(arguments) for network, arguments in given.items()}
    for network, arguments in whole.items():
        known = architecture(network)["arch_kwargs"]
        _require_names(arguments, known, f"arguments of {network}")
        for name, value in arguments.items():
            if name.endswith("_file") and value is not None:
                arguments[name] = _file(str(value), info)
    return whole


def _resources(given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what jobs of all kinds may take."""
    _require_names(given, RESOURCES, "kinds of jobs")
    for kind, taken in given.items():
        for name, amount in taken.items():
            least = 1 if name == "threads" else 0
            counted = type(amount) is int and amount >= least
            # Names that are not ours, such as slurm_partition, are the executor's.
            text = isinstance(amount, str) and name not in RESOURCES["train"]
            rule = f"have an integer >= {least} for '{kind}.{name}'"
            _require(counted or text, rule, amount)
    return {kind: {**rest, **given.get(kind, {})} for kind, rest in RESOURCES.items()}


Place = Annotated[str, AfterValidator(_absolute)]
SharedSettings = Annotated[Settings, AfterValidator(_shared)]
InOrder = AfterValidator(lambda numbers: sorted(set(numbers)))


class Section(Model):
    """A part of the file; a key without a value stands for its default."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, content: Any) -> Any:
        if isinstance(content, Mapping):
            return {k: v for k, v in content.items() if v is not None}
        return content


class Data(Section):
    """Where a data set comes from: it exists, is converted, or is synthetic.

    Args:
        dataset: Folder of a raw data set of nnU-Net that exists.
        phantoms: Numbers of synthetic scans by the name of a layout.
        spacing: Voxel edge of the synthetic scans in mm.
        options: More options for `nnunet-cel convert`.
    """

    kind: ClassVar[str]
    origins: ClassVar[Sequence[str]]

    dataset: Annotated[Place, AfterValidator(_dataset)] | None = None
    phantoms: dict[str, int] = Field(default={})
    spacing: float = Field(default=1.0, ge=1, le=8)
    options: list[Any] = Field(default=[])

    @property
    def given(self) -> list[str]:
        """Which of the keys that say where it comes from are given."""
        return [key for key in self.origins if getattr(self, key)]

    @field_validator("phantoms")
    @classmethod
    def _fit_layouts(cls, phantoms: dict[str, int]) -> dict[str, int]:
        sizes = {k: len(v.slots) for k, v in LAYOUTS.items() if v.kind == cls.kind}
        _require_names(phantoms, sizes, f"layouts of {cls.kind}")
        for name, count in phantoms.items():
            rule = f"be from 1 to {sizes[name]} for {name}"
            _require(1 <= count <= sizes[name], rule, count)
        one = cls.kind == "wmh" or len(phantoms) < 2
        _require(one, "be of one layout", list(phantoms))
        return phantoms

    @field_validator("options")
    @classmethod
    def _are_not_ours(cls, options: list[Any]) -> list[str]:
        texts = [str(option) for option in options]
        rule = f"be options of 'nnunet-cel convert {cls.kind}' that the study lacks"
        for option in texts:
            free = option.partition("=")[0] not in _OURS
            _require(free, rule, option, " Leave it out.")
        return texts


class WmhData(Data):
    """Scans with white matter hyperintensities.

    Args:
        sources: Folders for `nnunet-cel convert wmh`, by the public data set's name.
    """

    kind = "wmh"
    origins = ("dataset", "sources", "phantoms")

    sources: dict[Literal["isbi2015", "msseg2016", "wmh2017"], Place] = Field(
        default={}
    )

    @property
    def paths(self) -> dict[str, str]:
        """What is to be converted, by the keys of the file."""
        return {f"sources.{name}": path for name, path in self.sources.items()}


class CelData(Data):
    """Scans with enhancing lesions.

    Args:
        source: Folder or table for `nnunet-cel convert cel`.
    """

    kind = "cel"
    origins = ("dataset", "source", "phantoms")

    source: Place | None = None

    @property
    def paths(self) -> dict[str, str]:
        """What is to be converted, by the keys of the file."""
        return {"source": self.source} if self.source else {}


class AllData(Section):
    """Both data sets; Table 5 alone needs no pretraining."""

    wmh: WmhData = WmhData()
    cel: CelData = CelData()


class Planning(Section):
    """How both data sets are planned.

    Args:
        spacing: Voxel edge in mm that images are resampled to.
        gpu_memory: GB of GPU memory to plan for.
    """

    spacing: float = Field(default=1.0, gt=0)
    gpu_memory: float = Field(default=11.0, gt=0)


class Training(Section):
    """How models are trained, as far as it differs from the plans.

    Args:
        folds: Number of folds of the pretraining.
        batch_size: Stacks in a batch; None is what the planner says.
        small_window: Edge in voxels of the small windows of Table 5.
        settings: Settings of all trainings, see ``docs/settings.md``.
        pretraining: Settings of the pretraining alone.
        finetuning: Settings of fine-tuning and direct training alone.
        arch_kwargs: Arguments of networks, by the name of the network.
    """

    folds: int = Field(default=5, ge=1, le=5)
    batch_size: int | None = Field(default=None, ge=1)
    small_window: int = Field(default=64, ge=1)
    settings: SharedSettings = Settings()
    pretraining: SharedSettings = Settings()
    finetuning: SharedSettings = Settings()
    arch_kwargs: Annotated[dict[str, dict[str, Any]], AfterValidator(_arguments)] = (
        Field(default={})
    )


class NnUNet(Section):
    """nnU-Net's own models, trained directly on enhancing lesions.

    Args:
        configurations: Names of nnU-Net's configurations, none of them by default.
        trainer: Name of nnU-Net's trainer.
    """

    configurations: Annotated[list[Literal["2d", "3d_fullres"]], InOrder] = Field(
        default=[]
    )
    trainer: Annotated[str, AfterValidator(_trainer)] = "nnUNetTrainer"


class Study(Section):
    """A study.

    Args:
        out: Folder of all that comes of it.
        data: Scans.
        networks: Names of the networks, in the order of the tables.
        tables: Numbers of the paper's tables that are wanted.
        figures: Numbers of the paper's figures that are wanted.
        paper: Whether the paper's numbers stand beside the study's.
        splits: Number of random divisions of the CEL scans.
        seed: Seed of phantoms, folds and divisions.
        device: Where nnU-Net trains and predicts.
        protocol: Protocol of the evaluation, a name or a file.
        planning: How the data sets are planned.
        training: How models are trained.
        nnunet: nnU-Net's own models.
        resources: What a job of each kind may take, by the names that Snakemake and
            its executors give to resources.
    """

    out: Place | None = None
    data: AllData
    networks: Annotated[
        list[str],
        BeforeValidator(lambda v: declared_networks() if v == "all" else v),
        AfterValidator(_networks),
    ] = Field(default_factory=declared_networks)
    tables: Annotated[list[Literal[2, 3, 4, 5, 6, 7, 8]], InOrder] = Field(
        default=[2, 3, 4, 5, 6, 7, 8]
    )
    figures: Annotated[list[Literal[7, 8, 9]], InOrder] = Field(default=[7, 8, 9])
    paper: bool = True
    splits: int = Field(default=1, ge=1, le=100)
    seed: int = Field(default=0, ge=0)
    device: Literal["cuda", "cpu", "mps"] = "cuda"
    protocol: Annotated[str, AfterValidator(_protocol)] = "paper"
    planning: Planning = Planning()
    training: Training = Training()
    nnunet: NnUNet = NnUNet()
    resources: Annotated[dict[str, dict[str, Any]], AfterValidator(_resources)] = Field(
        default_factory=lambda: _resources({})
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        wmh, cel = self.data.wmh, self.data.cel
        for data in (wmh, cel):
            needed = data is cel or self.tables != [5] or self.figures
            if len(data.given) > 1 or (needed and not data.given):
                raise ValueError(
                    f"The 'data.{data.kind}' of the study must be given by exactly one "
                    f"of {', '.join(data.origins)}. Got "
                    f"{' and '.join(data.given) or 'none'}."
                )
        if not self.tables and not self.figures:
            raise ValueError(
                "The 'tables' or the 'figures' of the study must name something. Got "
                "none."
            )
        if self.splits > 1 and cel.dataset:
            raise ValueError(
                "The 'splits' of the study must be 1 with 'data.cel.dataset', which is "
                f"divided already. Got {self.splits} instead. Name the scans with "
                "'data.cel.source' for more divisions."
            )
        names = [Path(path or "").name for path in (wmh.dataset, cel.dataset)]
        if all(names) and names[0][:10] == names[1][:10]:
            raise ValueError(
                "The data sets 'data.wmh.dataset' and 'data.cel.dataset' must have "
                f"different numbers. Got {' and '.join(names)}: rename one."
            )
        return self


def read_study(path: Path) -> Study:
    """Read a study.

    Args:
        path: The YAML file; paths in it are relative to its folder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML, or anything in it is not what it must be; the
            message lists all of it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no study {path}. 'nnunet-cel protocol init {path}' writes one."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"The study {path} is not YAML: {error}") from error
    return parse_study(content, folder=path.absolute().parent, what=path.name)


def parse_study(content: object, *, folder: Path, what: str = "study.json") -> Study:
    """Return the study that a mapping describes.

    Args:
        content: The mapping.
        folder: Folder that paths are relative to.
        what: Name of its file, for messages.

    Raises:
        ValueError: If anything is not what it must be; the message lists all of it.
    """
    return parse(Study, content, what, context=folder)
