"""Users in batches with their vectors and histories, and the profiles made of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recpipe.attributes import ItemAttributes
from recpipe.errors import DataError
from recpipe.schemas import EMBEDDING, INTERACTIONS, USER_EMBEDDINGS, USER_ID, USERS
from recpipe.segments.behaviour import Histories, compute_features
from recpipe.segments.features import FeatureSpace, fill_unknown
from recpipe.segments.profiles import NO_SEGMENT, assign_users, profile_table
from recpipe.segments.reduce import PcaBasis
from recpipe.stages.pipeline.events import UserEvents, column_array
from recpipe.store.arrow import vector_matrix
from recpipe.store.artifacts import ArtifactReader


@dataclass(frozen=True)
class Space:
    """What a user is placed in.

    Attributes:
        centres: (n_clusters, dim), in the encoder's space.
        mean: (dim,), the mean of all embeddings.
        basis: Of the clustered space; None: the encoder's own.
        feature_mean: (n_features,), the value of an unknown feature.
    """

    centres: NDArray[np.floating[Any]]
    mean: NDArray[np.float64]
    basis: PcaBasis | None
    features: FeatureSpace
    feature_mean: NDArray[np.float64]


class Members:
    """Users in batches, with everything that profiles and labels are made from."""

    def __init__(
        self, *, users: Path, embeddings: Path, interactions: Path | None, item_ids: pa.Array, as_of: datetime | None
    ) -> None:

        self.users = ArtifactReader(users, USERS)
        self.embeddings = ArtifactReader(embeddings, USER_EMBEDDINGS)
        self.events = UserEvents(ArtifactReader(interactions, INTERACTIONS), item_ids) if interactions else None
        self.as_of_us = self.events.as_of_us(as_of) if self.events else 0

    def require_aligned(self) -> None:
        """Fail when the embeddings are not of these users, in this order.

        Raises:
            DataError: They are not.
        """
        users, embeddings = self.users, self.embeddings
        same = users.rows == embeddings.rows and all(
            left.column(0).equals(right.column(0))
            for left, right in zip(users.batches([USER_ID.name]), embeddings.batches([USER_ID.name]), strict=True)
        )
        if not same:
            raise DataError(
                "user_embeddings are not those of this users table, in its order",
                where=f"{embeddings.path} ({embeddings.rows:,} rows) and {users.path} ({users.rows:,} rows)",
                next_step="run: recpipe embed-users",
            )

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return rows of the users table."""
        return self.users.row_range(start, stop)

    def vectors(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return embeddings (n, dim) and which users have one."""

        return vector_matrix(self.embeddings.row_range(start, stop, [EMBEDDING.name]).column(0))

    def histories(self, users: pa.Table) -> Histories:
        """Return the users' interactions; none where there is no interactions table."""

        if self.events is None:
            return Histories(np.zeros(users.num_rows + 1, np.int64), np.zeros(0, np.int64))
        found = self.events.of(column_array(users, USER_ID.name))
        return Histories(found.offsets, found.item_rows, found.ratings, found.timestamps_us)


@dataclass
class ProfileTask:
    """Computes the profiles of a range of users."""

    users: Path
    embeddings: Path
    interactions: Path | None
    item_ids: pa.Array
    attributes: ItemAttributes
    space: Space
    as_of: datetime | None

    def setup(self) -> None:
        self._members = Members(
            users=self.users,
            embeddings=self.embeddings,
            interactions=self.interactions,
            item_ids=self.item_ids,
            as_of=self.as_of,
        )

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:

        space, members = self.space, self._members
        users = members.rows(start, stop)
        features = compute_features(
            space.features, users, members.histories(users), self.attributes, as_of_us=members.as_of_us
        )
        vectors, present = members.vectors(start, stop)
        assignment = assign_users(vectors, present, space.centres, mean=space.mean, basis=space.basis)
        table = profile_table(users.column(USER_ID.name), fill_unknown(features, space.feature_mean), assignment)
        return table, {"without_segment": int((assignment.segments == NO_SEGMENT).sum())}
