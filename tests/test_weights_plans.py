"""Plans from strangers name nothing unknown and demand nothing huge."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from test_weights_export import SECRET, UNET, make_dataset, make_plans

from nnunet_cel.settings import BLOCK
from nnunet_cel.weights.plans import (
    check_dataset,
    check_plans,
    reduce_dataset,
    reduce_plans,
)

Change = Callable[[dict[str, Any]], object]


def checkable(configuration: str = "2d") -> dict[str, Any]:
    """Return plans that can be checked, and changed without an effect on others."""
    return deepcopy(reduce_plans(make_plans(), configuration))


def test_honest_plans_pass() -> None:
    """What the planner writes is let through, with any of the kinds of networks."""
    check_plans(checkable(), "2d")
    check_plans(reduce_plans(make_plans(UNET), "2d"), "2d")
    check_dataset(reduce_dataset(make_dataset()))


def test_reduced_plans_are_what_nnunet_resolves() -> None:
    """An heir is written out as nnU-Net's own code understands it."""
    resolved = PlansManager(make_plans()).get_configuration("2d_heir").configuration

    reduced = reduce_plans(make_plans(), "2d_heir")

    assert list(reduced["configurations"]) == ["2d_heir"]
    got = reduced["configurations"]["2d_heir"]
    assert got == {key: resolved[key] for key in resolved if key != "inherits_from"}
    assert got["batch_size"] == 2


def test_reduction_leaves_unknown_entries_behind() -> None:
    """Free texts, lists of files and pretrained files do not travel."""
    plans = make_plans(UNET)
    entry = plans["configurations"]["2d"]
    entry["comment"] = SECRET
    entry["architecture"] = UNET | {
        "arch_kwargs": {"pretrained_file": f"/home/{SECRET}/a.npz"}
    }

    assert SECRET not in str(reduce_plans(plans, "2d"))
    assert SECRET not in str(reduce_dataset(make_dataset()))
    assert SECRET in str(plans)


def test_inheritance_without_an_end_is_refused() -> None:
    """Two configurations that inherit from each other do not hang."""
    plans = make_plans()
    plans["configurations"]["2d"]["inherits_from"] = "2d_heir"

    with pytest.raises(
        ValueError, match="inheritance of configurations must be finite"
    ):
        reduce_plans(plans, "2d")


