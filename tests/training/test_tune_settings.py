"""What a search space may say, and how it says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from recpipe.config import identity_of, to_yaml, validate
from recpipe.errors import ConfigError
from recpipe.training.settings import Dimension, TuneSettings


def settings(**space: Any) -> TuneSettings:
    return validate(TuneSettings, {"space": space})


@pytest.mark.parametrize(
    ("dimension", "probes"),
    [
        ({"int": [4, 64], "log": True}, [4, 64]),
        ({"int": [0, 10], "step": 5}, [0, 10]),
        ({"float": [0.0, 1.0]}, [0.0, 1.0, 0.381966]),
        ({"choice": ["auto", None, 3, ["a", "b"]]}, ["auto", None, 3, ["a", "b"]]),
    ],
)
def test_probes_hold_every_end(dimension: dict[str, Any], probes: list[Any]) -> None:
    assert Dimension.model_validate(dimension).probes() == probes


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        (3, "say which values it may take"),
        (None, "say which values it may take"),
        ({}, "exactly one of int, float, choice"),
        ({"int": [1, 2], "float": [1, 2]}, "exactly one of"),
        ({"int": [1, 2], "logg": True}, "unknown key 'logg': did you mean 'log'?"),
        ({"int": [2, 1]}, "the first bound, 2, is not below the second, 1"),
        ({"float": [0.5, 0.5]}, "is not below"),
        ({"float": [0.0, 1.0], "log": True}, "log needs bounds above 0"),
        ({"int": [1, 10], "step": 4}, "no whole number of steps of 4 leads from 1 to 10"),
        ({"int": [1, 9], "step": 4, "log": True}, "step belongs to int without log"),
        ({"float": [0.0, 1.0], "step": 1}, "step belongs to int"),
        ({"choice": [1, 1]}, "a choice stands twice"),
        ({"choice": ["a"], "log": True}, "belong to numbers"),
        ({"choice": []}, "at least 1 item"),
        ({"int": [1.5, 3]}, "valid integer"),
        ({"float": [0.1, float("inf")]}, "finite"),
    ],
)
def test_what_is_wrong_with_a_dimension(dimension: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**{"train.x": dimension})
    assert "space.train.x" in caught.value.what
    assert message in caught.value.what


def test_nested_sections_as_set_writes_them_are_dotted_keys() -> None:
    nested = settings(train={"hidden_dim": {"int": [1, 2]}, "a": {"b": {"choice": [1]}}})
    dotted = settings(**{"train.hidden_dim": {"int": [1, 2]}, "train.a.b": {"choice": [1]}})
    assert nested == dotted


def test_the_budget_is_no_part_of_the_identity() -> None:
    small, large = (TuneSettings(n_trials=n, max_minutes=n) for n in (3, 30))
    assert identity_of(small) == identity_of(large)
    assert identity_of(small) != identity_of(TuneSettings(startup_trials=3))


def test_what_recpipe_config_prints_can_be_read_again() -> None:
    written = settings(**{"train.a": {"int": [1, 8], "log": True}, "train.b": {"choice": [None, "x"]}})
    assert validate(TuneSettings, yaml.safe_load(to_yaml(written))) == written
