"""From training data to kept draws, and what the model bayesian_factorization keeps of a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy import sparse

from recpipe.models.base import FitContext, ModelState
from recpipe.models.bayesian_factorization.features import Features
from recpipe.models.bayesian_factorization.posterior import Catalogue, KeptDraws, Raters, ranking_basis
from recpipe.models.bayesian_factorization.sampler import Draw, SideInformation, sample_chain
from recpipe.models.examples import gather_examples
from recpipe.models.ids import rows_of
from recpipe.seeding import generator

if TYPE_CHECKING:
    from recpipe.models.bayesian_factorization.model import BayesianFactorizationSettings
    from recpipe.models.tables import Float32, Histories, Int64, Items, Profiles, TrainingData

RANKING_DIMENSIONS = 64
"""Length of the vectors that rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedBayes:
    """A fitted model.

    Attributes:
        kept: Draws.
        features: Side information of users and items.
        basis: float32 (n_draws, k, n_dimensions): brings vectors of all draws to those that rank.
        item_ids: `pa.StringArray` of the items rated in training.
        offset: μ, the mean rating.
        lowest: Smallest rating seen.
        highest: Largest rating seen.
    """

    kept: KeptDraws
    features: Features
    basis: Float32
    item_ids: pa.StringArray
    offset: float
    lowest: float
    highest: float

    def catalogue(self, items: Items) -> Catalogue:
        """Return what predictions need of any items."""
        rows = rows_of(items.ids, self.item_ids)
        unseen = np.flatnonzero(rows < 0)
        return Catalogue(rows, self.features.items(rows[unseen], _taken_rows(items.attributes, unseen)))

    def raters(self, profiles: Profiles, histories: Histories, rows: Int64) -> Raters:
        """Return what predictions need of any users.

        Args:
            profiles: Users.
            histories: What they took.
            rows: int64: `Catalogue.rows` of the histories' catalogue.
        """
        ratings, taken = matrices(histories, rows, n_items=len(self.item_ids), offset=self.offset)
        return Raters(ratings, self.features.users(taken, profiles.attributes))

    def state(self) -> ModelState:
        """Return what has to be kept."""
        return ModelState(
            weights=self.kept.weights() | self.features.weights() | {"basis": self.basis},
            values=self.features.values() | {"offset": self.offset, "lowest": self.lowest, "highest": self.highest},
            item_ids=self.item_ids,
        )

    @classmethod
    def from_state(cls, state: ModelState) -> FittedBayes:
        """Read back what `state` gave. KeyError when something is missing."""
        if state.item_ids is None:
            raise KeyError("item ids")
        offset, lowest, highest = (float(str(state.values[name])) for name in ("offset", "lowest", "highest"))
        return cls(
            kept=KeptDraws.from_weights(state.weights),
            features=Features.from_state(state.weights, state.values),
            basis=state.weights["basis"].astype(np.float32, copy=False),
            item_ids=state.item_ids,
            offset=offset,
            lowest=lowest,
            highest=highest,
        )


def fit_bayes(
    data: TrainingData, settings: BayesianFactorizationSettings, context: FitContext
) -> tuple[FittedBayes, dict[str, int]]:
    """Sample all chains.

    Returns:
        The fitted model, and counts for the report.

    Raises:
        DataError: There is no rated interaction.
    """
    rated = gather_examples(data, "rating", positive_from=None)
    seen = np.flatnonzero(rated.item_counts)
    rows = np.full(len(data.items), -1, dtype=np.int64)
    rows[seen] = np.arange(len(seen))
    offset = float(rated.ratings.mean(dtype=np.float64))
    ratings, taken, attributes = _gather(data, rows, n_items=len(seen), offset=offset)
    raters = np.flatnonzero(rated.user_counts)
    ratings, taken = ratings[raters], taken[raters]
    features = Features.of(
        taken,
        user_attributes=attributes,
        item_attributes=data.items.attributes,
        n_dimensions=settings.svd_dimensions,
        rng=generator(context.seed, "bayesian_factorization", "svd"),
    )
    users = features.users(taken, _taken_rows(attributes, raters))
    items = features.items(np.arange(len(seen)), _taken_rows(data.items.attributes, seen))
    kept = KeptDraws.of(_draws(ratings, users=users, items=items, settings=settings, context=context))
    fitted = FittedBayes(
        kept=kept,
        features=features,
        basis=ranking_basis(kept, RANKING_DIMENSIONS),
        item_ids=data.items.ids.cast(pa.string()).take(pa.array(seen)),
        offset=offset,
        lowest=float(rated.ratings.min()),
        highest=float(rated.ratings.max()),
    )
    counts = {"users": len(raters), "items": len(seen), "interactions": len(rated), "draws": len(kept)}
    return fitted, counts


def _draws(
    ratings: sparse.csr_matrix,
    *,
    users: SideInformation,
    items: SideInformation,
    settings: BayesianFactorizationSettings,
    context: FitContext,
) -> Iterator[Draw]:
    """Yield the draws to keep, chain after chain."""
    for chain in range(settings.n_chains):
        rng = generator(context.seed, "bayesian_factorization", "chain", chain)
        draws = sample_chain(
            ratings,
            users=users,
            items=items,
            n_factors=settings.n_factors,
            burn_in=settings.burn_in,
            sweeps_per_draw=settings.sweeps_per_draw,
            rng=rng,
        )
        noise = math.nan
        for draw in islice(draws, settings.kept_draws):
            noise = 1 / math.sqrt(draw.noise_precision)
            yield draw
        context.report(f"chain {chain + 1} of {settings.n_chains}: a rating's noise has deviation {noise:.3f}")


def _gather(
    data: TrainingData, rows: Int64, *, n_items: int, offset: float
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, pa.Table | None]:
    """Return ratings, what was taken, and attributes of all users, in one pass."""
    ratings, taken, tables = [], [], []
    for profiles, histories in data.blocks():
        block = matrices(histories, rows, n_items=n_items, offset=offset)
        ratings.append(block[0])
        taken.append(block[1])
        tables.append(profiles.attributes)
    known = [table for table in tables if table is not None]
    attributes = pa.concat_tables(known) if len(known) == len(tables) else None
    return sparse.vstack(ratings, format="csr"), sparse.vstack(taken, format="csr"), attributes


def matrices(
    histories: Histories, rows: Int64, *, n_items: int, offset: float
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Return ratings less `offset`, one entry each, and 1 where a user took an item, however often.

    Args:
        rows: int64: what item each row of the histories' catalogue is; -1: none of these.
        n_items: Width of the matrices.

    Returns:
        float64 csr (n_users, n_items), twice.
    """
    events = histories.events()
    users, items = histories.user_rows(), rows[histories.item_rows[events]]
    known = items >= 0
    shape = (len(histories), n_items)
    taken = sparse.csr_matrix((np.ones(int(known.sum())), (users[known], items[known])), shape=shape)
    taken.data[:] = 1.0  # an item taken again adds nothing
    if histories.ratings is None:
        return sparse.csr_matrix(shape), taken
    given = histories.ratings[events].astype(np.float64) - offset
    known &= np.isfinite(given)
    offsets = np.append(0, np.cumsum(np.bincount(users[known], minlength=len(histories))))
    return sparse.csr_matrix((given[known], items[known], offsets), shape=shape), taken


def _taken_rows(table: pa.Table | None, rows: Int64) -> pa.Table | None:
    return None if table is None else table.take(pa.array(rows))
