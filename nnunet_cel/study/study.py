"""What a study asks for: the content of ``study.yaml``, parsed and checked.

What the file alone can tell is checked here; what only the machine can tell is in
:mod:`nnunet_cel.study.feasibility`, and what a job of the workflow says at once is left
to it. ``docs/protocol.md`` explains every key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from nnunet_cel.evaluation.protocol import PROTOCOLS, load_protocol
from nnunet_cel.planning.declarations import configurations
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


def declared_networks() -> list[str]:
    """Return the names of the networks that ``plans/`` declares for all tables."""
    return [c["network"] for c in configurations().values() if not c["settings"]]


def _absolute(path: str, info: ValidationInfo) -> str:
    """Return a path that does not depend on the current folder."""
    return str(Path(info.context or "") / path)


def _networks(names: Collection[str]) -> list[str]:
    """Return networks in the order of the tables."""
    known = declared_networks()
    for name in names:
        if name not in known:
            raise ValueError(
                f"must name networks: {', '.join(known)}. Got {name!r} instead."
                f"{closest(name, known)}"
            )
    return [name for name in known if name in names]


def _protocol(value: str, info: ValidationInfo) -> str:
    """Return the name of a protocol of the evaluation, or the path of its file."""
    value = value if value in PROTOCOLS else _absolute(value, info)
    load_protocol(value)
    return value


def _shared(settings: Settings) -> Settings:
    """Refuse settings that make rows of tables, or that planner and trainer write."""
    own = sorted(settings.model_fields_set & _NOT_FOR_ALL)
    if own:
        raise ValueError(
            f"must be settings that all rows can share. Got {', '.join(own)} instead. "
            "Leave them out."
        )
    return settings


def _arguments(given: Arguments, info: ValidationInfo) -> Arguments:
    """Return arguments of networks, with absolute paths of files."""
    for network in _networks(given):
        for name, value in given[network].items():
            if name.endswith("_file") and value is not None:
                given[network][name] = _absolute(str(value), info)
    return given


def _resources(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what jobs of all kinds may take."""
    return {kind: {**rest, **given.get(kind, {})} for kind, rest in RESOURCES.items()}


Arguments = dict[str, dict[str, Any]]
Place = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
Dataset = Annotated[
    str, Field(pattern=r"(^|/)Dataset\d{3}_\w+/?$"), AfterValidator(_absolute)
]
SharedSettings = Annotated[Settings, AfterValidator(_shared)]
InOrder = AfterValidator(lambda numbers: sorted(set(numbers)))
WmhSource = Literal["isbi2015", "msseg2016", "wmh2017"]
JobKind = Literal["convert", "plan", "train", "predict", "evaluate", "report"]


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

    `options` are more options for `nnunet-cel convert`; `spacing` is the voxel edge of
    synthetic scans in mm.
    """

    kind: ClassVar[str]

    dataset: Dataset | None = None
    spacing: float = Field(default=1.0, ge=1, le=8)
    options: Annotated[list[Any], AfterValidator(lambda v: [*map(str, v)])] = Field(
        default=[]
    )

    @property
    def given(self) -> list[str]:
        """Which of the keys that say where it comes from are given."""
        keys = ("dataset", "source", "sources", "phantoms")
        return [key for key in keys if getattr(self, key, None)]


class WmhData(Data):
    """Scans with white matter hyperintensities, from one or several sources."""

    kind = "wmh"

    sources: dict[WmhSource, Place] = Field(default={})
    phantoms: dict[WmhSource, PositiveInt] = Field(default={})


class CelData(Data):
    """Scans with enhancing lesions, from one folder, table or layout."""

    kind = "cel"

    source: Place | None = None
    phantoms: dict[Literal["cel-bids", "cel-dicom"], PositiveInt] = Field(
        default={}, max_length=1
    )


class AllData(Section):
    """Both data sets; Table 5 alone needs no pretraining."""

    wmh: WmhData = WmhData()
    cel: CelData = CelData()


class Planning(Section):
    """How both data sets are planned: spacing in mm, memory in GB."""

    spacing: PositiveFloat = 1.0
    gpu_memory: PositiveFloat = 11.0


class Training(Section):
    """How models are trained, as far as it differs from the plans.

    `settings` are of all trainings, `finetuning` of direct training as well, and
    `arch_kwargs` are arguments of networks by the name of the network.
    """

    folds: int = Field(default=5, ge=1, le=5)
    batch_size: PositiveInt | None = None
    small_window: PositiveInt = 64
    settings: SharedSettings = Settings()
    pretraining: SharedSettings = Settings()
    finetuning: SharedSettings = Settings()
    arch_kwargs: Annotated[Arguments, AfterValidator(_arguments)] = Field(default={})


class NnUNet(Section):
    """nnU-Net's own models, trained directly on enhancing lesions."""

    configurations: Annotated[list[Literal["2d", "3d_fullres"]], InOrder] = Field(
        default=[]
    )
    # a name only, because it becomes part of a command line
    trainer: str = Field(default="nnUNetTrainer", pattern=r"^[A-Za-z_]\w*$")


class Study(Section):
    """A study, with the keys that ``docs/protocol.md`` explains.

    `networks`, `tables` and `figures` are in the order of the paper. `resources` have
    the names that Snakemake and its executors give to them.
    """

    out: Place | None = None
    data: AllData
    networks: Annotated[
        list[str],
        BeforeValidator(lambda v: declared_networks() if v == "all" else v),
        Field(min_length=1),
        AfterValidator(_networks),
    ] = Field(default_factory=declared_networks)
    tables: Annotated[list[Literal[2, 3, 4, 5, 6, 7, 8]], InOrder] = Field(
        default=[2, 3, 4, 5, 6, 7, 8]
    )
    figures: Annotated[list[Literal[7, 8, 9]], InOrder] = Field(default=[7, 8, 9])
    paper: bool = True
    splits: int = Field(default=1, ge=1, le=100)
    seed: NonNegativeInt = 0
    device: Literal["cuda", "cpu", "mps"] = "cuda"
    protocol: Annotated[str, AfterValidator(_protocol)] = "paper"
    planning: Planning = Planning()
    training: Training = Training()
    nnunet: NnUNet = NnUNet()
    resources: Annotated[
        dict[JobKind, dict[str, NonNegativeInt | str]], AfterValidator(_resources)
    ] = Field(default={}, validate_default=True)

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        for data in (self.data.wmh, self.data.cel):
            needed = data.kind == "cel" or self.tables != [5] or self.figures
            if len(data.given) > 1 or (needed and not data.given):
                source = "sources" if data.kind == "wmh" else "source"
                raise ValueError(
                    f"The 'data.{data.kind}' of the study must be given by exactly one "
                    f"of dataset, {source}, phantoms. Got {data.given or 'none'}."
                )
        if self.splits > 1 and self.data.cel.dataset:
            raise ValueError(
                "The 'splits' of the study must be 1 with 'data.cel.dataset', which is "
                f"divided already. Got {self.splits}: give 'data.cel.source' instead."
            )
        return self


def read_study(path: Path) -> Study:
    """Read a study from a YAML file; paths in it are relative to its folder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML, or anything in it is not what it must be.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no study {path}. 'nnunet-cel protocol init {path}' writes one."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
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
