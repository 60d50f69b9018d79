"""Which models a study needs, what tables call them, and where their files are.

At which stage an ablation differs follows the paper. Losses and lesion weights differ
in fine-tuning only (section "Ablation experiments of various loss functions", Figure
9), so that they all start from the pretraining of `2d`. Another number of neighbors is
another network input and needs a pretraining of its own (Table 8).

All paths are relative to the folder of the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_cel.planning.declarations import BASE, configurations
from nnunet_cel.settings import Settings
from nnunet_cel.study.study import Data, Study

__all__ = [
    "CROSS_VALIDATION",
    "FOLD",
    "TITLES",
    "TRANSFER",
    "Method",
    "cel_datasets",
    "dataset_id",
    "evaluation_folders",
    "figure_methods",
    "fold_folder",
    "model_folder",
    "pretraining_of",
    "sweep",
    "table_methods",
    "table_names",
    "trainings",
    "wmh_dataset",
]

TRANSFER = "transfer"
"""Name of the table of direct training and fine-tuning."""

CROSS_VALIDATION = "crossvalidation"
"""In place of a stage: the pretraining folds on their own validation cases."""

FOLD = 0
"""Fold of the CEL training half whose validation part stops a training early."""

TITLES: Mapping[str, str] = {
    "fcadensenet": "FCA-DenseNet",
    "fcdensenet": "FC-DenseNet",
    "unet": "U-Net",
    "resunet": "ResUNet",
    "attentionunet": "Attention-UNet",
    "transunet": "TransUNet",
    "focal": "Focal",
    "cross_entropy": "CE",
    "dice": "Dice",
}
"""What the tables of the paper call networks and losses."""

_FULL = "full window"
_TRAINER, _PLANS, _STOCK_PLANS = "FCADenseTrainer", "FCADensePlans", "nnUNetPlans"


@dataclass(frozen=True)
class Method:
    """A model as a table names it.

    Args:
        title: Its column.
        stage: Its stage, or ``CROSS_VALIDATION``.
        configuration: Name of its configuration.
        block: Part of the table that it belongs to, empty if there is one part only.
        reference: Whether the others of its block are tested against it.
    """

    title: str
    stage: str
    configuration: str
    block: str = ""
    reference: bool = False


def wmh_dataset(study: Study) -> str:
    """Return the name of the data set for pretraining."""
    return _name_of(study.data.wmh) or "Dataset501_WMH"


def cel_datasets(study: Study) -> list[str]:
    """Return the name of the CEL data set of each split."""
    name = _name_of(study.data.cel)
    if name:
        return [name]
    first = 502 + (dataset_id(wmh_dataset(study)) == 502)
    ids = [n for n in range(first, first + study.splits + 1)]
    taken = dataset_id(wmh_dataset(study))
    return [f"Dataset{n:03d}_CEL" for n in ids if n != taken][: study.splits]


def dataset_id(dataset: str) -> int:
    """Return the number in the name of a data set."""
    return int(dataset.removeprefix("Dataset")[:3])


def table_names(study: Study) -> list[str]:
    """Return the names of all tables of a study.

    They are those of the paper and, where Tables 5 and 6 are among them, `transfer`,
    which puts direct training and fine-tuning of every network side by side.
    """
    names = [f"table{number}" for number in study.tables]
    return names + ([TRANSFER] if {5, 6} <= set(study.tables) else [])


def table_methods(study: Study, name: str) -> list[Method]:
    """Return the methods of a table, in their order."""
    if name == TRANSFER:
        return _transfer_methods(study)
    if name == "table3":
        return _network_methods(study, CROSS_VALIDATION)
    if name == "table4":
        return _network_methods(study, "pretrained")
    if name == "table5":
        full = _network_methods(study, "direct", block=_FULL)
        return _small_methods(study) + full + _stock_methods(study, block=_FULL)
    if name == "table7":
        return _ablation("loss", _title)
    if name == "table8":
        return _ablation("neighbor_pairs", _neighbors)
    methods = _network_methods(study, "finetuned")  # Tables 2 and 6
    return methods + (_stock_methods(study) if name == "table6" else [])


def figure_methods(study: Study, figure: int) -> list[Method]:
    """Return the methods that a figure of the paper shows."""
    if figure == 7:
        return table_methods(study, "table6")
    if figure == 8:
        return [Method(_title("fcadensenet"), "finetuned", BASE)]
    return [method for _, method in sweep()]


def sweep() -> list[tuple[float, Method]]:
    """Return the lesion weights of Figure 9 with their methods, in rising order."""
    weights = _values("lesion_weight")
    return sorted(
        (
            (weight, Method(f"{weight:g}", "finetuned", name))
            for name, weight in weights.items()
        ),
        key=lambda pair: pair[0],
    )


def pretraining_of(configuration: str) -> str:
    """Return the configuration whose pretraining another one is fine-tuned from.

    It has the same network and the same number of neighbors, and the defaults in all
    else.
    """
    declared = configurations()
    network = declared[configuration]["network"]
    wanted = {
        key: value
        for key, value in declared[configuration]["settings"].items()
        if key == "neighbor_pairs"
    }
    return next(
        name
        for name, other in declared.items()
        if other["network"] == network and other["settings"] == wanted
    )


def trainings(study: Study) -> list[tuple[str, str, str]]:
    """Return stage, data set and configuration of all models that are to be trained."""
    methods = [m for name in table_names(study) for m in table_methods(study, name)]
    methods += [m for figure in study.figures for m in figure_methods(study, figure)]
    found: dict[tuple[str, str, str], None] = {}
    for method in methods:
        if method.stage not in ("direct", "nnunet"):
            base = pretraining_of(method.configuration)
            found["pretrained", wmh_dataset(study), base] = None
        if method.stage not in ("pretrained", CROSS_VALIDATION):
            for dataset in cel_datasets(study):
                found[method.stage, dataset, method.configuration] = None
    return list(found)


def model_folder(study: Study, stage: str, dataset: str, configuration: str) -> str:
    """Return the folder in which nnU-Net keeps the folds of a model."""
    if stage == "nnunet":
        trainer, plans = study.nnunet.trainer, _STOCK_PLANS
    else:
        trainer, plans = _TRAINER, _PLANS
    return f"results/{stage}/{dataset}/{trainer}__{plans}__{configuration}"


def fold_folder(
    study: Study, stage: str, dataset: str, configuration: str, fold: int | str
) -> str:
    """Return the folder in which nnU-Net keeps one fold of a model."""
    return f"{model_folder(study, stage, dataset, configuration)}/fold_{fold}"


def evaluation_folders(study: Study, method: Method) -> dict[str, str]:
    """Return the evaluations of a method by the name of the fold or split."""
    if method.stage == CROSS_VALIDATION:
        home = f"evaluations/{CROSS_VALIDATION}/{wmh_dataset(study)}"
        return {
            f"fold {fold}": f"{home}/{method.configuration}/fold_{fold}"
            for fold in range(study.training.folds)
        }
    home = f"evaluations/{method.stage}"
    return {
        f"split {number}": f"{home}/{dataset}/{method.configuration}"
        for number, dataset in enumerate(cel_datasets(study), start=1)
    }


def _title(name: str) -> str:
    """Return what the paper calls a network or loss, its own name if it has none."""
    return TITLES.get(name, name)


def _name_of(data: Data) -> str:
    """Return the name of a data set that exists, else an empty text."""
    return Path(data.dataset).name if data.dataset else ""


def _network_methods(study: Study, stage: str, *, block: str = "") -> list[Method]:
    """Return the methods that differ in their network only."""
    return _of_networks(study, stage, lambda settings: not settings, block)


def _small_methods(study: Study) -> list[Method]:
    """Return the methods that are trained directly on small windows."""
    window = study.training.small_window
    block = f"{window} x {window}"
    small = {"training_window"}
    return _of_networks(study, "direct", lambda settings: set(settings) == small, block)


def _of_networks(
    study: Study, stage: str, wanted: Callable[[Any], bool], block: str
) -> list[Method]:
    """Return the methods of the networks of a study, with the settings wanted."""
    found = {
        c["network"]: name
        for name, c in configurations().items()
        if wanted(c["settings"])
    }
    return [
        Method(_title(network), stage, found[network], block, reference=not number)
        for number, network in enumerate(study.networks)
    ]


def _stock_methods(study: Study, *, block: str = "") -> list[Method]:
    """Return nnU-Net's own models."""
    return [
        Method(f"nnU-Net {name}", "nnunet", name, block)
        for name in study.nnunet.configurations
    ]


