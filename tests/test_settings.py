"""Settings: defaults of the paper, and clear refusal of everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cel.settings import BLOCK, Settings


def test_defaults_are_the_papers() -> None:
    """A configuration without a block gets the paper's values."""
    settings = Settings.from_configuration({"batch_size": 12})

    assert settings.neighbor_pairs == 1
    assert settings.stack_size == 3
    assert (settings.loss, settings.lesion_weight, settings.gamma) == ("focal", 0.75, 1)
    assert settings.learning_rate == 2e-4
    assert (settings.max_epochs, settings.patience) == (300, 50)
    assert settings.oversample_foreground_percent == 1
    assert not settings.test_time_mirroring


def test_block_round_trips_through_json() -> None:
    """What is written into the plans is read back unchanged."""
    settings = Settings(neighbor_pairs=3, loss="dice", training_window=64, seed=None)

    block = json.loads(json.dumps(settings.to_block()))

    assert Settings.from_configuration({BLOCK: block}) == settings


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("neighbor_pairs", -1, "an integer >= 0"),
        ("neighbor_pairs", 1.5, "an integer >= 0"),
        ("neighbor_pairs", True, "an integer >= 0"),
        ("neighbor_pairs", None, "an integer >= 0"),
        ("training_window", 0, "an integer >= 1 or null"),
        ("loss", "focl", "one of 'focal', 'cross_entropy', 'dice'"),
        ("loss", ["focal"], "one of 'focal', 'cross_entropy', 'dice'"),
        ("lesion_weight", 0, "a number in (0, 1)"),
        ("lesion_weight", 1.0, "a number in (0, 1)"),
        ("lesion_weight", float("nan"), "a number in (0, 1)"),
        ("lesion_weight", "0.75", "a number in (0, 1)"),
        ("gamma", -0.5, "a number >= 0"),
        ("gamma", float("inf"), "a number >= 0"),
        ("learning_rate", 0, "a number > 0"),
        ("max_epochs", 0, "an integer >= 1"),
        ("patience", "50", "an integer >= 1"),
        ("iterations_per_epoch", 0, "an integer >= 1 or null"),
        ("validation_iterations", 0, "an integer >= 1"),
        ("oversample_foreground_percent", 1.2, "a number in [0, 1]"),
        ("augmentation", "none", "one of 'paper', 'nnunet'"),
        ("test_time_mirroring", 1, "true or false"),
        ("slice_batch_size", -4, "an integer >= 1 or null"),
        ("cpu_bfloat16", "yes", "true or false"),
        ("heads", "region", "one of 'softmax', 'sigmoid'"),
        ("seed", -1, "an integer >= 0 or null"),
    ],
)
def test_wrong_value_is_refused(setting: str, value: object, rule: str) -> None:
    """The message names setting, configuration, rule and value."""
    with pytest.raises(ValueError, match="must be") as error:
        Settings.from_configuration({BLOCK: {setting: value}}, name="2d_mine")

    assert str(error.value) == (
        f"The {setting!r} setting of configuration '2d_mine' must be {rule}. "
        f"Got {value!r} instead."
    )


def test_unknown_setting_is_refused_with_the_closest_name() -> None:
    """A misspelled setting is an error that says what was meant."""
    with pytest.raises(ValueError, match="Did you mean 'neighbor_pairs'"):
        Settings.from_configuration({BLOCK: {"neighbour_pairs": 1}})


def test_block_must_be_an_object() -> None:
    """A block that is no object is refused."""
    with pytest.raises(ValueError, match="must be an object"):
        Settings.from_configuration({BLOCK: [1]})


@given(
    st.dictionaries(
        st.sampled_from(sorted(Settings().to_block())),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    )
)
def test_any_block_is_accepted_or_refused_by_name(block: dict[str, Any]) -> None:
    """Whatever JSON holds: valid settings, or a ValueError that names one of them."""
    try:
        settings = Settings.from_configuration({BLOCK: block})
    except ValueError as error:
        named = [name for name in block if f"{name!r} setting" in str(error)]
        assert named
    else:
        assert Settings.from_configuration({BLOCK: settings.to_block()}) == settings
