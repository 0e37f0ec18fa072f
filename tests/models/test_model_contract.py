"""What every model keeps, found by name: a new model is tested without a new line here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recpipe.models.base import (
    FactoredModel,
    FitContext,
    Histories,
    Items,
    Model,
    PairwiseModel,
    Profiles,
    TrainingData,
)
from recpipe.models.registry import find_model, load_model, model_names
from recpipe.models.settings import IterativeSettings
from recpipe.models.tables import Block
from recpipe.schemas import ARTIFACTS, ITEM_EMBEDDINGS
from recpipe.training.fitting import fit

N_USERS, N_ITEMS, DIM = 30, 40, 8


@dataclass
class World:
    """A small world with users and items of every kind: embedded and not, with history and without."""

    items: Items
    profiles: Profiles
    histories: Histories

    def data(self, block_users: int = N_USERS) -> TrainingData:
        def blocks() -> Iterator[tuple[Profiles, Histories]]:
            for start in range(0, len(self.profiles), block_users):
                stop = min(start + block_users, len(self.profiles))
                yield self.profiles.rows(start, stop), self.histories.rows(start, stop)

        return TrainingData(
            items=self.items,
            open_blocks=blocks,
            n_users=len(self.profiles),
            targets=frozenset({"implicit", "rating"}),
            as_of_us=self.histories.as_of_us,
        )


def unit_rows(rng: np.random.Generator, n_rows: int, embedded: np.ndarray) -> np.ndarray:
    rows = rng.standard_normal((n_rows, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[~embedded] = 0
    return rows.astype(np.float32)


def make_items(rng: np.random.Generator, prefix: str, n_items: int) -> Items:
    embedded = np.arange(n_items) % 5 != 0
    ids = pa.array([f"{prefix}{number}" for number in range(n_items)])
    first_seen = np.arange(n_items, dtype=np.int64)
    return Items(ids=ids, embeddings=unit_rows(rng, n_items, embedded), embedded=embedded, first_seen_us=first_seen)


def make_profiles(rng: np.random.Generator, prefix: str, n_users: int) -> Profiles:
    embedded = np.arange(n_users) % 4 != 0
    embeddings = unit_rows(rng, n_users, embedded)
    centres = np.tile(embeddings.mean(axis=0), (n_users, 1))
    return Profiles(
        user_ids=pa.array([f"{prefix}{number}" for number in range(n_users)]),
        embeddings=embeddings,
        embedded=embedded,
        features=rng.random((n_users, 3), dtype=np.float32),
        segments=np.where(embedded, np.arange(n_users) % 3, -1).astype(np.int32),
        centres=centres,
    )


def make_histories(rng: np.random.Generator, n_users: int, items: Items) -> Histories:
    sizes = rng.integers(0, 9, n_users)
    sizes[0] = 0
    n_events = int(sizes.sum())
    return Histories(
        items=items,
        offsets=np.append(0, np.cumsum(sizes)).astype(np.int64),
        item_rows=rng.integers(0, len(items), n_events).astype(np.int32),
        ratings=rng.integers(1, 6, n_events).astype(np.float32),
        timestamps_us=rng.integers(0, 10**15, n_events),
        as_of_us=10**15,
    )


@pytest.fixture
def world() -> World:
    rng = np.random.default_rng(7)
    items = make_items(rng, "item", N_ITEMS)
    return World(items, make_profiles(rng, "user", N_USERS), make_histories(rng, N_USERS, items))


@pytest.fixture
def unseen() -> World:
    rng = np.random.default_rng(8)
    items = make_items(rng, "new-item", 9)
    return World(items, make_profiles(rng, "new-user", 6), make_histories(rng, 6, items))


@pytest.fixture(params=model_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fitted(name: str, data: TrainingData) -> Model:
    spec = find_model(name)
    settings = spec.settings(max_epochs=3) if issubclass(spec.settings, IterativeSettings) else spec.settings()
    model = spec.create(settings)
    fit(model, data, FitContext(seed=3))
    return model


def all_scores(model: Model, profiles: Profiles, histories: Histories) -> np.ndarray:
    if isinstance(model, FactoredModel):
        return model.user_vectors(profiles, histories).vectors @ model.item_vectors(histories.items).T
    assert isinstance(model, PairwiseModel)
    return model.score_block(profiles, histories, histories.items).scores


def sources(model: Model, profiles: Profiles, histories: Histories) -> list[str]:
    if isinstance(model, FactoredModel):
        return model.user_vectors(profiles, histories).source.tolist()
    assert isinstance(model, PairwiseModel)
    return model.score_block(profiles, histories, histories.items).source.tolist()


def test_declaration_is_complete(name: str) -> None:
    spec = find_model(name)
    assert spec.name == name
    assert spec.summary.endswith(".")
    assert spec.settings().model == name
    assert spec.targets
    assert set(spec.reads) <= set(ARTIFACTS)
    assert not spec.blocks or ITEM_EMBEDDINGS.name in spec.reads


def test_models_are_declared_without_heavy_imports() -> None:
    code = (
        "import sys\n"
        "from recpipe.models.registry import find_model, model_names\n"
        "import recpipe.scoring.settings\n"
        "for name in model_names(): find_model(name).settings()\n"
        "print(sorted({'numpy', 'torch', 'sklearn', 'pyarrow', 'pandas', 'safetensors'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scores_are_finite_and_told_apart(name: str, world: World) -> None:
    model = fitted(name, world.data())
    scores = all_scores(model, world.profiles, world.histories)
    assert scores.shape == (N_USERS, N_ITEMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert len(np.unique(scores[1])) > 1
    assert all(sources(model, world.profiles, world.histories))


def test_vectors_of_pictures_are_read_by_the_models_that_say_so(name: str, world: World) -> None:
    rng = np.random.default_rng(11)
    picture = Block(unit_rows(rng, N_ITEMS, np.ones(N_ITEMS, bool)), np.ones(N_ITEMS, bool))
    seeing = replace(world.items, blocks={"image": picture})
    with_pictures = World(seeing, world.profiles, replace(world.histories, items=seeing))
    alike = []
    for folder_world in (world, with_pictures):
        model = fitted(name, folder_world.data())
        alike.append(all_scores(model, folder_world.profiles, folder_world.histories))
    assert (not np.allclose(alike[0], alike[1], atol=1e-6)) == find_model(name).blocks


def test_fit_is_reproducible_and_independent_of_blocks(name: str, world: World) -> None:
    once = all_scores(fitted(name, world.data()), world.profiles, world.histories)
    again = all_scores(fitted(name, world.data()), world.profiles, world.histories)
    in_blocks = all_scores(fitted(name, world.data(block_users=7)), world.profiles, world.histories)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(once, in_blocks, atol=1e-5)


def test_saved_model_scores_the_same(name: str, world: World, unseen: World, tmp_path: Path) -> None:
    model = fitted(name, world.data())
    model.save(tmp_path / "one")
    model.save(tmp_path / "two")
    loaded = load_model(tmp_path / "one")
    for people in (world, unseen):
        np.testing.assert_array_equal(
            all_scores(model, people.profiles, people.histories), all_scores(loaded, people.profiles, people.histories)
        )
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".parquet"}
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_scoring_does_not_depend_on_blocks(name: str, world: World) -> None:
    model = fitted(name, world.data())
    whole = all_scores(model, world.profiles, world.histories)
    parts = [
        all_scores(model, world.profiles.rows(start, start + 4), world.histories.rows(start, start + 4))
        for start in range(0, N_USERS, 4)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_unseen_users_and_items_come_in(name: str, world: World, unseen: World) -> None:
    model = fitted(name, world.data())
    assert np.isfinite(all_scores(model, unseen.profiles, unseen.histories)).all()
    strangers = Histories.empty(6, unseen.items)
    assert np.isfinite(all_scores(model, unseen.profiles, strangers)).all()


def test_known_items_are_found_by_id_in_another_catalogue(name: str, world: World, unseen: World) -> None:
    """Tonight's catalogue has other rows than the one trained on: new items first, the old ones reversed."""
    model = fitted(name, world.data())
    n_new = len(unseen.items)
    catalogue = Items(
        ids=pa.concat_arrays([unseen.items.ids, world.items.ids.take(pa.array(np.arange(N_ITEMS)[::-1]))]),
        embeddings=np.concatenate([unseen.items.embeddings, world.items.embeddings[::-1]]),
        embedded=np.concatenate([unseen.items.embedded, world.items.embedded[::-1]]),
        first_seen_us=np.concatenate([unseen.items.first_seen_us, world.items.first_seen_us[::-1]]),
    )
    histories = Histories(
        items=catalogue,
        offsets=world.histories.offsets,
        item_rows=(n_new + N_ITEMS - 1 - world.histories.item_rows).astype(np.int32),
        ratings=world.histories.ratings,
        timestamps_us=world.histories.timestamps_us,
        as_of_us=world.histories.as_of_us,
    )
    before = all_scores(model, world.profiles, world.histories)
    after = all_scores(model, world.profiles, histories)[:, n_new:][:, ::-1]
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_predicted_ratings_are_ratings_for_anybody(name: str, world: World, unseen: World) -> None:
    model = fitted(name, world.data())
    for people in (world, unseen):
        n_users, n_items = len(people.profiles), len(people.items)
        user_rows, item_rows = (grid.reshape(-1) for grid in np.indices((n_users, n_items)))
        if not model.predicts_ratings:
            with pytest.raises(TypeError, match="ratings"):
                model.predict_rating(
                    people.profiles, people.histories, people.items, user_rows=user_rows, item_rows=item_rows
                )
            continue
        whole = model.predict_rating(
            people.profiles, people.histories, people.items, user_rows=user_rows, item_rows=item_rows
        )
        assert whole.shape == (n_users * n_items,) and whole.dtype == np.float32
        assert (whole >= 1.0).all() and (whole <= 5.0).all()  # the range of the world's ratings
        last = model.predict_rating(
            people.profiles.rows(n_users - 1, n_users),
            people.histories.rows(n_users - 1, n_users),
            people.items,
            user_rows=np.zeros(n_items, np.int64),
            item_rows=np.arange(n_items),
        )
        np.testing.assert_allclose(last, whole[-n_items:], atol=1e-5)


