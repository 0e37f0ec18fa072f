"""The model hybrid as settings, as chosen values and as a folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_tastes import (
    BY_CLASS,
    FIXED,
    NEW,
    QUICK_PARTS,
    SETTLED,
    Tastes,
    hybrid,
    planted_tastes,
    scores_of,
    weighed,
)
from pydantic import ValidationError

from recpipe.config import validate
from recpipe.errors import ConfigError, MissingInputError
from recpipe.models.base import JsonValue
from recpipe.models.hybrid.fusion import CLASS_NAMES, NEW_NAMES, FusionWeights
from recpipe.models.hybrid.model import HybridModel, HybridSettings
from recpipe.models.registry import load_model


@pytest.fixture(scope="module")
def tastes() -> Tastes:
    return planted_tastes(n_users=90)


@pytest.fixture(scope="module")
def fused(tastes: Tastes) -> HybridModel:
    return weighed(tastes, FIXED)


def test_choice_comes_back() -> None:
    found = FusionWeights.from_choice(QUICK_PARTS, FIXED.choice())
    assert found is not None
    assert found.parts == QUICK_PARTS and found.offset == 1.25
    np.testing.assert_array_equal(found.by_class, BY_CLASS)
    np.testing.assert_array_equal(found.new, NEW)
    assert FusionWeights.from_choice(QUICK_PARTS, {}) is None
    assert FusionWeights.from_choice(QUICK_PARTS, {"ease.l2": 300.0, "n_epochs": 3}) is None
    # a part that was not there when weights were chosen has none
    fewer = FusionWeights(QUICK_PARTS[:2], BY_CLASS[:2], NEW[:2], 0.5)
    more = FusionWeights.from_choice(QUICK_PARTS, fewer.choice())
    assert more is not None
    assert more.used == QUICK_PARTS[:2] and not more.by_class[2:].any()


def test_choice_loses_nothing() -> None:
    """What is saved scores as what was chosen: also weights with many digits."""
    rng = np.random.default_rng(0)
    weights = FusionWeights(
        QUICK_PARTS,
        rng.random((4, len(CLASS_NAMES)), dtype=np.float32),
        rng.random((4, len(NEW_NAMES)), dtype=np.float32) * np.float32(1e-3),
        0.25,
    )
    found = FusionWeights.from_choice(QUICK_PARTS, weights.choice())
    assert found is not None
    np.testing.assert_array_equal(found.by_class, weights.by_class)
    np.testing.assert_array_equal(found.new, weights.new)


def test_one_part_alone_counts_for_new_items_by_its_own_way() -> None:
    alone = FusionWeights.alone(QUICK_PARTS, "content")
    assert alone.used == ("content",)
    np.testing.assert_array_equal(alone.known, [0, 0, 0, 1])
    assert alone.new[3, 0] > 0.0 and not alone.new[:3].any() and not alone.new[:, 1].any()
    assert alone.offset < 0.0  # after the first known ones


def test_saved_model_holds_the_parts_that_count(tastes: Tastes, tmp_path: Path) -> None:
    weights = replace(FIXED, new=NEW * np.array([[1], [1], [1], [0]], np.float32))
    model = weighed(tastes, weights)
    assert list(model.parts) == list(QUICK_PARTS[:3])
    model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model" / "parts").iterdir()) == sorted(QUICK_PARTS[:3])
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, HybridModel) and list(loaded.parts) == list(QUICK_PARTS[:3])
    np.testing.assert_array_equal(
        scores_of(loaded, tastes.profiles, tastes.train), scores_of(model, tastes.profiles, tastes.train)
    )
    # another night's catalogue has other rows
    order = np.random.default_rng(0).permutation(len(tastes.items))
    places = np.argsort(order)
    histories = replace(
        tastes.train,
        items=tastes.items.rows(order),
        item_rows=places[tastes.train.item_rows].astype(np.int32),
    )
    np.testing.assert_allclose(
        scores_of(loaded, tastes.profiles, histories)[:, places],
        scores_of(model, tastes.profiles, tastes.train),
        atol=1e-5,
    )


@pytest.mark.parametrize("missing", ["parts/ease", "parts", "parts/segment_prior/model.json"])
def test_a_missing_part_is_an_error_that_says_what_to_do(
    tastes: Tastes, fused: HybridModel, tmp_path: Path, missing: str
) -> None:
    fused.save(tmp_path)
    path = tmp_path / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(MissingInputError) as caught:
        load_model(tmp_path)
    assert "recpipe train" in str(caught.value.next_step)


def test_weights_of_another_model_are_damage(fused: HybridModel) -> None:
    state = fused.state()
    values: dict[str, JsonValue] = {key: value for key, value in state.values.items() if not key.startswith("weight.")}
    with pytest.raises(KeyError, match="weights"):
        hybrid(QUICK_PARTS).restore(replace(state, values=values))
    arrays = {key: array for key, array in state.weights.items() if key != "ease.centre"}
    with pytest.raises(KeyError, match="centre"):
        hybrid(QUICK_PARTS).restore(replace(state, weights=arrays))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"parts": ["easy"]}, ["'easy' is no part of hybrid", "did you mean 'ease'"]),
        ({"parts": []}, ["parts"]),
        ({"parts": ["bpr"]}, ["bpr", "no part"]),
        ({"part_settings": {"two_towers": {}}}, ["two_towers", "two_tower"]),
        ({"part_settings": {"ease": {"l3": 1.0}}}, ["part_settings.ease", "l3"]),
        ({"part_settings": {"ease": {"l2": -1.0}}}, ["part_settings.ease", "l2"]),
        ({"part_settings": {"two_tower": {"history": "long"}}}, ["part_settings.two_tower", "history"]),
        ({"new_item_cost": 1.0}, ["new_item_cost"]),
        ({"new_item_cost": -0.1}, ["new_item_cost"]),
        ({"target": "rating"}, ["target"]),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(HybridSettings, values)
    for word in words:
        assert word in str(caught.value)
    with pytest.raises(ValidationError):
        HybridSettings(**values)


def test_settings_reach_the_parts() -> None:
    settings = HybridSettings(part_settings={"two_tower": {"hidden_dim": 7}, **SETTLED}, positive_from=4.0)
    tower, ease = settings.settings_of("two_tower"), settings.settings_of("ease")
    assert tower.hidden_dim == 7 and tower.history == 50 and tower.max_epochs == 10  # type: ignore[attr-defined]
    assert ease.l2 == 20.0  # type: ignore[attr-defined]
    assert tower.positive_from == ease.positive_from == 4.0