def _entry(plans: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = plans["configurations"]["2d"]
    return entry


def _set(**values: Any) -> Change:
    return lambda plans: _entry(plans).update(values)


def _network(**values: Any) -> Change:
    return lambda plans: _entry(plans)["architecture"].update(values)


def _argument(**values: Any) -> Change:
    return lambda plans: _entry(plans)["architecture"]["arch_kwargs"].update(values)


HOSTILE: list[tuple[Change, str]] = [
    (_network(network_class_name="os.system"), "network_class_name"),
    (_network(network_class_name="nnunet_cel.cli.main"), "network_class_name"),
    (_network(network_class_name="nnunet_cel.networks.pydoc"), "network_class_name"),
    (_network(network_class_name=["os.system"]), "network_class_name"),
    (_network(network_class_name="evil"), "nnU-Net imports what stands here"),
    (_argument(dropout_op="os.system"), "'dropout_op'"),
    (_argument(dropout_op="torch.nn.Dropout2d.__init__"), "'dropout_op'"),
    (_argument(dropout_op="torch.hub.load"), "'dropout_op'"),
    (_argument(attention="os.system"), "'attention'"),
    (_argument(attention="/etc/passwd"), "arch_kwargs"),
    (_argument(pretrained_file="weights"), "pretrained_file"),
    (_argument(growth_rate=10**6), "arch_kwargs"),
    (_argument(growth_rate=float("nan")), "arch_kwargs"),
    (_argument(down_layers=[1] * 1000), "arch_kwargs"),
    (_argument(down_layers=[[[[[[[1]]]]]]]), "arch_kwargs"),
    (_network(_kw_requires_import=["growth_rate"]), "'growth_rate'"),
    (_network(_kw_requires_import=["absent"]), "_kw_requires_import"),
    (_network(more=1), "architecture"),
    (_set(preprocessor_name="os"), "preprocessor_name"),
    (_set(normalization_schemes=["numpy"]), "normalization_schemes"),
    (_set(resampling_fn_data="np"), "resampling_fn_data"),
    (_set(resampling_fn_data_kwargs={"order": [1]}), "resampling_fn_data_kwargs"),
    (_set(resampling_fn_seg_kwargs={"data": 1}), "resampling_fn_seg_kwargs"),
    (_set(data_identifier="../../x"), "data_identifier"),
    (_set(patch_size=[4000, 4000, 4000]), "patch_size"),
    (_set(patch_size=[32, 32, -1]), "patch_size"),
    (_set(patch_size=[True, 32, 32]), "patch_size"),
    (_set(spacing=[1e-9, 1.0, 1.0]), "spacing"),
    (_set(spacing=[float("inf"), 1.0, 1.0]), "spacing"),
    (_set(inherits_from="3d"), "inherits_from"),
    (_set(previous_stage="3d"), "previous_stage"),
    (_set(**{BLOCK: {"neighbor_pairs": -1}}), "neighbor_pairs"),
    (_set(**{BLOCK: {"unknown": 1}}), "has no setting"),
    (lambda plans: _entry(plans).pop("spacing"), "'spacing'"),
    (lambda plans: plans.update(image_reader_writer="os"), "image_reader_writer"),
    (lambda plans: plans.update(label_manager="LabelMgr"), "label_manager"),
    (lambda plans: plans.update(dataset_name="../x"), "dataset_name"),
    (lambda plans: plans.update(plans_name="/x"), "plans_name"),
    (lambda plans: plans.update(transpose_forward=[0, 0, 9]), "transpose_forward"),
    (lambda plans: plans.update(more=1), "'more'"),
    (lambda plans: plans["configurations"].update(b={}), "configurations"),
    (
        lambda plans: plans["foreground_intensity_properties_per_channel"]["0"].update(
            mean=float("nan")
        ),
        "foreground_intensity",
    ),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_hostile_plans_are_refused(change: Change, message: str) -> None:
    """One bad entry is enough, and the message names it."""
    plans = checkable()
    change(plans)

    with pytest.raises(ValueError, match=message):
        check_plans(plans, "2d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_ending": "/../../x.nii.gz"}, "file_ending"),
        ({"file_ending": ".nii.gz;rm"}, "file_ending"),
        ({"file_ending": ""}, "file_ending"),
        ({"labels": {"lesion": 1}}, "background"),
        ({"labels": {"background": 0, "a\x1b[31m": 1}}, "labels"),
        ({"labels": {"background": 0, "lesion": [[[1]]]}}, "labels"),
        ({"labels": []}, "labels"),
        ({"channel_names": {"zero": "FLAIR"}}, "channel_names"),
        ({"channel_names": {}}, "channel_names"),
        ({"modality": {"0": "FLAIR"}}, "channels in dataset.json"),
        ({"regions_class_order": "12"}, "regions_class_order"),
    ],
)
def test_hostile_dataset_is_refused(change: dict[str, Any], message: str) -> None:
    """Endings that are paths, labels that are none, and texts that terminals obey."""
    with pytest.raises(ValueError, match=message):
        check_dataset(reduce_dataset(make_dataset() | change))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner)
    ),
    max_leaves=6,
)
PLACES = [
    *(("plans", key) for key in reduce_plans(make_plans(), "2d")),
    *(("entry", key) for key in checkable()["configurations"]["2d"]),
    *(("network", key) for key in checkable()["configurations"]["2d"]["architecture"]),
]


@given(place=st.sampled_from(PLACES), value=json_values)
def test_any_json_is_let_through_or_refused(place: tuple[str, str], value: Any) -> None:
    """Whatever stands anywhere, the answer is yes or a message, no other error."""
    plans = checkable()
    level = {
        "plans": plans,
        "entry": _entry(plans),
        "network": _entry(plans)["architecture"],
    }[place[0]]
    level[place[1]] = value

    try:
        check_plans(plans, "2d")
    except ValueError as error:
        assert "must be" in str(error) or "setting" in str(error)  # noqa: PT017  both ends are right


@given(value=json_values)
def test_any_dataset_is_let_through_or_refused(value: Any) -> None:
    """The same for every entry of dataset.json."""
    for key in make_dataset():
        try:
            check_dataset(reduce_dataset(make_dataset() | {key: value}))
        except ValueError as error:
            assert "must be" in str(error)  # noqa: PT017  both ends are right
