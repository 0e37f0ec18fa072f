"""Fusion of an item's blocks: whitening, missing blocks, what it is learned from, and where models use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf_shrinkage

from recpipe.errors import DataError
from recpipe.models.item_blocks import JOINED_TEXT, MAX_COORDINATES, ItemBlocks, shrinkage
from recpipe.models.item_content import ItemContent
from recpipe.models.tables import Block, Items


def catalogue(blocks: Mapping[str, Block], *, dim: int = 6, seed: int = 0) -> Items:
    n = len(next(iter(blocks.values()))) if blocks else 30
    text = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return Items(
        ids=pa.array([f"i{row}" for row in range(n)]), embeddings=text, embedded=np.ones(n, np.bool_), blocks=blocks
    )


def block(rng: np.random.Generator, n: int, dim: int, *, missing: float = 0.0) -> Block:
    present = rng.random(n) >= missing
    vectors = (rng.standard_normal((n, dim)) * np.geomspace(1, 0.01, dim) + 3).astype(np.float32)
    vectors[~present] = 0
    return Block(vectors, present)


def fitted(items: Items, taken: np.ndarray | None = None) -> ItemBlocks:
    found = ItemBlocks.of(items, taken)
    assert found is not None
    return found


def test_without_blocks_there_is_nothing_to_fuse() -> None:
    items = catalogue({})
    assert ItemBlocks.of(items) is None
    content = ItemContent.of(items)
    assert content.blocks is None and set(content.weights()) == {"content_mean"}
    assert set(content.values()) == {"content_attributes", "category_weight", "number_weight"}
    nobody_has_one = catalogue({"image": Block(np.zeros((30, 4), np.float32), np.zeros(30, np.bool_))})
    assert ItemBlocks.of(nobody_has_one) is None


def test_blocks_without_any_text_are_fused() -> None:
    rng = np.random.default_rng(1)
    bare = Items.bare(pa.array([f"i{row}" for row in range(30)]))
    items = replace(bare, blocks={"image": block(rng, 30, 5), "audio": block(rng, 30, 4, missing=0.5)})
    assert list(fitted(items).maps) == ["image", "audio"]


def test_blocks_are_half_whitened() -> None:
    """With many items nothing is shrunk: before z is brought to length 1, directions are uncorrelated, and where one
    had four times the standard deviation of another, it has twice."""
    rng = np.random.default_rng(2)
    vectors = (rng.standard_normal((20_000, 5)) * np.array([4, 3, 2, 1.5, 1]) + 3).astype(np.float32)
    image = Block(vectors, np.ones(20_000, np.bool_))
    found = fitted(catalogue({"image": image})).maps["image"]
    whitened = (image.vectors - found.mean) @ found.whitening
    covariance = np.cov(whitened.T)
    np.testing.assert_allclose(covariance / covariance[4, 4], np.diag([4, 3, 2, 1.5, 1]), atol=0.06)


def test_few_items_do_not_blow_up_rare_directions() -> None:
    """Of ten vectors in 200 dimensions, noise around one direction, none is stretched far beyond the others."""
    rng = np.random.default_rng(3)
    vectors = (0.1 * rng.standard_normal((10, 200))).astype(np.float32)
    found = fitted(catalogue({"image": Block(vectors, np.ones(10, np.bool_))})).maps["image"]
    lengths = np.linalg.norm(found.whitening, axis=0)
    assert found.whitening.shape[1] == 9
    assert lengths.max() < 1.5 * lengths.min()


@given(n=st.integers(2, 40), dim=st.integers(1, 30), seed=st.integers(0, 1000))
def test_shrinkage_is_that_of_ledoit_and_wolf(n: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim)) * rng.random(dim)
    rows -= rows.mean(axis=0)
    expected = ledoit_wolf_shrinkage(rows, assume_centered=True) if dim > 1 else shrinkage(rows)
    assert shrinkage(rows) == pytest.approx(expected, abs=1e-6)


@given(n=st.integers(3, 40), missing=st.floats(0, 0.9), seed=st.integers(0, 1000))
def test_fused_vectors_have_length_one_and_share_it_among_the_blocks_an_item_has(
    n: int, missing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    blocks = {"image": block(rng, n, 5, missing=missing), "audio": block(rng, n, 80, missing=missing)}
    items = catalogue(blocks, seed=seed)
    found = ItemBlocks.of(items)
    if found is None:
        return
    apart = found.vectors(items)
    fused = found.fused(apart)
    assert fused.dtype == np.float32 and fused.shape == (n, found.width)
    assert (found.sizes <= MAX_COORDINATES).all()
    n_present = apart.present.sum(axis=1)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), n_present > 0, atol=1e-5)
    for place in range(len(found.maps)):
        own = np.linalg.norm(fused[:, found.owners == place], axis=1)
        expected = np.where(apart.present[:, place], 1 / np.sqrt(np.maximum(n_present, 1)), 0)
        np.testing.assert_allclose(own, expected, atol=1e-5)
    np.testing.assert_array_equal(found.flagged(apart)[:, found.width :], apart.present)


def test_scale_and_offset_of_an_encoder_change_nothing() -> None:
    rng = np.random.default_rng(4)
    image = block(rng, 50, 5)
    items = catalogue({"image": image})
    louder = replace(items, blocks={"image": Block(image.vectors * 1000 + 70, image.present)})
    one, other = (found.fused(found.vectors(each)) for each in (items, louder) for found in [fitted(each)])
    np.testing.assert_allclose(np.abs(one), np.abs(other), atol=2e-2)


def test_it_is_learned_from_the_items_taken_and_from_all_where_none_was() -> None:
    rng = np.random.default_rng(5)
    image = block(rng, 40, 5)
    items = catalogue({"image": image})
    taken = np.arange(40) < 15
    found = fitted(items, taken)
    np.testing.assert_allclose(found.maps["image"].mean, image.vectors[:15].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.maps[JOINED_TEXT].mean, items.embeddings[:15].mean(axis=0), atol=1e-6)
    others = replace(items, blocks={"image": Block(image.vectors + 9.0 * ~taken[:, None], image.present)})
    np.testing.assert_array_equal(fitted(others, taken).maps["image"].whitening, found.maps["image"].whitening)
    nobody = fitted(items, np.zeros(40, np.bool_))
    np.testing.assert_allclose(nobody.maps["image"].mean, image.vectors.mean(axis=0), rtol=1e-5)


def test_a_catalogue_without_a_block_lacks_it_everywhere_and_another_width_is_refused() -> None:
    rng = np.random.default_rng(6)
    items = catalogue({"image": block(rng, 30, 5), "audio": block(rng, 30, 4)})
    found = fitted(items)
    silent = replace(items, blocks={"image": items.blocks["image"]})
    np.testing.assert_array_equal(found.vectors(silent).present, np.tile([True, True, False], (30, 1)))
    with pytest.raises(DataError, match="the image vectors of items have 7 dimensions, the model was trained on 5"):
        found.vectors(replace(items, blocks={"image": block(rng, 30, 7)}))


def test_blocks_that_do_not_vary_are_left_out() -> None:
    rng = np.random.default_rng(7)
    same = Block(np.full((30, 4), 0.5, np.float32), np.ones(30, np.bool_))
    assert list(fitted(catalogue({"image": same, "audio": block(rng, 30, 4)})).maps) == [JOINED_TEXT, "audio"]


def test_the_state_gives_the_same_vectors_again() -> None:
    rng = np.random.default_rng(8)
    items = catalogue({"image": block(rng, 30, 5, missing=0.3)})
    content = ItemContent.of(items, np.arange(30) < 20)
    again = ItemContent.from_state(content.weights(), content.values())
    np.testing.assert_array_equal(content.encode(items), again.encode(items))
    assert content.width == content.encode(items).shape[1]


def test_items_that_look_alike_are_alike_in_content() -> None:
    """Texts differ at random; pictures come in two kinds, and the content kernel tells them apart."""
    rng = np.random.default_rng(9)
    kind = np.arange(60) % 2
    vectors = (np.outer(kind - 0.5, np.ones(8)) + 0.05 * rng.standard_normal((60, 8))).astype(np.float32)
    items = catalogue({"image": Block(vectors, np.ones(60, np.bool_))}, dim=40)
    encoded = ItemContent.of(items).encode(items)
    kernel = encoded @ encoded.T
    same = kind[:, None] == kind
    np.fill_diagonal(same, False)
    assert kernel[same].mean() > kernel[kind[:, None] != kind].mean() + 0.05
    without = ItemContent.of(replace(items, blocks={})).encode(replace(items, blocks={}))
    plain = without @ without.T
    assert abs(plain[same].mean() - plain[kind[:, None] != kind].mean()) < 0.05
