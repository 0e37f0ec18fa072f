"""The loop: reproducible, resumable bit for bit, stops early and keeps the best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import SmallWorld, small_world

from recpipe.errors import DataError
from recpipe.models.base import FitContext, FitReport, Model
from recpipe.models.registry import find_model
from recpipe.models.settings import IterativeSettings
from recpipe.training import loop as loop_module
from recpipe.training.fitting import fit
from recpipe.training.loop import Loop
from recpipe.training.schedule import one_cycle

LEARNED = ["factorization", "deep"]
TARGETS = ["rating", "implicit"]


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small lose more to a second thread than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    return small_world()


def create(name: str, **values: Any) -> Model:
    spec = find_model(name)
    return spec.create(spec.settings.model_validate({"batch_size": 64, "hidden_dim": 8, **values}))


def weights(model: Model) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state().weights.items()}


def fitted(name: str, target: str, world: SmallWorld, **context: Any) -> tuple[Model, FitReport]:
    model = create(name, target=target, n_epochs=4)
    return model, fit(model, world.data, FitContext(**context))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LEARNED)
def test_same_seed_same_model_another_seed_another(name: str, target: str, world: SmallWorld) -> None:
    once, again, other = (weights(fitted(name, target, world, seed=seed)[0]) for seed in (1, 1, 2))
    assert once == again
    assert once != other


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LEARNED)
def test_loss_falls(name: str, target: str, world: SmallWorld) -> None:
    model = create(name, target=target, n_epochs=15, learning_rate=0.02)
    report = fit(model, world.data, FitContext())
    assert [row.epoch for row in report.history] == list(range(1, 16))
    assert report.history[-1].train_loss < 0.95 * report.history[0].train_loss


@pytest.mark.parametrize("steps", [1, 14, 17])
@pytest.mark.parametrize(
    ("name", "target"),
    [("factorization", "implicit"), ("factorization", "rating"), ("deep", "rating"), ("two_tower", "implicit")],
)
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(
    name: str, target: str, steps: int, world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 steps an epoch: kills within the first, at an epoch's end, and later; with validation and best weights."""
    held_out = world.held_out
    whole_model = create(name, target=target, max_epochs=5, patience=2)
    whole = fit(whole_model, world.data, FitContext(held_out=held_out))

    taken = 0
    step = Loop._one_step

    def dying(self: Loop, order: torch.Tensor) -> torch.Tensor:
        nonlocal taken
        if taken == steps:
            raise KilledError
        taken += 1
        return step(self, order)

    settings = {"target": target, "max_epochs": 5, "patience": 2, "checkpoint_seconds": 1e-9}
    context = FitContext(held_out=held_out, checkpoint=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_one_step", dying)
        with pytest.raises(KilledError):
            fit(create(name, **settings), world.data, context)
    lines: list[str] = []
    resumed_model = create(name, **settings)
    resumed = fit(resumed_model, world.data, replace(context, report=lines.append))
    assert any("going on" in line for line in lines)
    assert weights(resumed_model) == weights(whole_model)
    assert resumed.choice == whole.choice
    assert resumed.validation == whole.validation
    assert [(row.epoch, row.train_loss, row.validation) for row in resumed.history] == [
        (row.epoch, row.train_loss, row.validation) for row in whole.history
    ]


def test_finished_checkpoint_is_not_trained_again(
    world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = fitted("factorization", "implicit", world, checkpoint=tmp_path)
    monkeypatch.setattr(Loop, "_one_step", lambda self, order: pytest.fail("trained again"))
    again, _ = fitted("factorization", "implicit", world, checkpoint=tmp_path)
    assert weights(first) == weights(again)


def test_one_cycle_spans_what_is_allowed_and_is_not_cut_short(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 steps an epoch; a number of epochs chosen earlier is the beginning of the same cycle."""
    asked: list[tuple[int, int]] = []

    def watched(step: int, n_steps: int) -> float:
        asked.append((step, n_steps))
        return one_cycle(step, n_steps)

    monkeypatch.setattr(loop_module, "one_cycle", watched)
    settings = {"target": "implicit", "schedule": "one_cycle", "max_epochs": 5, "patience": 1, "learning_rate": 1e-9}
    report = fit(create("factorization", **settings), world.data, FitContext(held_out=world.held_out))
    assert len(report.history) == 5  # nothing gets better at this step size, and patience is 1
    assert asked == [(step, 35) for step in range(35)]
    asked.clear()
    fit(create("factorization", **settings), world.data, FitContext(choice={"n_epochs": 2}))
    assert asked == [(step, 35) for step in range(14)]
    asked.clear()
    fit(create("factorization", **settings | {"n_epochs": 3}), world.data, FitContext())
    assert asked == [(step, 21) for step in range(21)]


def test_step_size_follows_the_schedule(world: SmallWorld) -> None:
    steady = create("factorization", target="implicit", n_epochs=1, batch_size=1000)
    cycling = create("factorization", target="implicit", n_epochs=1, batch_size=1000, schedule="one_cycle")
    doubled = create("factorization", target="implicit", n_epochs=1, batch_size=1000, learning_rate=0.006)
    for model in (steady, cycling, doubled):
        fit(model, world.data, FitContext())
    # a single step is the top of its cycle
    assert weights(cycling) == weights(steady) != weights(doubled)


@pytest.mark.parametrize("change", ["seed", "data", "settings"])
def test_checkpoint_of_another_fit_is_left_alone(change: str, world: SmallWorld, tmp_path: Path) -> None:
    fitted("factorization", "rating", world, seed=1, checkpoint=tmp_path)
    other = world
    if change == "data":
        assert world.train.ratings is not None
        other = replace(world, train=replace(world.train, ratings=world.train.ratings[::-1].copy()))
    model = create("factorization", target="rating", n_epochs=4, learning_rate=0.01 if change == "settings" else 0.003)
    lines: list[str] = []
    context = FitContext(seed=2 if change == "seed" else 1, checkpoint=tmp_path, report=lines.append)
    fit(model, other.data, context)
    assert not any("going on" in line for line in lines)


class Scripted:
    """A validator that says what it was told to."""

    def __init__(self, values: list[float], metric: str) -> None:
        self.metric = metric
        self._values = iter(values)
        self.seen: list[dict[str, bytes]] = []

    def measure(self, model: Model) -> float:
        self.seen.append(weights(model))
        return next(self._values)


@pytest.mark.parametrize(
    ("metric", "values", "best", "stops"),
    [
        ("rmse", [1.0, 0.8, 0.9, 0.85, 0.7], 2, 4),  # two epochs without a better value
        ("ndcg", [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.9], 4, 6),
        ("ndcg", [0.1, float("nan"), 0.2, 0.3, 0.4], 5, 5),  # NaN is no improvement
        ("rmse", [5.0, 4.0, 3.0, 2.0, 1.0], 5, 5),
    ],
)
def test_early_stopping_keeps_the_best_weights(
    metric: str, values: list[float], best: int, stops: int, world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = Scripted(values, metric)
    monkeypatch.setattr("recpipe.training.fitting.gather_held_out", lambda *args, **kwargs: validator)
    model = create("deep", target="rating", max_epochs=len(values), patience=2)
    report = fit(model, world.data, FitContext(held_out=world.held_out))
    assert len(report.history) == stops
    assert report.choice == {"n_epochs": best}
    assert report.validation == values[best - 1]
    assert weights(model) == validator.seen[best - 1]


def test_validation_that_gives_no_number_says_so(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    validator = Scripted([float("nan")] * 5, "ndcg")
    monkeypatch.setattr("recpipe.training.fitting.gather_held_out", lambda *args, **kwargs: validator)
    with pytest.raises(DataError, match="no epoch gave"):
        fit(create("deep", target="rating", max_epochs=5), world.data, FitContext(held_out=world.held_out))


def test_diverging_training_says_so(world: SmallWorld) -> None:
    assert world.train.ratings is not None
    ratings = world.train.ratings.copy()
    ratings[3] = 1e30
    broken = replace(world, train=replace(world.train, ratings=ratings))
    with pytest.raises(DataError, match="the loss became"):
        fit(create("factorization", target="rating", n_epochs=2), broken.data, FitContext())


def test_defaults_change_nothing_but_what_they_say(world: SmallWorld) -> None:
    """Execution settings do not change the model."""
    one = create("factorization", target="implicit", n_epochs=2)
    two = create("factorization", target="implicit", n_epochs=2, checkpoint_seconds=1e-9, pin_memory=False)
    fit(one, world.data, FitContext())
    fit(two, world.data, FitContext())
    assert weights(one) == weights(two)


def test_bfloat16_trains(world: SmallWorld) -> None:
    model = create("factorization", target="implicit", n_epochs=2, precision="bfloat16")
    report = fit(model, world.data, FitContext())
    assert np.isfinite(report.history[-1].train_loss)
    exact = create("factorization", target="implicit", n_epochs=2)
    fit(exact, world.data, FitContext())
    assert weights(model) != weights(exact)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_like_the_cpu(world: SmallWorld) -> None:
    cpu = fitted("factorization", "rating", world)[1]
    cuda = fitted("factorization", "rating", world, device="cuda")[1]
    assert cuda.history[-1].train_loss == pytest.approx(cpu.history[-1].train_loss, rel=0.2)


def test_no_pickle_is_written(world: SmallWorld, tmp_path: Path) -> None:
    fitted("factorization", "implicit", world, checkpoint=tmp_path)
    files = list(tmp_path.iterdir())
    assert [path.suffix for path in files] == [".safetensors"]
    source = Path(loop_module.__file__).parent
    for path in source.glob("*.py"):
        assert "torch.save" not in path.read_text() and "import pickle" not in path.read_text()


def test_settings_of_iterative_models_have_bounds() -> None:
    for bad in ({"n_epochs": 0}, {"id_dropout": 1.0}, {"learning_rate": 0.0}, {"negatives": 0}, {"loss": "hinge"}):
        with pytest.raises(ValueError):
            IterativeSettings.model_validate(bad)
