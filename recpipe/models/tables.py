"""The tables models are given: the catalogue, and users with their histories in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from recpipe.errors import DataError
from recpipe.models.settings import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Float32 = npt.NDArray[np.float32]
    Int32 = npt.NDArray[np.int32]
    Int64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Block:
    """Vectors of one side of items or users: a text field, the picture, the sound.

    Attributes:
        vectors: float32 (n, dim), finite; a row of zeros where there is none.
        present: bool (n,).
    """

    vectors: Float32
    present: Bool

    def __len__(self) -> int:
        return len(self.present)

    def rows(self, rows: Int64 | slice) -> Block:
        """These rows."""
        return Block(self.vectors[rows], self.present[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The catalogue: every item that can be recommended or stands in a history.

    Attributes:
        ids: `pa.StringArray` (n_items,), unique.
        embeddings: float32 (n_items, dim), finite; a row of zeros where `embedded` is false.
            Width 0 when the model's spec does not read item embeddings.
        embedded: bool (n_items,): the item has an embedding.
        titles: `pa.StringArray` (n_items,), or None.
        first_seen_us: int64 (n_items,): release or first interaction, microseconds UTC, or None.
        attributes: the items table without texts and media, same rows; None when the model's spec
            does not read attributes.
        blocks: what was encoded apart, by name (title, image, audio, ...); read with the embeddings.
    """

    ids: pa.StringArray
    embeddings: Float32
    embedded: Bool
    titles: pa.StringArray | None = None
    first_seen_us: Int64 | None = None
    attributes: pa.Table | None = None
    blocks: Mapping[str, Block] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _same_length(self, "ids", "embeddings", "embedded", "titles", "first_seen_us", "attributes")
        _same_length_of_blocks(self.blocks, len(self))

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def bare(cls, ids: pa.StringArray, titles: pa.StringArray | None = None) -> Items:
        """Items without embeddings."""
        embeddings, embedded = _nothing_embedded(len(ids))
        return cls(ids=ids, embeddings=embeddings, embedded=embedded, titles=titles)

    def rows(self, rows: Int64) -> Items:
        """These rows as a catalogue of their own."""
        import pyarrow as pa

        indices = pa.array(rows)
        return Items(
            ids=self.ids.take(indices),
            embeddings=self.embeddings[rows],
            embedded=self.embedded[rows],
            titles=None if self.titles is None else self.titles.take(indices),
            first_seen_us=None if self.first_seen_us is None else self.first_seen_us[rows],
            attributes=None if self.attributes is None else self.attributes.take(indices),
            blocks={name: block.rows(rows) for name, block in self.blocks.items()},
        )

    def renamed(self) -> Items:
        """The same items under ids that nobody knows: what is left is their content."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return replace(self, ids=pc.binary_join_element_wise(pa.scalar("\0"), self.ids.cast(pa.string()), ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """A block of users: their embeddings z and profiles p = [x, c, centre of c].

    Attributes:
        user_ids: `pa.StringArray` (n_users,).
        embeddings: float32 (n_users, dim): z, finite; a row of zeros where `embedded` is false.
        embedded: bool (n_users,): the user had something to embed.
        features: float32 (n_users, n_features): x, raw. Width 0 when profiles are not read.
        segments: int32 (n_users,): c; -1 for users with nothing to embed or no profile.
        centres: float32 (n_users, dim): centre of the segment; of -1, the mean of all z.
        attributes: the users table without texts and media, same rows; None when the model's spec
            does not read attributes.
        blocks: the user's own pictures and sounds, by name; read with the embeddings.
    """

    user_ids: pa.StringArray
    embeddings: Float32
    embedded: Bool
    features: Float32
    segments: Int32
    centres: Float32
    attributes: pa.Table | None = None
    blocks: Mapping[str, Block] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _same_length(self, "user_ids", "embeddings", "embedded", "features", "segments", "centres", "attributes")
        _same_length_of_blocks(self.blocks, len(self))

    def __len__(self) -> int:
        return len(self.user_ids)

    @classmethod
    def bare(cls, user_ids: pa.StringArray) -> Profiles:
        """Users of whom nothing but their histories is known."""
        import numpy as np

        embeddings, embedded = _nothing_embedded(len(user_ids))
        segments = np.full(len(user_ids), -1, dtype=np.int32)
        return cls(
            user_ids=user_ids,
            embeddings=embeddings,
            embedded=embedded,
            features=embeddings,
            segments=segments,
            centres=embeddings,
        )

    def without_segments(self) -> Profiles:
        """The same users without features and segments: what is left is their embeddings and attributes."""
        bare = Profiles.bare(self.user_ids)
        return replace(self, features=bare.features, segments=bare.segments, centres=bare.centres)

    def rows(self, start: int, stop: int) -> Profiles:
        """The users from `start` to before `stop`, without copying."""
        return Profiles(
            user_ids=self.user_ids[start:stop],
            embeddings=self.embeddings[start:stop],
            embedded=self.embedded[start:stop],
            features=self.features[start:stop],
            segments=self.segments[start:stop],
            centres=self.centres[start:stop],
            attributes=None if self.attributes is None else self.attributes[start:stop],
            blocks={name: block.rows(slice(start, stop)) for name, block in self.blocks.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """What a block of users took, oldest first: the events of user i are offsets[i]:offsets[i + 1].

    Attributes:
        items: the catalogue that `item_rows` points into. A model that knows items by id maps
            the rows once per catalogue, not once per block.
        offsets: int64 (n_users + 1,), not decreasing. It need not begin at 0 (see `rows`).
        item_rows: int32 (n_events,): rows of `items`.
        ratings: float32 (n_events,), NaN where none was given, or None.
        timestamps_us: int64 (n_events,), microseconds UTC, or None; without times decay counts events.
        as_of_us: "now" for every age and decay, microseconds UTC, or None.
    """

    items: Items
    offsets: Int64
    item_rows: Int32
    ratings: Float32 | None = None
    timestamps_us: Int64 | None = None
    as_of_us: int | None = None

    def __post_init__(self) -> None:
        _same_length(self, "item_rows", "ratings", "timestamps_us")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls, n_users: int, items: Items) -> Histories:
        """Users who took nothing yet."""
        import numpy as np

        return cls(items=items, offsets=np.zeros(n_users + 1, np.int64), item_rows=np.empty(0, np.int32))

    def rows(self, start: int, stop: int) -> Histories:
        """The users from `start` to before `stop`, without copying."""
        return Histories(
            items=self.items,
            offsets=self.offsets[start : stop + 1],
            item_rows=self.item_rows,
            ratings=self.ratings,
            timestamps_us=self.timestamps_us,
            as_of_us=self.as_of_us,
        )

    def events(self) -> slice:
        """Where the events of these users stand in `item_rows`, `ratings` and `timestamps_us`."""
        return slice(int(self.offsets[0]), int(self.offsets[-1]))

    def user_rows(self) -> Int64:
        """The user of each event in `events()`: int64, rows of this block."""
        import numpy as np

        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def positive(self, positive_from: float | None) -> Bool:
        """Which events in `events()` are positive: rated `positive_from` or more, or not rated.

        Raises:
            DataError: `positive_from` is given and there are no ratings at all.
        """
        import numpy as np

        events = self.events()
        if positive_from is None:
            return np.ones(events.stop - events.start, dtype=np.bool_)
        if self.ratings is None:
            raise DataError(
                "train.positive_from is set but the interactions have no rating",
                where="interactions",
                next_step="leave train.positive_from out, or map the rating column in data.columns",
            )
        ratings = self.ratings[events]
        return np.isnan(ratings) | (ratings >= positive_from)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Everything a model may learn from, in blocks so that memory does not grow with users.

    Attributes:
        items: the whole catalogue; the histories of all blocks point into it.
        open_blocks: starts a pass over the users; every user is whole within one block, the
            blocks and their order are the same in each pass.
        n_users: users in all blocks.
        targets: what the interactions allow: always implicit, rating where ratings exist.
        as_of_us: newest timestamp, or what the run calls now; None without times.
    """

    items: Items
    open_blocks: Callable[[], Iterator[tuple[Profiles, Histories]]]
    n_users: int
    targets: frozenset[Target] = frozenset({"implicit"})
    as_of_us: int | None = None

    def blocks(self) -> Iterator[tuple[Profiles, Histories]]:
        """Start a pass: (profiles, histories) of the same users."""
        return self.open_blocks()


def joined_blocks(blocks: Sequence[Block]) -> Block:
    """Put rows of the same block one after the other."""
    import numpy as np

    return Block(
        np.concatenate([block.vectors for block in blocks]), np.concatenate([block.present for block in blocks])
    )


def _nothing_embedded(n_rows: int) -> tuple[Float32, Bool]:
    import numpy as np

    return np.empty((n_rows, 0), dtype=np.float32), np.zeros(n_rows, dtype=np.bool_)


def _same_length_of_blocks(blocks: Mapping[str, Block], n_rows: int) -> None:
    for name, block in blocks.items():
        if len(block) != n_rows:
            raise ValueError(f"block {name} has {len(block)} rows, not {n_rows}")


def _same_length(table: object, first: str, *others: str) -> None:
    n_rows = len(getattr(table, first))
    for name in others:
        column = getattr(table, name)
        if column is not None and len(column) != n_rows:
            raise ValueError(f"{type(table).__name__}.{name} has {len(column)} rows, {first} has {n_rows}")
