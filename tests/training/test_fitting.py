"""Who decides how long a model trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from small_world import small_world

from recpipe.errors import ConfigError, DataError
from recpipe.models.base import FitContext, Histories, JsonValue, Model, Profiles, UserVectors
from recpipe.models.factorization.model import FactorizationModel, FactorizationSettings
from recpipe.models.iterative import Batch
from recpipe.models.registry import find_model
from recpipe.training.fitting import fit

WORLD = small_world()


def create(name: str = "factorization", **values: Any) -> Model:
    spec = find_model(name)
    own = {} if name == "popularity" else {"batch_size": 64, "hidden_dim": 4}
    return spec.create(spec.settings.model_validate(own | values))


def state(model: Model) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state().weights.items()}


def test_models_that_learn_at_once_fit_themselves() -> None:
    report = fit(create("popularity"), WORLD.data, FitContext())
    assert report.target == "implicit" and report.choice == {} and report.history == ()


def test_a_number_of_epochs_is_kept_to_and_validated_without_stopping() -> None:
    model = create(n_epochs=6, patience=1, target="rating")
    report = fit(model, WORLD.data, FitContext(held_out=WORLD.held_out))
    assert len(report.history) == 6 and report.choice == {"n_epochs": 6}
    assert report.metric == "rmse"
    assert all(row.validation is not None and np.isfinite(row.validation) for row in report.history)
    blind = create(n_epochs=6, patience=1, target="rating")
    assert fit(blind, WORLD.data, FitContext()).validation is None
    assert state(blind) == state(model)  # looking changes nothing


def test_an_earlier_choice_wins() -> None:
    chosen = create(target="implicit")
    report = fit(chosen, WORLD.data, FitContext(choice={"n_epochs": 3}))
    assert len(report.history) == 3 and report.metric is None
    stated = create(target="implicit", n_epochs=3)
    fit(stated, WORLD.data, FitContext())
    assert state(stated) == state(chosen)


@pytest.mark.parametrize("bad", [0, -1, True, "4", 2.5])
def test_a_choice_that_is_no_number_of_epochs_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="n_epochs"):
        fit(create(), WORLD.data, FitContext(choice={"n_epochs": bad}))


@pytest.mark.parametrize("target", ["rating", "implicit"])
def test_alone_it_chooses_on_a_tenth_and_fits_again_to_everything(target: str) -> None:
    lines: list[str] = []
    model = create(target=target, max_epochs=6, patience=2)
    report = fit(model, WORLD.data, FitContext(report=lines.append))
    assert any("10%" in line for line in lines) and any("fitting again to everything" in line for line in lines)
    assert report.counts["interactions"] == 400
    n_epochs = report.choice["n_epochs"]
    assert report.validation == [row.validation for row in report.history][int(str(n_epochs)) - 1]
    again = create(target=target, max_epochs=6, patience=2)
    fit(again, WORLD.data, FitContext(choice={"n_epochs": n_epochs}))
    assert state(again) == state(model)


def test_held_out_events_do_not_teach() -> None:
    """What is held out may move the stopping point, never the weights of an epoch."""
    assert WORLD.later.ratings is not None
    model = create(target="rating", n_epochs=2)
    fit(model, WORLD.data, FitContext(held_out=WORLD.held_out))
    other = small_world()
    assert other.later.ratings is not None
    other.later.ratings[:] = 1.0
    changed = create(target="rating", n_epochs=2)
    fit(changed, other.data, FitContext(held_out=other.held_out))
    assert state(model) == state(changed)


def test_targets_are_checked() -> None:
    with pytest.raises(ConfigError, match="cannot learn the target"):
        fit(create("popularity", target="rating"), WORLD.data, FitContext())
    with pytest.raises(DataError, match="no positive interaction"):
        fit(create(target="implicit", positive_from=99.0), WORLD.data, FitContext())


class Undecided(FactorizationModel):
    """Ranks held-out items best when it is told to be quick."""

    @property
    def alternatives(self) -> tuple[dict[str, JsonValue], ...]:
        return ({"pace": "slow"}, {"pace": "quick"}, {"pace": "frozen"})

    def settle(self, values: Mapping[str, JsonValue]) -> None:
        self.pace = values["pace"]

    def train_step(self, batch: Batch) -> torch.Tensor:
        return super().train_step(batch) * {"slow": 1.0, "quick": 1.0, "frozen": 0.0}[str(self.pace)]

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        found = super().user_vectors(profiles, histories)
        sign = -1.0 if self.pace == "slow" else 1.0
        return UserVectors(found.vectors * np.float32(sign), found.source)


def undecided(**values: Any) -> Undecided:
    return Undecided(
        FactorizationSettings.model_validate({"target": "implicit", "batch_size": 64, "hidden_dim": 4} | values)
    )


def test_alternatives_are_settled_by_held_out_data_and_kept() -> None:
    lines: list[str] = []
    model = undecided(max_epochs=6)
    report = fit(model, WORLD.data, FitContext(held_out=WORLD.held_out, report=lines.append))
    assert report.choice["pace"] == model.pace == "quick" and set(report.choice) == {"n_epochs", "pace"}
    assert [line.partition(":")[0] for line in lines[:3]] == ["pace slow", "pace quick", "pace frozen"]
    again = undecided()
    kept = fit(again, WORLD.data, FitContext(choice=report.choice))
    assert kept.choice == report.choice and again.pace == "quick"
    alone = undecided(max_epochs=6)
    chosen = fit(alone, WORLD.data, FitContext())
    assert chosen.choice["pace"] == alone.pace == "quick"


def test_alternatives_without_held_out_data_are_the_usual_ones() -> None:
    model = undecided(n_epochs=2)
    assert fit(model, WORLD.data, FitContext()).choice == {"n_epochs": 2, "pace": "slow"}


def test_a_choice_that_is_no_alternative_is_refused() -> None:
    with pytest.raises(ValueError, match="pace"):
        fit(undecided(), WORLD.data, FitContext(choice={"n_epochs": 2, "pace": "fast"}))
