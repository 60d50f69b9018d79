"""What a study asks for: the content of ``study.yaml``, parsed and checked.

Everything that can be told from the file alone is checked here, and all that is wrong
is said at once. What only the machine can tell is in
:mod:`nnunet_cel.study.feasibility`. ``docs/protocol.md`` explains every key.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nnunet_cel.phantom.layouts import LAYOUTS
from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.settings import Settings
from nnunet_cel.study.keys import Section, closest

__all__ = [
    "FIGURES",
    "RESOURCES",
    "TABLES",
    "Data",
    "NnUNet",
    "Planning",
    "Study",
    "Training",
    "declared_networks",
    "parse_study",
    "read_study",
]

TABLES = (2, 3, 4, 5, 6, 7, 8)
"""Tables of the paper that a study can have."""

FIGURES = (7, 8, 9)
"""Figures of the paper that a study can have."""

RESOURCES: Mapping[str, Mapping[str, int]] = {
    "convert": {"threads": 4, "mem_mb": 8_000, "runtime": 240},
    "plan": {"threads": 4, "mem_mb": 16_000, "runtime": 240},
    "train": {"threads": 8, "mem_mb": 24_000, "runtime": 4320, "gpu": 1},
    "predict": {"threads": 4, "mem_mb": 16_000, "runtime": 240, "gpu": 1},
    "evaluate": {"threads": 4, "mem_mb": 8_000, "runtime": 60},
    "report": {"threads": 1, "mem_mb": 8_000, "runtime": 60},
}
"""What a job of each kind may take: threads, MB of memory, minutes, GPUs."""

_WMH_SOURCES = ("isbi2015", "msseg2016", "wmh2017")
_DEVICES = ("cpu", "cuda", "mps")
_PROTOCOLS = ("paper", "anima")
_NNUNET = ("2d", "3d_fullres")
# What sets the rows of the tables apart, and what planner and trainer write.
_NOT_FOR_ALL = ("neighbor_pairs", "loss", "lesion_weight", "heads")
_OURS = ("-o", "--out", "-d", "--dataset-id", "--name", "--seed", "--overwrite")
_ALSO_OURS = ("-np", "--processes", "--no-progress", "--linking-table", "--list")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where a data set comes from; exactly one of the first three is given.

    Args:
        dataset: Folder of a raw data set of nnU-Net that exists, else empty.
        sources: Folders, or a table, for `nnunet-cel convert`, by the data set's name.
        phantoms: Numbers of synthetic scans by the name of a layout.
        spacing: Voxel edge of the synthetic scans in mm.
        options: More options for `nnunet-cel convert`.
    """

    dataset: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    phantoms: Mapping[str, int] = field(default_factory=dict)
    spacing: float = 1.0
    options: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Planning:
    """How both data sets are planned.

    Args:
        spacing: Voxel edge in mm that images are resampled to.
        gpu_memory: GB of GPU memory to plan for.
    """

    spacing: float = 1.0
    gpu_memory: float = 11.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """How models are trained, as far as it differs from the plans.

    Args:
        folds: Number of folds of the pretraining, from 1 to 5.
        batch_size: Stacks in a batch; None is what the planner says.
        small_window: Edge in voxels of the small windows of Table 5.
        settings: Settings of all trainings, see ``docs/settings.md``.
        pretraining: Settings of the pretraining alone.
        finetuning: Settings of fine-tuning and direct training alone.
        arch_kwargs: Arguments of networks, by the name of the network.
    """

    folds: int = 5
    batch_size: int | None = None
    small_window: int = 64
    settings: Mapping[str, Any] = field(default_factory=dict)
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    finetuning: Mapping[str, Any] = field(default_factory=dict)
    arch_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NnUNet:
    """nnU-Net's own models, trained directly on enhancing lesions.

    Args:
        configurations: Names of nnU-Net's configurations, none of them by default.
        trainer: Name of nnU-Net's trainer.
    """

    configurations: Sequence[str] = ()
    trainer: str = "nnUNetTrainer"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study.

    Args:
        wmh: Scans with white matter hyperintensities.
        cel: Scans with enhancing lesions.
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

    wmh: Data
    cel: Data
    networks: Sequence[str]
    tables: Sequence[int] = TABLES
    figures: Sequence[int] = FIGURES
    paper: bool = True
    splits: int = 1
    seed: int = 0
    device: str = "cuda"
    protocol: str = "paper"
    planning: Planning = field(default_factory=Planning)
    training: Training = field(default_factory=Training)
    nnunet: NnUNet = field(default_factory=NnUNet)
    resources: Mapping[str, Mapping[str, int | str]] = field(
        default_factory=lambda: RESOURCES
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the study as the mapping that :func:`parse_study` takes."""
        content = dataclasses.asdict(self)
        content["data"] = {name: content.pop(name) for name in ("wmh", "cel")}
        cel = content["data"]["cel"]
        cel["source"] = cel.pop("sources").get("cel", "")
        whole: dict[str, Any] = _without_empty(content)
        return whole


def declared_networks() -> list[str]:
    """Return the names of the networks that ``plans/`` declares for all tables."""
    return [c["network"] for c in configurations().values() if not c["settings"]]


def read_study(path: Path) -> tuple[Study, Path]:
    """Read a study and the folder that it is to be written to.

    Without the key `out` that is ``NAME_study`` in the current folder for NAME.yaml.

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
    folder = path.absolute().parent
    problems: list[str] = []
    if not isinstance(content, Mapping):
        raise ValueError(
            f"The study {path} must be a mapping of keys and values. Got "
            f"{reprlib.repr(content)} instead. 'nnunet-cel protocol init' writes an "
            "example."
        )
    out = content.get("out")
    if out is not None and not _is_text(out):
        problems.append(
            f"The 'out' of the study must be a folder to write to. Got {out!r} instead."
        )
    rest = {key: value for key, value in content.items() if key != "out"}
    study = _parse(rest, folder, problems)
    _raise(problems, f"The study {path}")
    return study, folder / out if out else Path.cwd() / f"{path.stem}_study"


def parse_study(content: Mapping[str, Any], *, folder: Path) -> Study:
    """Return the study that a mapping describes.

    Args:
        content: The mapping, without the key ``out``.
        folder: Folder that paths are relative to.

    Raises:
        ValueError: If anything is not what it must be; the message lists all of it.
    """
    problems: list[str] = []
    study = _parse(content, folder, problems)
    _raise(problems, "The study")
    return study


def _raise(problems: list[str], what: str) -> None:
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"{what} has {len(problems)} problems:\n{listed}")


