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

    assert (settings.neighbor_pairs, settings.stack_size) == (1, 3)
    assert (settings.loss, settings.lesion_weight, settings.gamma) == ("focal", 0.75, 1)
    assert settings.learning_rate == 2e-4
    assert (settings.max_epochs, settings.patience) == (300, 50)
    assert settings.oversample_foreground_percent == 1
    assert not settings.test_time_mirroring


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"neighbor_pairs": -1}, "'neighbor_pairs' .* must be a number >= 0. Got -1"),
        ({"training_window": 0}, "'training_window' .* must be a number > 0. Got 0"),
        ({"lesion_weight": 1.0}, "'lesion_weight' .* must be a number < 1.0. Got 1.0"),
        ({"gamma": float("inf")}, "'gamma' .* must be a finite number. Got inf"),
        ({"augmentation": "flips"}, "must be one of 'paper' or 'nnunet'. Got 'flips'"),
        ({"test_time_mirroring": 1}, "must be true or false. Got 1"),
        ({"neighbour_pairs": 1}, "no setting 'neighbour_pairs'. Did you mean 'neighbo"),
        ({"loss": "focl"}, "must be one of 'focal', .* Did you mean 'focal'"),
        ([1], r"must be a mapping .* Got \[1\]"),
    ],
)
def test_wrong_blocks_are_refused(block: object, message: str) -> None:
    """The message names setting, configuration, rule, value and what was meant."""
    with pytest.raises(ValueError, match=message) as error:
        Settings.from_configuration({BLOCK: block}, name="2d_mine")

    assert "the block 'nnunet_cel' of configuration '2d_mine'" in str(error.value)


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
        named = [name for name in block if f"The {name!r} of the block" in str(error)]
        assert named
    else:
        written = json.loads(json.dumps(settings.to_block()))
        assert Settings.from_configuration({BLOCK: written}) == settings
