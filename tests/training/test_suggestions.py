"""What is tried next: inside the space, never twice, the same after a resume, and better than chance."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recpipe.errors import UnavailableError
from recpipe.training.settings import Dimension
from recpipe.training.suggestions import SearchSpace, Tried, require_optuna, suggest

SPACE = SearchSpace(
    dimensions={
        "train.a": Dimension(int=(1, 64), log=True),
        "train.b": Dimension(float=(1e-4, 1.0), log=True),
        "cluster.c": Dimension(int=(0, 20), step=5),
        "cluster.d": Dimension(choice=(None, "x", ["x", "y"])),
    }
)


def search(space: SearchSpace, score: Callable[[Mapping[str, Any]], float | None], n: int, **how: int) -> list[Tried]:
    tried: list[Tried] = []
    while len(tried) < n:
        values = suggest(space, tried, seed=how.get("seed", 1), startup_trials=how.get("startup_trials", 4))
        if values is None:
            return tried
        tried.append(Tried(values=values, score=score(values)))
    return tried


def quadratic(values: Mapping[str, Any]) -> float:
    return -(np.log(values["train.b"] / 0.01) ** 2) - (values["cluster.d"] != "x")


@settings(max_examples=15)
@given(st.integers(0, 2**62))
def test_suggestions_lie_in_the_space(seed: int) -> None:
    for trial in search(SPACE, quadratic, 8, seed=seed):
        values: dict[str, Any] = dict(trial.values)
        assert set(values) == set(SPACE.dimensions)
        assert isinstance(values["train.a"], int) and 1 <= values["train.a"] <= 64
        assert 1e-4 <= values["train.b"] <= 1.0 and float(f"{values['train.b']:.4g}") == values["train.b"]
        assert values["cluster.c"] in (0, 5, 10, 15, 20)
        assert values["cluster.d"] in (None, "x", ["x", "y"])


def test_a_suggestion_follows_from_what_was_tried_alone() -> None:
    """So a killed search goes on as if it had not been."""
    whole = search(SPACE, quadratic, 12)
    again = [suggest(SPACE, whole[:n], seed=1, startup_trials=4) for n in range(12)]
    assert again == [dict(trial.values) for trial in whole]
    assert search(SPACE, quadratic, 12, seed=2) != whole


def test_the_order_of_the_dimensions_does_not_matter() -> None:
    turned = SearchSpace(dimensions=dict(reversed(list(SPACE.dimensions.items()))))
    assert search(turned, quadratic, 8) == search(SPACE, quadratic, 8)


def test_the_search_is_guided() -> None:
    """Guided trials are nearer to the optimum than random ones: the median over three seeds."""

    def late(startup_trials: int, seed: int) -> float:
        found = search(SPACE, quadratic, 40, seed=seed, startup_trials=startup_trials)
        return float(np.median([trial.score for trial in found[20:] if trial.score is not None]))

    seeds = (1, 2, 3)
    assert np.median([late(5, seed) for seed in seeds]) > np.median([late(100, seed) for seed in seeds]) + 1.0


def test_nothing_is_tried_twice_and_the_search_ends() -> None:
    space = SearchSpace(dimensions={"train.a": Dimension(int=(1, 3)), "train.d": Dimension(choice=("x", None))})
    found = search(space, lambda values: float(values["train.a"]), 50)
    assert len({json.dumps(dict(trial.values), sort_keys=True) for trial in found}) == len(found) == 6


def test_failed_trials_do_not_guide_and_are_not_repeated() -> None:
    found = search(SPACE, lambda values: None, 10)
    assert len(found) == 10
    space = SearchSpace(dimensions={"train.d": Dimension(choice=("x", "y"))})
    assert len(search(space, lambda values: None, 10)) == 2


def test_a_trial_outside_of_the_space_is_left_out() -> None:
    """The configuration's own value may be `auto`, or beyond the bounds."""
    own = {"train.a": "auto", "train.b": 7.0, "cluster.c": 3, "cluster.d": "z"}
    values = suggest(SPACE, [Tried(values=own, score=1.0)], seed=1, startup_trials=1)
    assert values is not None and 1 <= int(str(values["train.a"])) <= 64


def test_settings_of_another_model_are_not_suggested() -> None:
    space = SearchSpace(
        dimensions={
            "train.centred": Dimension(choice=(True, False)),
            "train.hidden_dim": Dimension(int=(1, 9)),
            "train.model": Dimension(choice=("content", "deep")),
            "cluster.n": Dimension(int=(1, 9)),
        },
        models={"train.centred": frozenset({"content"}), "train.hidden_dim": frozenset({"deep"})},
    )
    found = search(space, lambda values: float(values["cluster.n"]), 20)
    models = {str(trial.values["train.model"]) for trial in found}
    assert models == {"content", "deep"}
    for trial in found:
        own = "train.centred" if trial.values["train.model"] == "content" else "train.hidden_dim"
        assert set(trial.values) == {"cluster.n", "train.model", own}


def test_without_optuna_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="optuna") as caught:
        require_optuna()
    assert caught.value.exit_code == 5
    assert "pip install 'recpipe[tune]'" in str(caught.value.next_step)