def _transfer_methods(study: Study) -> list[Method]:
    """Return direct training and fine-tuning of every network, network by network."""
    rows = zip(
        _small_methods(study),
        _network_methods(study, "direct"),
        _network_methods(study, "finetuned"),
        strict=True,
    )
    return [
        replace(method, title=title, block=method.title, reference=reference)
        for small, full, fine in rows
        for method, title, reference in (
            (fine, "Fine-tuned", True),
            (small, f"Direct, {small.block}", False),
            (full, f"Direct, {_FULL}", False),
        )
    ]


def _values(setting: str) -> dict[str, Any]:
    """Return the value of a setting in all configurations that are its ablation."""
    default = getattr(Settings(), setting)
    return {BASE: default} | {
        name: c["settings"][setting]
        for name, c in configurations().items()
        if set(c["settings"]) == {setting}
    }


def _ablation(setting: str, title: Callable[[Any], str]) -> list[Method]:
    """Return the methods that differ in one setting, numbers in rising order."""
    values = _values(setting)
    order = list(values)
    if all(isinstance(value, int | float) for value in values.values()):
        order.sort(key=lambda name: values[name])
    return [
        Method(title(values[name]), "finetuned", name, reference=name == BASE)
        for name in order
    ]


def _neighbors(pairs: int) -> str:
    """Return what Table 8 calls a number of pairs of neighbors."""
    return {0: "0 neighbor (2D)", 1: "1 neighbor"}.get(pairs, f"{pairs} neighbors")
