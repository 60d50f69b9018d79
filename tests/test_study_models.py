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
    trainings,
    wmh_dataset,
)


@pytest.mark.parametrize("name", [f"table{number}" for number in range(2, 9)])
def test_titles_are_those_of_the_paper(name: str) -> None:
    """So that the paper's numbers find their columns."""
    methods = table_methods(make_study(networks=NETWORKS), name)
    titles = [m.title for m in methods if m.block == methods[0].block]

    assert titles == list(paper_table(name))


def test_every_block_has_one_reference() -> None:
    """What the others are compared with is FCA-DenseNet, as it is by default."""
    for name in table_names(make_study()):
        methods = table_methods(make_study(), name)
        for block in {method.block for method in methods}:
            (reference,) = [m for m in methods if m.block == block and m.reference]
            assert reference.configuration in ("2d", "2d_64") or name == "transfer"


def test_new_network_needs_no_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own name is its title, and tables do without a model on small windows."""
    declared = configurations() | {"2d_mine": {"network": "mine", "settings": {}}}
    for module in (models, study):
        monkeypatch.setattr(module, "configurations", lambda: declared)
    ours = make_study()
    found = {
        name: [
            (method.title, method.block)
            for method in table_methods(ours, name)
            if method.configuration == "2d_mine"
        ]
        for name in table_names(ours)
    }

    assert found["table6"] == found["table3"] == [("mine", "")]
    assert found["table5"] == [("mine", "full window")]
    assert found["transfer"] == [
        *(("Fine-tuned", "mine"), ("Direct, full window", "mine"))
    ]
    assert ("finetuned", "Dataset502_CEL", "2d_mine") in trainings(ours)


def test_ablations_share_the_pretraining_of_their_input() -> None:
    """Losses and weights start from `2d`, numbers of neighbors from their own."""
    assert {pretraining_of(name) for name in ("2d", "2d_ce", "2d_alpha25")} == {"2d"}
    assert pretraining_of("2d_n2") == "2d_n2"
    assert pretraining_of("2d_unet") == "2d_unet"


def test_trainings_of_the_whole_paper() -> None:
    """Hand-counted: 6 networks and 3 inputs, 12 direct ones, and 15 fine-tuned."""
    found = trainings(make_study(networks=NETWORKS))

    assert len(found) == len(set(found)) == 36
    assert [stage for stage, _, _ in found].count("pretrained") == 6 + 3
    assert [stage for stage, _, _ in found].count("direct") == 12
    assert [stage for stage, _, _ in found].count("finetuned") == 6 + 2 + 3 + 4


def test_only_what_is_wanted_is_trained() -> None:
    """Table 5 needs no pretraining; splits share it, as its scans are shared."""
    direct = ["direct 502 2d_64_unet", "direct 502 2d_unet"]
    finetuned = [f"finetuned {number} 2d_unet" for number in (502, 503)]
    for table, splits, expected in (
        (5, 1, direct),
        (6, 2, ["pretrained 501 2d_unet", *finetuned]),
    ):
        ours = make_study(tables=[table], figures=[], networks=["unet"], splits=splits)
        found = trainings(ours)
        assert [f"{s} {data[7:10]} {name}" for s, data, name in found] == expected


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
    moved = make_study(data={**DATA, "wmh": {"dataset": "Dataset502_Mine"}})
    assert cel_datasets(moved) == ["Dataset503_CEL"]


def test_evaluations_of_folds_and_splits() -> None:
    """Table 3 has one for each fold, the others one for each split."""
    ours = make_study(splits=2, training={"folds": 2})
    (first, *_), (second, *_) = (
        table_methods(ours, name) for name in ("table3", "table6")
    )
    folds = "evaluations/crossvalidation/Dataset501_WMH/2d/fold_"
    split = "evaluations/finetuned/Dataset50{}_CEL/2d"

    found = evaluation_folders(ours, first)
    assert found == {"fold 0": f"{folds}0", "fold 1": f"{folds}1"}
    found = evaluation_folders(ours, second)
    assert found == {"split 1": split.format(2), "split 2": split.format(3)}
    assert model_folder(ours, "direct", "Dataset502_CEL", "2d", 0) == (
        "results/direct/Dataset502_CEL/FCADenseTrainer__FCADensePlans__2d/fold_0"
    )