def test_intervals_hold_the_predicted_rating(name: str, world: World, unseen: World) -> None:
    model = fitted(name, world.data())
    for people in (world, unseen):
        user_rows, item_rows = (grid.reshape(-1) for grid in np.indices((len(people.profiles), len(people.items))))
        tables = people.profiles, people.histories, people.items
        interval = model.rating_interval(*tables, user_rows=user_rows, item_rows=item_rows)
        if interval is None:
            continue
        low, high = interval
        predicted = model.predict_rating(*tables, user_rows=user_rows, item_rows=item_rows)
        assert low.dtype == high.dtype == np.float32
        assert (low >= 1.0).all() and (high <= 5.0).all() and (low < high).all()
        assert ((low <= predicted) & (predicted <= high)).all()


def test_nothing_known_but_histories_is_enough(name: str, world: World) -> None:
    """No embeddings, no profiles, no ratings, no times: every model still ranks."""
    items = Items.bare(world.items.ids)
    histories = Histories(items=items, offsets=world.histories.offsets, item_rows=world.histories.item_rows)
    bare = World(items, Profiles.bare(world.profiles.user_ids), histories)
    data = TrainingData(
        items=items, open_blocks=lambda: iter([(bare.profiles, bare.histories)]), n_users=len(bare.profiles)
    )
    spec = find_model(name)
    if "implicit" not in spec.targets:
        pytest.skip("learns from ratings only")
    scores = all_scores(fitted(name, data), bare.profiles, bare.histories)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores[1])) > 1


def test_unfitted_model_refuses(name: str, world: World, tmp_path: Path) -> None:
    spec = find_model(name)
    with pytest.raises(RuntimeError, match="fit or load"):
        spec.create(spec.settings()).save(tmp_path)
