"""Which models a study needs, what tables call them, and where their files are.

At which stage an ablation differs follows the paper. Losses and lesion weights differ
in fine-tuning only (section "Ablation experiments of various loss functions", Figure
9), so that they all start from the pretraining of `2d`. Another number of neighbors is
another network input and needs a pretraining of its own (Table 8).

All paths are relative to the folder of the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_cel.planning.declarations import BASE, configurations
from nnunet_cel.settings import Settings
from nnunet_cel.study.study import Study

__all__ = [
    "CROSS_VALIDATION",
    "FOLD",
    "TRANSFER",
    "Method",
    "cel_datasets",
    "dataset_id",
    "evaluation_folders",
    "figure_methods",
    "model_folder",
    "pretraining_of",
    "table_methods",
    "table_names",
    "wmh_dataset",
]

TRANSFER = "transfer"
"""Name of the table of direct training and fine-tuning."""

CROSS_VALIDATION = "crossvalidation"
"""In place of a stage: the pretraining folds on their own validation cases."""

FOLD = 0
"""Fold of the CEL training half whose validation part stops a training early."""

TITLES: Mapping[str | int | float, str] = {
    "fcadensenet": "FCA-DenseNet",
    "fcdensenet": "FC-DenseNet",
    "unet": "U-Net",
    "resunet": "ResUNet",
    "attentionunet": "Attention-UNet",
    "transunet": "TransUNet",
    "focal": "Focal",
    "cross_entropy": "CE",
    "dice": "Dice",
    0: "0 neighbor (2D)",
    1: "1 neighbor",
}
"""What tables of the paper call networks, losses and pairs of neighbors."""

_FULL = "full window"


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
    return Path(study.data.wmh.dataset or "Dataset501_WMH").name


def cel_datasets(study: Study) -> list[str]:
    """Return the name of the CEL data set of each split."""
    if study.data.cel.dataset:
        return [Path(study.data.cel.dataset).name]
    taken = dataset_id(wmh_dataset(study))
    free = [n for n in range(502, 503 + study.splits) if n != taken]
    return [f"Dataset{n:03d}_CEL" for n in free[: study.splits]]


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
    finetuned = _network_methods(study, "finetuned")
    window = study.training.small_window
    small = _network_methods(study, "direct", f"{window} x {window}", small=True)
    full = _network_methods(study, "direct", _FULL)
    # nnU-Net's own models, trained directly
    stock = [
        Method(f"nnU-Net {configuration}", "nnunet", configuration)
        for configuration in study.nnunet.configurations
    ]
    # direct training and fine-tuning, network by network
    transfer = [
        replace(m, title=title, block=m.title, reference=m in finetuned)
        for network in finetuned
        for m in [network, *small, *full]
        if m.title == network.title
        for title in [f"Direct, {m.block}" if m.block else "Fine-tuned"]
    ]
    tables = {
        "table2": finetuned,
        "table3": _network_methods(study, CROSS_VALIDATION),
        "table4": _network_methods(study, "pretrained"),
        "table5": [*small, *full, *(replace(m, block=_FULL) for m in stock)],
        "table6": finetuned + stock,
        "table7": _ablation("loss"),
        "table8": _ablation("neighbor_pairs"),
        TRANSFER: transfer,
    }
    return tables[name]


def figure_methods(study: Study, figure: int) -> list[Method]:
    """Return the methods that a figure of the paper shows.

    Those of Figure 9 are in the order of their lesion weights, which are their titles.
    """
    if figure == 7:
        return table_methods(study, "table6")
    if figure == 8:
        return [Method(TITLES["fcadensenet"], "finetuned", BASE)]
    return _ablation("lesion_weight")


def pretraining_of(configuration: str) -> str:
    """Return the configuration whose pretraining another one is fine-tuned from.

    It has the same network and the same number of neighbors, and the defaults in all
    else.
    """
    declared = configurations()
    network, own = (declared[configuration][key] for key in ("network", "settings"))
    wanted = {key: own[key] for key in own if key == "neighbor_pairs"}
    return next(
        name
        for name, other in declared.items()
        if other["network"] == network and other["settings"] == wanted
    )


def model_folder(
    study: Study,
    stage: str,
    dataset: str,
    configuration: str,
    fold: int | str | None = None,
) -> str:
    """Return the folder in which nnU-Net keeps a model, or one fold of it."""
    trainer, plans = "FCADenseTrainer", "FCADensePlans"
    if stage == "nnunet":
        trainer, plans = study.nnunet.trainer, "nnUNetPlans"
    folder = f"results/{stage}/{dataset}/{trainer}__{plans}__{configuration}"
    return folder if fold is None else f"{folder}/fold_{fold}"


def evaluation_folders(study: Study, method: Method) -> dict[str, str]:
    """Return the evaluations of a method by the name of the fold or split."""
    home, name = f"evaluations/{method.stage}", method.configuration
    if method.stage == CROSS_VALIDATION:
        return {
            f"fold {fold}": f"{home}/{wmh_dataset(study)}/{name}/fold_{fold}"
            for fold in range(study.training.folds)
        }
    return {
        f"split {number}": f"{home}/{dataset}/{name}"
        for number, dataset in enumerate(cel_datasets(study), start=1)
    }


def _network_methods(
    study: Study, stage: str, block: str = "", *, small: bool = False
) -> list[Method]:
    """Return the methods that differ in their network only.

    Networks that have no configuration for small windows are left out there.
    """
    wanted = ["training_window"] if small else []
    found = {
        declared["network"]: name
        for name, declared in configurations().items()
        if list(declared["settings"]) == wanted
    }
    return [
        Method(TITLES.get(n, n), stage, found[n], block, n == study.networks[0])
        for n in study.networks
        if n in found
    ]


def _ablation(setting: str) -> list[Method]:
    """Return the methods that differ in one setting, numbers in rising order."""
    default = getattr(Settings(), setting)
    values = [
        (declared["settings"].get(setting, default), name)
        for name, declared in configurations().items()
        if name == BASE or list(declared["settings"]) == [setting]
    ]
    if setting != "loss":
        values.sort()
    unit = " neighbors" if setting == "neighbor_pairs" else ""
    titles = [TITLES.get(value, f"{value}{unit}") for value, _ in values]
    return [
        Method(title, "finetuned", name, reference=name == BASE)
        for title, (_, name) in zip(titles, values, strict=True)
    ]
