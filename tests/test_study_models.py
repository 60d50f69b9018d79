"""Tests of what models a study needs and what tables call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunet_cel.report.paper import paper_table
from nnunet_cel.study.models import (
    CROSS_VALIDATION,
    TITLES,
    cel_datasets,
    evaluation_folders,
    figure_methods,
    fold_folder,
    model_folder,
    pretraining_of,
    sweep,
    table_methods,
    table_names,
    trainings,
    wmh_dataset,
)
from nnunet_cel.study.study import Study, parse_study

DATA = {"wmh": {"phantoms": {"isbi2015": 3}}, "cel": {"phantoms": {"cel-bids": 4}}}


def study(**content: Any) -> Study:
    """Return a study on phantoms."""
    return parse_study({"data": DATA, **content}, folder=Path("/nowhere"))


@pytest.mark.parametrize("name", [f"table{number}" for number in range(2, 9)])
def test_titles_are_those_of_the_paper(name: str) -> None:
    """So that the paper's numbers find their columns."""
    methods = table_methods(study(), name)
    titles = [m.title for m in methods if m.block == methods[0].block]

    assert titles == list(paper_table(name))


def test_stages_of_tables() -> None:
    """Cross-validation, pretrained, direct, and fine-tuned in all ablations."""
    stages = {
        name: {method.stage for method in table_methods(study(), name)}
        for name in table_names(study())
    }

    assert stages == {
        "table2": {"finetuned"},
        "table3": {CROSS_VALIDATION},
        "table4": {"pretrained"},
        "table5": {"direct"},
        "table6": {"finetuned"},
        "table7": {"finetuned"},
        "table8": {"finetuned"},
        "transfer": {"direct", "finetuned"},
    }


def test_every_block_has_one_reference_at_most_and_paper_models_do() -> None:
    """What the others are compared with is FCA-DenseNet, as it is by default."""
    for name in table_names(study()):
        methods = table_methods(study(), name)
        for block in {method.block for method in methods}:
            (reference,) = [m for m in methods if m.block == block and m.reference]
            assert reference.configuration in ("2d", "2d_64") or name == "transfer"


def test_small_windows_and_full_windows_are_blocks_of_table_5() -> None:
    """Their configurations are those with `64` and those without."""
    methods = table_methods(study(training={"small_window": 48}), "table5")
    small = [m.configuration for m in methods if m.block == "48 x 48"]

    assert small == [
        "2d_64" + name.removeprefix("2d")
        for name in (m.configuration for m in methods if m.block == "full window")
    ]


def test_ablations_share_the_pretraining_of_their_input() -> None:
    """Losses and weights start from `2d`, numbers of neighbors from their own."""
    assert {pretraining_of(name) for name in ("2d", "2d_ce", "2d_alpha25")} == {"2d"}
    assert pretraining_of("2d_n2") == "2d_n2"
    assert pretraining_of("2d_unet") == "2d_unet"


def test_trainings_of_the_whole_paper() -> None:
    """Hand-counted: 6 networks and 3 inputs, 12 direct ones, and 15 fine-tuned."""
    found = trainings(study())

    assert len(found) == len(set(found)) == 36
    assert [stage for stage, _, _ in found].count("pretrained") == 6 + 3
    assert [stage for stage, _, _ in found].count("direct") == 12
    assert [stage for stage, _, _ in found].count("finetuned") == 6 + 2 + 3 + 4


def test_table_5_alone_needs_no_pretraining() -> None:
    """Rows are selected by tables and networks."""
    found = trainings(study(tables=[5], figures=[], networks=["unet"]))

    assert found == [
        ("direct", "Dataset502_CEL", "2d_64_unet"),
        ("direct", "Dataset502_CEL", "2d_unet"),
    ]


def test_every_split_is_trained_for_itself() -> None:
    """The pretraining is shared, as its scans are."""
    found = trainings(study(tables=[6], figures=[], networks=["unet"], splits=2))

    assert found == [
        ("pretrained", "Dataset501_WMH", "2d_unet"),
        ("finetuned", "Dataset502_CEL", "2d_unet"),
        ("finetuned", "Dataset503_CEL", "2d_unet"),
    ]


def test_own_models_of_nnunet_are_rows_of_tables_5_and_6() -> None:
    """They are trained directly, by nnU-Net's trainer."""
    ours = study(nnunet={"configurations": ["3d_fullres", "2d"]})
    titles = {
        name: [m.title for m in table_methods(ours, name) if m.stage == "nnunet"]
        for name in table_names(ours)
    }

    both = ["nnU-Net 2d", "nnU-Net 3d_fullres"]
    assert titles["table5"] == titles["table6"] == both
    assert not any(titles[name] for name in titles if name not in ("table5", "table6"))
    assert model_folder(ours, "nnunet", "Dataset502_CEL", "2d") == (
        "results/nnunet/Dataset502_CEL/nnUNetTrainer__nnUNetPlans__2d"
    )


def test_numbers_of_data_sets_never_meet() -> None:
    """One of the user's own that takes a number makes others move on."""
    data = {**DATA, "wmh": {"dataset": "Dataset503_Mine"}}
    ours = study(data=data, splits=3)

    assert wmh_dataset(ours) == "Dataset503_Mine"
    assert cel_datasets(ours) == ["Dataset502_CEL", "Dataset504_CEL", "Dataset505_CEL"]
    moved = study(data={**DATA, "wmh": {"dataset": "Dataset502_Mine"}})
    assert cel_datasets(moved) == ["Dataset503_CEL"]


def test_evaluations_of_folds_and_splits() -> None:
    """Table 3 has one for each fold, the others one for each split."""
    ours = study(splits=2, training={"folds": 2})
    (first, *_), (second, *_) = (
        table_methods(ours, name) for name in ("table3", "table6")
    )

    assert evaluation_folders(ours, first) == {
        "fold 0": "evaluations/crossvalidation/Dataset501_WMH/2d/fold_0",
        "fold 1": "evaluations/crossvalidation/Dataset501_WMH/2d/fold_1",
    }
    assert evaluation_folders(ours, second) == {
        "split 1": "evaluations/finetuned/Dataset502_CEL/2d",
        "split 2": "evaluations/finetuned/Dataset503_CEL/2d",
    }
    assert fold_folder(ours, "direct", "Dataset502_CEL", "2d", 0) == (
        "results/direct/Dataset502_CEL/FCADenseTrainer__FCADensePlans__2d/fold_0"
    )


def test_sweep_is_in_rising_order_with_the_default() -> None:
    """Figure 9 has the default weight between the others."""
    weights = [weight for weight, _ in sweep()]

    assert weights == sorted(weights)
    assert 0.75 in weights
    assert len(figure_methods(study(), 9)) == len(weights) == 5


def test_networks_have_titles() -> None:
    """No table shows the name of a configuration."""
    assert all(m.title in TITLES.values() for m in table_methods(study(), "table6"))
