"""Bayesian factorization: predicted ratings with intervals, from ratings and side information.

    r_ij = μ + p_i·v_j + noise      p_i ~ N(m + Bᵀx_i, Λ⁻¹)      v_j ~ N(m' + Cᵀy_j, Λ'⁻¹)

x and y hold attributes, log counts and an SVD of who took what. Nothing is tuned: noise,
priors and link matrices B and C are drawn along with the vectors by Gibbs sampling
(Salakhutdinov & Mnih 2008; Simm et al. 2017), and predictions are means over draws of several
chains. `sampler` draws, `posterior` predicts.

The ratings in a user's history give their part of the posterior in closed form, whether the
user was seen in training or not; without ratings it is the prior mean, which follows from what
they took and from their attributes. Items unseen in training have their prior mean too.
Ratings of items that nobody rated in training say nothing.

Ranking is by predicted rating, which answers what a user would like, not what they will take.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt, PositiveInt

from recpipe.models.base import (
    INTERVAL_LEVEL,
    FactoredModel,
    FitContext,
    FitReport,
    Histories,
    Items,
    ModelSpec,
    ModelState,
    Profiles,
    TrainingData,
    UserVectors,
)
from recpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    from recpipe.models.bayesian_factorization.fit import FittedBayes
    from recpipe.models.bayesian_factorization.posterior import Catalogue, Raters
    from recpipe.models.tables import Float32, Int64


class BayesianFactorizationSettings(ModelSettings):
    """`train` for the model bayesian_factorization."""

    model: Literal["bayesian_factorization"] = "bayesian_factorization"
    """Name of the model."""

    n_factors: PositiveInt = 16
    """Length of the vectors."""

    n_chains: PositiveInt = 4
    """Chains that start apart; their draws are averaged."""

    burn_in: NonNegativeInt = 50
    """Sweeps of each chain that are thrown away."""

    kept_draws: PositiveInt = 8
    """Draws kept of each chain. Predictions take time and the model room in proportion."""

    sweeps_per_draw: PositiveInt = 19
    """Sweeps from one kept draw to the next."""

    svd_dimensions: NonNegativeInt = 47
    """Dimensions of who took what in the side information."""


class BayesianFactorizationModel(FactoredModel):
    """Posterior means of dot products; see the module."""

    def __init__(self, settings: BayesianFactorizationSettings) -> None:
        self.settings: BayesianFactorizationSettings = settings
        self._fit: FittedBayes | None = None
        self._catalogue: tuple[Items, Catalogue] | None = None

    @property
    def predicts_ratings(self) -> bool:
        return True

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        from recpipe.models.bayesian_factorization.fit import fit_bayes

        target = MODEL.target_for(self.settings, data)
        self._fit, counts = fit_bayes(data, self.settings, context)
        self._catalogue = None
        return FitReport(target=target, counts=counts)

    def predict_rating(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: Int64, item_rows: Int64
    ) -> Float32:
        import numpy as np

        from recpipe.models.bayesian_factorization.posterior import predicted

        fitted = self._fitted()
        raters, own = self._raters(profiles, histories, user_rows)
        ratings = predicted(fitted.kept, raters, self._items(items), own, item_rows) + fitted.offset
        return np.clip(ratings, fitted.lowest, fitted.highest).astype(np.float32)

    def rating_interval(
        self, profiles: Profiles, histories: Histories, items: Items, *, user_rows: Int64, item_rows: Int64
    ) -> tuple[Float32, Float32]:
        import numpy as np

        from recpipe.models.bayesian_factorization.posterior import predicted, predicted_variance

        fitted = self._fitted()
        raters, own = self._raters(profiles, histories, user_rows)
        catalogue = self._items(items)
        centre = predicted(fitted.kept, raters, catalogue, own, item_rows) + fitted.offset
        variance = predicted_variance(fitted.kept, raters, catalogue, own, item_rows)
        reach = NormalDist().inv_cdf((1 + INTERVAL_LEVEL) / 2) * np.sqrt(variance)
        low, high = (
            np.clip(end, fitted.lowest, fitted.highest).astype(np.float32) for end in (centre - reach, centre + reach)
        )
        return low, high

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        fitted = self._fitted()
        raters, _ = self._raters(profiles, histories, np.arange(len(profiles)))
        vectors = np.zeros((len(profiles), fitted.basis.shape[2]))
        for draw in range(len(fitted.kept)):
            vectors += raters.means(fitted.kept, draw) @ fitted.basis[draw]
        vectors /= len(fitted.kept)
        return UserVectors(vectors.astype(np.float32), np.full(len(profiles), MODEL.name))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        fitted = self._fitted()
        catalogue = self._items(items)
        vectors = np.zeros((len(items), fitted.basis.shape[2]))
        for draw in range(len(fitted.kept)):
            vectors += catalogue.vectors(fitted.kept, draw, drawn=False) @ fitted.basis[draw]
        return vectors.astype(np.float32)

    def state(self) -> ModelState:
        return self._fitted().state()

    def restore(self, state: ModelState) -> None:
        from recpipe.models.bayesian_factorization.fit import FittedBayes

        self._fit = FittedBayes.from_state(state)
        self._catalogue = None

    def _fitted(self) -> FittedBayes:
        if self._fit is None:
            raise RuntimeError("fit or load the model first")
        return self._fit

    def _items(self, items: Items) -> Catalogue:
        """A catalogue's side information, made once per catalogue."""
        if self._catalogue is None or self._catalogue[0] is not items:
            self._catalogue = (items, self._fitted().catalogue(items))
        return self._catalogue[1]

    def _raters(self, profiles: Profiles, histories: Histories, user_rows: Int64) -> tuple[Raters, Int64]:
        """The users asked for, each once, and their rows among these: int64 (n,)."""
        import numpy as np

        users, own = np.unique(user_rows, return_inverse=True)
        rows = self._items(histories.items).rows
        return self._fitted().raters(profiles, histories, rows).take(users), own


MODEL = ModelSpec(
    name="bayesian_factorization",
    summary="Ratings and how sure they are: vectors from ratings, attributes and who took what, averaged over draws.",
    settings=BayesianFactorizationSettings,
    factory=BayesianFactorizationModel,
    targets=("rating",),
    attributes=True,
)
