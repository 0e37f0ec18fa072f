from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recpipe.errors import DataError
from recpipe.models.base import FitContext, Histories, Items, Profiles, TrainingData
from recpipe.models.content import ContentModel, ContentSettings


def rows(*vectors: list[float]) -> np.ndarray:
    matrix = np.array(vectors, dtype=np.float32)
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)


ITEMS = Items(
    ids=pa.array(["east", "north", "west", "blank", "blank-hit"]),
    embeddings=rows([1, 0], [0, 1], [-1, 0], [0, 0], [0, 0]),
    embedded=np.array([True, True, True, False, False]),
)
PROFILES = Profiles(
    user_ids=pa.array(["looks-east", "by-segment", "nobody"]),
    embeddings=rows([2, 1], [0, 0], [0, 0]),
    embedded=np.array([True, False, False]),
    features=np.zeros((3, 0), dtype=np.float32),
    segments=np.array([0, 1, -1], dtype=np.int32),
    centres=np.array([[0.5, 0.5], [-0.5, 0.1], [0, 0]], dtype=np.float32),
)
HISTORIES = Histories(items=ITEMS, offsets=np.array([0, 2, 3, 3]), item_rows=np.array([4, 1, 4], dtype=np.int32))


def fit(settings: ContentSettings, profiles: Profiles = PROFILES) -> ContentModel:
    data = TrainingData(items=ITEMS, open_blocks=lambda: iter([(profiles, HISTORIES)]), n_users=len(profiles))
    model = ContentModel(settings)
    model.fit(data, FitContext())
    return model


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left @ right.T / np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))


def test_score_is_the_cosine_with_the_user_or_the_centre() -> None:
    model = fit(ContentSettings(centred=False))
    users = model.user_vectors(PROFILES, HISTORIES)
    scores = users.vectors @ model.item_vectors(ITEMS).T
    expected = cosine(np.stack([PROFILES.embeddings[0], PROFILES.centres[1]]), ITEMS.embeddings[:3])
    np.testing.assert_allclose(scores[:2, :3], expected, atol=1e-6)
    assert users.source.tolist() == ["content", "segment", "popularity"]


def test_centred_score_is_the_cosine_around_the_means() -> None:
    rng = np.random.default_rng(1)
    profiles = Profiles(
        user_ids=pa.array(["a", "b", "c"]),
        embeddings=rows(*(rng.random((3, 2)) + 0.2).tolist()),
        embedded=np.ones(3, dtype=bool),
        features=np.zeros((3, 0), dtype=np.float32),
        segments=np.zeros(3, dtype=np.int32),
        centres=np.ones((3, 2), dtype=np.float32),
    )
    model = fit(ContentSettings(centred=True), profiles)
    scores = model.user_vectors(profiles, HISTORIES).vectors @ model.item_vectors(ITEMS).T
    users_around = profiles.embeddings - profiles.embeddings.mean(axis=0)
    items_around = ITEMS.embeddings[:3] - ITEMS.embeddings[:3].mean(axis=0)
    np.testing.assert_allclose(scores[:, :3], cosine(users_around, items_around), atol=1e-5)


def test_centred_user_at_the_mean_gets_popularity() -> None:
    """The mean of all users says nothing about this one; rounding must not be normalised into a direction."""
    everybody = Profiles(
        user_ids=pa.array(["same", "again", "none"]),
        embeddings=rows([1, 2], [1, 2], [0, 0]),
        embedded=np.array([True, True, False]),
        features=np.zeros((3, 0), dtype=np.float32),
        segments=np.array([0, 0, -1], dtype=np.int32),
        centres=rows([1, 2], [1, 2], [1, 2.0001]),
    )
    model = fit(ContentSettings(centred=True), everybody)
    assert model.user_vectors(everybody, HISTORIES).source.tolist() == ["popularity"] * 3


@pytest.mark.parametrize("centred", [False, True])
def test_items_without_embedding_come_last_the_popular_ones_first(centred: bool) -> None:
    people = Profiles(
        user_ids=pa.array(["south-west", "north", "nobody"]),
        embeddings=rows([-1, -3], [0, 1], [0, 0]),
        embedded=np.array([True, True, False]),
        features=np.zeros((3, 0), dtype=np.float32),
        segments=np.array([0, 0, -1], dtype=np.int32),
        centres=np.zeros((3, 2), dtype=np.float32),
    )
    model = fit(ContentSettings(centred=centred), people)
    users = model.user_vectors(people, HISTORIES)
    scores = users.vectors @ model.item_vectors(ITEMS).T
    assert users.source.tolist() == ["content", "content", "popularity"]
    for user in (0, 1):
        assert np.argsort(-scores[user])[-2:].tolist() == [4, 3]  # "blank-hit" before "blank"
    assert np.argsort(-scores[2])[:2].tolist() == [4, 1]  # popularity alone: the hit is first
    assert model.item_sources(ITEMS).tolist() == ["", "", "", "popularity", "popularity"]


def test_another_encoder_is_refused() -> None:
    model = fit(ContentSettings())
    wide = Items(ids=pa.array(["x"]), embeddings=np.ones((1, 3), np.float32), embedded=np.array([True]))
    with pytest.raises(DataError, match="3 dimensions"):
        model.item_vectors(wide)