def _parse(content: Mapping[str, Any], folder: Path, problems: list[str]) -> Study:
    top = Section(content, "", problems)
    tables = _numbers(top, "tables", TABLES)
    figures = _numbers(top, "figures", FIGURES)
    if not tables and not figures:
        top.complain(
            "The 'tables' or the 'figures' of the study must name something. Got none."
        )
    data = top.section("data")
    # Table 5 needs no pretraining.
    needs_wmh = tables != [5] or bool(figures)
    wmh = _parse_data(data.section("wmh"), folder, kind="wmh", needed=needs_wmh)
    cel = _parse_data(data.section("cel"), folder, kind="cel")
    data.finish()
    splits = top.take("splits", 1, "an integer from 1 to 100", _integer(1, 100))
    if splits > 1 and cel.dataset:
        top.fail(
            "splits",
            "1 with 'data.cel.dataset', which is divided already",
            splits,
            " Name the scans with 'data.cel.source' for more divisions.",
        )
    planning, nnunet = top.section("planning"), top.section("nnunet")
    study = Study(
        wmh=wmh,
        cel=cel,
        networks=_networks(top),
        tables=tables,
        figures=figures,
        paper=top.take("paper", True, "true or false", _is_flag),
        splits=splits,
        seed=top.take("seed", 0, "an integer >= 0", _integer(0)),
        device=_choice(top, "device", _DEVICES, "cuda"),
        protocol=_protocol(top, folder),
        planning=Planning(
            spacing=planning.take("spacing", 1.0, "a number > 0, in mm", _is_positive),
            gpu_memory=planning.take(
                "gpu_memory", 11.0, "a number > 0, in GB", _is_positive
            ),
        ),
        training=_parse_training(top.section("training"), folder),
        nnunet=NnUNet(
            configurations=_subset(nnunet, "configurations", _NNUNET, ()),
            trainer=nnunet.take(
                "trainer", "nnUNetTrainer", "the name of a trainer", _is_name
            ),
        ),
        resources=_parse_resources(top.section("resources")),
    )
    planning.finish()
    nnunet.finish()
    top.finish()
    return study


