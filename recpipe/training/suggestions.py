"""Which settings to try next: tree-structured Parzen estimators over what was tried before.

Bergstra, Bardenet, Bengio & Kégl 2011, "Algorithms for hyper-parameter optimization", as Optuna
implements them. A suggestion follows from the trials before it, its number and the seed alone,
so that a search which was killed goes on exactly as if it had not been.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import JsonValue

from recpipe.errors import UnavailableError
from recpipe.seeding import derive_seed
from recpipe.training.settings import Dimension

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study

MODEL_KEY = "train.model"
"""The setting others may depend on."""

GUIDED_DRAWS = 20
RANDOM_DRAWS = 200
"""Draws, guided and then random, until one is new; where none is, everything is taken as tried."""

DIGITS = 4
"""Significant digits of a suggested number that is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What may be tried.

    Attributes:
        dimensions: By setting.
        models: The models that have a setting, by setting; one that is not here concerns every trial.
    """

    dimensions: Mapping[str, Dimension]
    models: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def concerns(self, key: str, model: JsonValue) -> bool:
        """Say whether a setting concerns the trials of a model."""
        return key not in self.models or model in self.models[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A trial that is over.

    Attributes:
        values: By setting.
        score: Higher is better; None where the trial failed.
    """

    values: Mapping[str, JsonValue]
    score: float | None


def require_optuna() -> None:
    """Fail where the package is not installed.

    Raises:
        UnavailableError: How to get it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UnavailableError("tuning needs the package optuna", next_step="run: pip install 'recpipe[tune]'")


def suggest(
    space: SearchSpace, tried: Sequence[Tried], *, seed: int, startup_trials: int
) -> dict[str, JsonValue] | None:
    """Return the settings to try next; None where everything was tried.

    Args:
        tried: The trials before, in order.
        seed: Of the whole search.
        startup_trials: Finished trials from which on they guide the search.
    """
    import optuna

    known = {_text(trial.values) for trial in tried}
    for draw in range(GUIDED_DRAWS + RANDOM_DRAWS):
        own_seed = derive_seed(seed, "suggestion", len(tried), draw) % 2**32
        sampler: BaseSampler
        if draw < GUIDED_DRAWS:
            with warnings.catch_warnings():
                # dimensions together instead of one by one: experimental in Optuna 4
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.TPESampler(seed=own_seed, n_startup_trials=startup_trials, multivariate=True)
        else:
            sampler = optuna.samplers.RandomSampler(seed=own_seed)
        values = _draw(space, _study(space, tried, sampler))
        if _text(values) not in known:
            return values
    return None


def _study(space: SearchSpace, tried: Sequence[Tried], sampler: BaseSampler) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its log is not ours
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in tried:
        parameters = {key: _parameter(space.dimensions[key], value) for key, value in trial.values.items()}
        distributions = {key: _distribution(space.dimensions[key]) for key in parameters}
        if not all(_contains(space.dimensions[key], value) for key, value in trial.values.items()):
            continue  # the configuration's own value may lie outside of what is searched
        failed = trial.score is None
        state = optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(state=state, value=trial.score, params=parameters, distributions=distributions)
        )
    return study


def _draw(space: SearchSpace, study: Study) -> dict[str, JsonValue]:
    trial = study.ask()
    values: dict[str, JsonValue] = {}
    # the model first: it decides which settings there are; then by name, whatever the order in the file
    for key in sorted(space.dimensions, key=lambda key: (key != MODEL_KEY, key)):
        if MODEL_KEY in values and not space.concerns(key, values[MODEL_KEY]):
            continue
        dimension = space.dimensions[key]
        if dimension.choice is not None:
            values[key] = json.loads(trial.suggest_categorical(key, [_text(value) for value in dimension.choice]))
        elif dimension.int is not None:
            low, high = dimension.int
            values[key] = trial.suggest_int(key, low, high, step=dimension.step or 1, log=dimension.log)
        else:
            low_end, high_end = dimension.bounds
            drawn = trial.suggest_float(key, low_end, high_end, log=dimension.log)
            values[key] = min(max(float(f"{drawn:.{DIGITS}g}"), low_end), high_end)
    return values


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choice is not None:
        return CategoricalDistribution([_text(value) for value in dimension.choice])
    if dimension.int is not None:
        return IntDistribution(*dimension.int, log=dimension.log, step=dimension.step or 1)
    return FloatDistribution(*dimension.bounds, log=dimension.log)


def _parameter(dimension: Dimension, value: JsonValue) -> JsonValue:
    """Return a value as the sampler knows it: choices may be lists or null, so they go by their JSON."""
    return value if dimension.choice is None else _text(value)


def _contains(dimension: Dimension, value: JsonValue) -> bool:
    if dimension.choice is not None:
        return value in dimension.choice
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = dimension.bounds
    if dimension.int is None:
        return low <= value <= high
    return low <= value <= high and (value - low) % (dimension.step or 1) == 0


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
