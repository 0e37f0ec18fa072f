"""Which model `train.model: auto` keeps, and what it may look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from small_world import small_world

from recpipe.errors import ConfigError
from recpipe.models.base import FitContext, Histories, Profiles, TrainingData
from recpipe.models.registry import find_model
from recpipe.models.settings import ModelSettings
from recpipe.training.selection import select

WORLD = small_world()


def candidates(*names: str) -> list[ModelSettings]:
    return [find_model(name).settings() for name in names]


def test_the_best_on_held_out_interactions_is_kept() -> None:
    context = FitContext(held_out=WORLD.held_out)
    found = select(candidates("random", "content", "popularity"), WORLD.data, context)
    assert set(found.values) == {"random", "content", "popularity"}
    assert found.model.settings.model == max(found.values, key=lambda name: found.values[name])
    assert found.report.choice["model"] == found.model.settings.model


def test_an_earlier_choice_is_followed() -> None:
    context = FitContext(choice={"model": "random"}, held_out=WORLD.held_out)
    found = select(candidates("popularity", "random"), WORLD.data, context)
    assert found.model.settings.model == "random" and not found.values


def test_an_earlier_choice_that_is_no_candidate_is_refused() -> None:
    with pytest.raises(ConfigError, match="no candidate"):
        select(candidates("popularity"), WORLD.data, FitContext(choice={"model": "deep"}))


def test_without_held_out_data_the_choice_sees_no_profile() -> None:
    """Embeddings and profiles of production saw what is held out here: only the final fit may use them."""
    seen: list[bool] = []

    def blocks() -> Iterator[tuple[Profiles, Histories]]:
        for profiles, histories in WORLD.data.blocks():
            # a taste that points at everything the user took: what leaks in production
            vectors = np.stack(
                [
                    WORLD.items.embeddings[histories.item_rows[start:stop]].mean(axis=0)
                    for start, stop in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
                ]
            )
            seen.append(True)
            yield replace(profiles, embeddings=vectors.astype(np.float32)), histories

    lines: list[str] = []
    data: TrainingData = replace(WORLD.data, open_blocks=blocks)
    found = select(candidates("content", "popularity", "random"), data, FitContext(report=lines.append))
    assert set(found.values) == {"popularity", "random"} and seen
    assert found.model.settings.model != "content"
    assert any("without content" in line for line in lines)


def test_without_held_out_data_and_nothing_to_judge_the_first_is_fitted() -> None:
    settings = [find_model("content").settings(), find_model("content").settings(positive_from=2.0)]
    found = select(settings, WORLD.data, FitContext())
    assert found.model.settings == settings[0] and not found.values


def test_too_few_interactions_to_choose_by_take_the_first() -> None:
    one_each = Histories(
        items=WORLD.items,
        offsets=np.arange(len(WORLD.profiles) + 1, dtype=np.int64),
        item_rows=np.zeros(len(WORLD.profiles), np.int32),
    )
    lines: list[str] = []
    data = WORLD.in_blocks(one_each, 1000)
    found = select(candidates("popularity", "random"), data, FitContext(report=lines.append))
    assert found.model.settings.model == "popularity" and not found.values
    assert any("without a choice" in line for line in lines)
