"""A simulated world: its three tables, and the truth behind them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.ingest.simulate import rendering
from recpipe.ingest.simulate.bank import N_TOPICS
from recpipe.ingest.simulate.catalogue import (
    ITEMS_PER_BATCH,
    Catalogue,
    build_catalogue,
    item_ids,
    item_tables,
    media_paths,
)
from recpipe.ingest.simulate.interactions import interaction_table
from recpipe.ingest.simulate.people import (
    USERS_PER_BLOCK,
    UserBlock,
    build_block,
    interaction_counts,
    user_ids,
    user_table,
)
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.shelves import Shelves
from recpipe.ingest.simulate.truth import (
    TRUTH_ITEM_SCHEMA,
    TRUTH_USER_SCHEMA,
    Truth,
    sense_arrays,
    taste_at,
    vectors,
    with_senses,
)
from recpipe.seeding import generator


def simulate(settings: SimulateSettings) -> World:
    """Make a world.

    Only the catalogue is kept in memory, with a few numbers an item and one count a user; users
    and interactions are made block by block whenever they are iterated over, and are the same
    every time.
    """
    return World(settings, build_catalogue(settings), interaction_counts(settings))


class World:
    """Users, items and interactions, each an iterator over Arrow tables; see `simulate`."""

    def __init__(self, settings: SimulateSettings, catalogue: Catalogue, counts: npt.NDArray[np.int64]) -> None:
        self.settings = settings
        self._catalogue = catalogue
        self._counts = counts

    def items(self) -> Iterator[pa.Table]:
        """Yield the items: item_id, title, text, category, tags, price, year; with media also image and audio."""
        return item_tables(self._catalogue, self.settings)

    def media(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of the pictures and sounds, in a world with media.

        Raises:
            UnavailableError: Pillow is not installed.
        """
        if not self.settings.media:
            return
        rendering.require_pillow()
        catalogue = self._catalogue
        for start in range(0, len(catalogue), ITEMS_PER_BATCH):
            rows = range(start, min(start + ITEMS_PER_BATCH, len(catalogue)))
            rng = generator(self.settings.seed, "simulate", "media", start)
            paths = media_paths(item_ids(rows, n_items=len(catalogue)))
            for row, image, audio in zip(rows, *paths, strict=True):
                look, tone = catalogue.senses[row].tolist()
                yield image, rendering.picture(look, rng)
                yield audio, rendering.sound(tone, rng)

    def users(self) -> Iterator[pa.Table]:
        """Yield the users: user_id, text (null where they wrote nothing), age_group, country."""
        return (user_table(block, self.settings) for block in self._blocks())

    def interactions(self) -> Iterator[pa.Table]:
        """Yield the interactions, users in the order of `users`, oldest first: user_id, item_id, rating, timestamp."""
        shelves = Shelves(self._catalogue, self.settings)
        for block in self._blocks():
            yield interaction_table(
                block,
                self._counts[block.start : block.start + len(block)],
                catalogue=self._catalogue,
                shelves=shelves,
                settings=self.settings,
            )

    def truth_users(self) -> Iterator[pa.Table]:
        """Yield the users as they truly are: user_id, taste_start, taste_end, rating_bias; with media look, sound."""
        schema = with_senses(TRUTH_USER_SCHEMA, self.settings)
        for block in self._blocks():
            ids = user_ids(block, n_users=self.settings.n_users)
            yield pa.Table.from_arrays(
                [
                    pa.array(ids, pa.string()),
                    vectors(block.taste_start),
                    vectors(block.taste_end),
                    pa.array(block.rating_bias),
                    *sense_arrays(block.senses),
                ],
                schema=schema,
            )

    def truth_items(self) -> Iterator[pa.Table]:
        """Yield the items as they truly are: item_id, trait, quality, attraction, release_day; look and sound."""
        schema = with_senses(TRUTH_ITEM_SCHEMA, self.settings)
        catalogue = self._catalogue
        for start in range(0, len(catalogue), ITEMS_PER_BATCH):
            stop = min(start + ITEMS_PER_BATCH, len(catalogue))
            yield pa.Table.from_arrays(
                [
                    pa.array(item_ids(range(start, stop), n_items=len(catalogue)), pa.string()),
                    vectors(catalogue.traits(start, stop)),
                    pa.array(catalogue.quality[start:stop].astype(np.float32)),
                    pa.array(catalogue.attraction[start:stop].astype(np.float32)),
                    pa.array(catalogue.release_day[start:stop].astype(np.int32)),
                    *sense_arrays(catalogue.senses[start:stop]),
                ],
                schema=schema,
            )

    def truth(self) -> Truth:
        """Return the items as they truly are, with the formulas of preference and choice."""
        catalogue = self._catalogue
        return Truth(
            settings=self.settings,
            item_ids=item_ids(range(len(catalogue)), n_items=len(catalogue)),
            traits=catalogue.traits(0, len(catalogue)),
            quality=catalogue.quality.astype(np.float32),
            attraction=catalogue.attraction.astype(np.float32),
            release_day=catalogue.release_day.astype(np.int32),
            senses=catalogue.senses,
        )

    def tastes(self, rows: npt.NDArray[np.int64], day: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the tastes of users on a day.

        Args:
            rows: Positions of the users in `users`. (n,)
            day: Days since the start, one for all or one a user. () or (n,)

        Returns:
            (n, n_topics) float64
        """
        first = np.empty((len(rows), N_TOPICS), dtype=np.float32)
        last = np.empty_like(first)
        starts = rows - rows % USERS_PER_BLOCK
        for start in np.unique(starts).tolist():
            block = build_block(start, self.settings)
            here = starts == start
            first[here] = block.taste_start[rows[here] - start]
            last[here] = block.taste_end[rows[here] - start]
        return taste_at(first, last, day, days=self.settings.days)

    def true_preference(self, rows: npt.NDArray[np.int64], day: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return what users truly think of every item on a day; arguments as in `tastes`. (n, n_items)"""
        return self.truth().preference(self.tastes(rows, day), self.senses(rows))

    def senses(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the looks and sounds that users like best; rows as in `tastes`. (n, n_senses)"""
        angles = np.concatenate([block.senses for block in self._blocks()])
        return angles[rows]

    def _blocks(self) -> Iterator[UserBlock]:
        return (build_block(start, self.settings) for start in range(0, self.settings.n_users, USERS_PER_BLOCK))
