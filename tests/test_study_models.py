"""Tests of what models a study needs and what tables call them."""

from __future__ import annotations

import pytest
from studies import DATA, NETWORKS, make_study

from nnunet_cel.planning.declarations import configurations
from nnunet_cel.report.paper import paper_table
from nnunet_cel.study import models, study
from nnunet_cel.study.models import (
    cel_datasets,
    evaluation_folders,
    model_folder,
    pretraining_of,
    table_methods,
    table_names,
    wmh_dataset,
)


@pytest.mark.parametrize("name", [f"table{number}" for number in range(2, 9)])
def test_methods_are_those_of_the_paper(name: str) -> None:
    """The paper's numbers find their columns; one method is the reference of all."""
    methods = table_methods(make_study(networks=NETWORKS), name)
    titles = [m.title for m in methods if m.block == methods[0].block]

    assert titles == list(paper_table(name))
    for block in {method.block for method in methods}:
        (reference,) = [m for m in methods if m.block == block and m.reference]
        assert reference.configuration in ("2d", "2d_64")


def test_new_network_needs_no_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own name is its title, and tables do without a model on small windows."""
    declared = configurations() | {"2d_mine": {"network": "mine", "settings": {}}}
    for module in (models, study):
        monkeypatch.setattr(module, "configurations", lambda: declared)
    ours = make_study()
    found = {
        name: [
            (method.title, method.block, method.reference)
            for method in table_methods(ours, name)
            if method.configuration == "2d_mine"
        ]
        for name in table_names(ours)
    }

    assert found["table6"] == found["table3"] == [("mine", "", False)]
    assert found["table5"] == [("mine", "full window", False)]
    assert found["transfer"] == [
        *(("Fine-tuned", "mine", True), ("Direct, full window", "mine", False))
    ]


def test_ablations_share_the_pretraining_of_their_input() -> None:
    """Losses and weights start from `2d`, numbers of neighbors from their own."""
    assert {pretraining_of(name) for name in ("2d", "2d_ce", "2d_alpha25")} == {"2d"}
    assert pretraining_of("2d_n2") == "2d_n2"
    assert pretraining_of("2d_unet") == "2d_unet"


def test_own_models_of_nnunet_are_rows_of_tables_5_and_6() -> None:
    """They are trained directly, by nnU-Net's trainer."""
    ours = make_study(nnunet={"configurations": ["3d_fullres", "2d"]})
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
    ours = make_study(data={**DATA, "wmh": {"dataset": "Dataset503_Mine"}}, splits=3)

    assert wmh_dataset(ours) == "Dataset503_Mine"
    assert cel_datasets(ours) == ["Dataset502_CEL", "Dataset504_CEL", "Dataset505_CEL"]


def test_evaluations_of_folds_and_splits() -> None:
    """Table 3 has one for each fold, the others one for each split."""
    ours = make_study(splits=2, training={"folds": 2})
    found = [
        evaluation_folders(ours, table_methods(ours, name)[0])
        for name in ("table3", "table6")
    ]

    folds = "evaluations/crossvalidation/Dataset501_WMH/2d/fold_"
    split = "evaluations/finetuned/Dataset50{}_CEL/2d"
    assert found[0] == {"fold 0": f"{folds}0", "fold 1": f"{folds}1"}
    assert found[1] == {"split 1": split.format(2), "split 2": split.format(3)}
    assert model_folder(ours, "direct", "Dataset502_CEL", "2d", 0) == (
        "results/direct/Dataset502_CEL/FCADenseTrainer__FCADensePlans__2d/fold_0"
    )