def _parse_data(
    section: Section, folder: Path, *, kind: str, needed: bool = True
) -> Data:
    """Return where a data set comes from."""
    dataset = section.take("dataset", "", "the path of a folder", _is_text)
    if kind == "wmh":
        sources = {
            name: str(folder / str(value))
            for name, value in section.section("sources")
            .items(_WMH_SOURCES, "the name of a public data set")
            .items()
        }
    else:
        source = section.take("source", "", "the path of a folder or table", _is_text)
        sources = {"cel": str(folder / source)} if source else {}
    layouts = {name: lay.size for name, lay in LAYOUTS.items() if lay.kind == kind}
    phantoms = section.section("phantoms").items(layouts, f"a layout of {kind}")
    for name, count in phantoms.items():
        if not _integer(1, layouts[name])(count):
            section.fail(
                section.name(f"phantoms.{name}"),
                f"an integer from 1 to {layouts[name]}",
                count,
            )
    if kind == "cel" and len(phantoms) > 1:
        section.fail(section.name("phantoms"), "one layout", list(phantoms))
    options = section.take("options", [], "a list", lambda v: isinstance(v, list))
    options = [str(option) for option in options]
    for option in options:
        if option.partition("=")[0] in (*_OURS, *_ALSO_OURS):
            section.fail(
                section.name("options"),
                f"options of 'nnunet-cel convert {kind}' that the study does not set",
                option,
                " Leave it out.",
            )
    spacing = section.take(
        "spacing",
        1.0,
        "a number from 1 to 8, in mm",
        lambda v: _is_number(v) and 1 <= v <= 8,
    )
    section.finish()
    own = "sources" if kind == "wmh" else "source"
    given = [name for name in ("dataset", own, "phantoms") if name in section]
    if len(given) > 1 or (needed and not given):
        section.fail(
            section.name("*").removesuffix(".*"),
            f"given by exactly one of 'dataset', '{own}', 'phantoms'",
            ", ".join(given) or "none",
        )
    return Data(
        dataset=str(folder / dataset) if dataset else "",
        sources=sources,
        phantoms=phantoms,
        spacing=float(spacing),
        options=options,
    )


def _parse_training(section: Section, folder: Path) -> Training:
    """Return how models are trained."""
    networks = declared_networks()
    arch_kwargs = section.section("arch_kwargs")
    arguments = {
        name: arch_kwargs.section(name).items(
            architecture(name)["arch_kwargs"], f"an argument of {name}"
        )
        for name in arch_kwargs.items(networks, "the name of a network")
    }
    for name, given in arguments.items():
        for key, value in given.items():
            if key.endswith("_file") and value is not None:
                given[key] = str(folder / str(value))
                if not Path(given[key]).is_file():
                    arch_kwargs.fail(
                        arch_kwargs.name(f"{name}.{key}"), "a file that exists", value
                    )
    training = Training(
        folds=section.take("folds", 5, "an integer from 1 to 5", _integer(1, 5)),
        batch_size=section.take("batch_size", None, "an integer >= 1", _integer(1)),
        small_window=section.take("small_window", 64, "an integer >= 1", _integer(1)),
        settings=_settings(section.section("settings")),
        pretraining=_settings(section.section("pretraining")),
        finetuning=_settings(section.section("finetuning")),
        arch_kwargs=arguments,
    )
    section.finish()
    return training


def _settings(section: Section) -> dict[str, Any]:
    """Return settings of trainings, each of which is checked."""
    known = [f.name for f in dataclasses.fields(Settings) if f.name not in _NOT_FOR_ALL]
    given = section.items(known, "a setting that all rows can share")
    for key, value in given.items():
        try:
            Settings(**{key: value})
        except ValueError as error:
            section.complain(
                str(error).replace(
                    f"The {key!r} setting", f"The {section.name(key)!r} of the study"
                )
            )
    return given


def _parse_resources(section: Section) -> dict[str, dict[str, int | str]]:
    """Return what a job of each kind may take."""
    resources: dict[str, dict[str, int | str]] = {
        kind: dict(defaults) for kind, defaults in RESOURCES.items()
    }
    for kind, given in section.items(RESOURCES, "a kind of job").items():
        if not isinstance(given, Mapping):
            section.fail(section.name(kind), "a mapping of resources", given)
            continue
        for name, value in given.items():
            allowed = (
                _integer(1 if name == "threads" else 0)(value)
                if name in RESOURCES["train"]
                else _integer(0)(value) or _is_text(value)
            )
            if not allowed:
                section.fail(f"{section.name(kind)}.{name}", "an integer >= 0", value)
            resources[kind][str(name)] = value
    return resources


def _networks(top: Section) -> list[str]:
    """Return the names of the networks in the order of the tables."""
    known = declared_networks()
    if top.take("networks", "all") == "all":
        return known
    return _subset(top, "networks", known, known)


def _numbers(top: Section, key: str, known: Sequence[int]) -> list[int]:
    """Return numbers of tables or figures in their order; null means all of them."""
    chosen = top.take(
        key,
        list(known),
        f"a list with any of {', '.join(map(str, known))}",
        lambda v: isinstance(v, list) and all(_integer()(n) and n in known for n in v),
    )
    return sorted(set(chosen))


def _subset(
    section: Section, key: str, known: Sequence[str], default: Sequence[str]
) -> list[str]:
    """Return a list of known names, in their known order."""
    value = section.take(key, None, "a list of names", lambda v: isinstance(v, list))
    if value is None:
        return list(default)
    for name in value:
        if name not in known:
            section.complain(
                f"The {section.name(key)!r} of the study must be of "
                f"{', '.join(known)}. Got {name!r} instead.{closest(name, known)}"
            )
    if not value and default:
        section.fail(section.name(key), "at least one name", value)
    return [name for name in known if name in value]


def _choice(section: Section, key: str, known: Sequence[str], default: str) -> str:
    value = section.take(key, default)
    if value not in known:
        section.fail(
            section.name(key),
            f"one of {', '.join(known)}",
            value,
            closest(value, known),
        )
        return default
    return str(value)


def _protocol(top: Section, folder: Path) -> str:
    """Return the name of a protocol of the evaluation, or the path of its file."""
    value = top.take("protocol", "paper", "a name or a YAML file", _is_text)
    if value in _PROTOCOLS:
        return str(value)
    path = folder / value
    if not path.is_file():
        top.fail("protocol", f"{', '.join(_PROTOCOLS)}, or a YAML file", value)
    return str(path)


def _without_empty(content: Any) -> Any:
    """Return content without empty texts, which stand for keys that are not given."""
    if isinstance(content, Mapping):
        return {k: _without_empty(v) for k, v in content.items() if v not in ("", {})}
    return list(content) if isinstance(content, tuple) else content


def _integer(low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a check for integers in a range."""
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: object) -> bool:
    return _is_number(value) and 0 < float(str(value)) < math.inf


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()
