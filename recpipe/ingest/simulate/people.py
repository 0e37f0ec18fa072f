"""The users of a simulated world: tastes, habits, profiles and how much each one buys.

Users are made in blocks of fixed size, each from its own seed, so that a block can be made
again whenever it is needed and none has to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recpipe.ingest.simulate import columns, phrases, writing
from recpipe.ingest.simulate.bank import N_THEMES, N_TOPICS, THEME_OF_TOPIC, THEMES, TOPICS_PER_THEME
from recpipe.ingest.simulate.senses import draw_angles
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.schemas import TEXT, USER_ID
from recpipe.seeding import generator

USERS_PER_BLOCK = 256
THEME_CONCENTRATION = 0.05
"""Of the Dirichlet distribution over themes; small: one to three themes carry most of a taste."""
TOPIC_CONCENTRATION = 2.0
"""Of the Dirichlet distribution over the topics of a theme; large: those who like one like its neighbours."""
AGE_LEANING = 2.5
"""How much more a theme concentrates on the age group that likes it most."""
ACTIVITY_SPREAD = 0.8
"""Standard deviation of the logarithm of activity: a long tail."""
FEWEST_INTERACTIONS = 3
EARLY_SHARE = 0.6
"""Share of users who are customers from day 0; the others join later."""
BIAS_SPREAD = 0.3

USER_SCHEMA = pa.schema(
    [
        pa.field(USER_ID.name, pa.string()),
        pa.field(TEXT.name, pa.string()),
        pa.field(columns.AGE_GROUP.name, pa.string()),
        pa.field(columns.COUNTRY.name, pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class UserBlock:
    """Consecutive users.

    Attributes:
        start: Row of the first of them among all users.
        taste_start: Taste on day 0; rows sum to 1. (n, n_topics) float32
        taste_end: Taste on the last day; rows sum to 1. (n, n_topics) float32
        rating_bias: Added to all ratings of a user, in stars. (n,) float32
        join_day: First day on which the user may buy. (n,) int64
        weekend_share: Share of the user's purchases at weekends. (n,) float64
        age_group: Index into AGE_GROUPS. (n,) int64
        senses: Look and sound liked best, in radians. (n, n_senses) float32
    """

    start: int
    taste_start: npt.NDArray[np.float32]
    taste_end: npt.NDArray[np.float32]
    rating_bias: npt.NDArray[np.float32]
    join_day: npt.NDArray[np.int64]
    weekend_share: npt.NDArray[np.float64]
    age_group: npt.NDArray[np.int64]
    senses: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.taste_start)


def build_block(start: int, settings: SimulateSettings) -> UserBlock:
    """Draw the users of the block that begins at row `start`."""
    n = min(USERS_PER_BLOCK, settings.n_users - start)
    rng = generator(settings.seed, "simulate", "users", start)
    age_group = rng.choice(len(phrases.AGE_GROUPS), size=n, p=(0.12, 0.24, 0.28, 0.22, 0.14))
    first, other = _draw_taste(age_group, rng), _draw_taste(age_group, rng)
    last = (1 - settings.taste_drift) * first + settings.taste_drift * other
    even = settings.curiosity / N_TOPICS
    favourite = np.asarray(THEME_OF_TOPIC)[first.argmax(axis=1)]
    late = rng.integers(0, max(1, int(0.9 * settings.days)), size=n)
    return UserBlock(
        start=start,
        taste_start=((1 - settings.curiosity) * first + even).astype(np.float32),
        taste_end=((1 - settings.curiosity) * last + even).astype(np.float32),
        rating_bias=(BIAS_SPREAD * rng.standard_normal(n)).astype(np.float32),
        join_day=np.where(rng.random(n) < EARLY_SHARE, 0, late),
        weekend_share=np.array([theme.weekend_share for theme in THEMES])[favourite],
        age_group=age_group,
        senses=draw_angles(n, settings, "users", start),
    )


def _draw_taste(age_group: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw sparse tastes: Dirichlet over themes, Dirichlet over the topics of each. (n, n_topics)"""
    n = len(age_group)
    liked_by = np.array([theme.age_group for theme in THEMES])
    concentration = THEME_CONCENTRATION * np.where(liked_by == age_group[:, None], AGE_LEANING, 1.0)
    themes = rng.standard_gamma(concentration) + 1e-12  # (n, n_themes); all gammas may round to zero
    themes /= themes.sum(axis=1, keepdims=True)
    topics = rng.dirichlet(np.full(TOPICS_PER_THEME, TOPIC_CONCENTRATION), size=(n, N_THEMES))
    return (themes[:, :, None] * topics).reshape(n, N_TOPICS)


def user_ids(block: UserBlock, *, n_users: int) -> list[str]:
    """Return the ids of the users of a block."""
    width = max(4, len(str(n_users)))
    return [f"u{row + 1:0{width}d}" for row in range(block.start, block.start + len(block))]


def user_table(block: UserBlock, settings: SimulateSettings) -> pa.Table:
    """Return a block as a table of USER_SCHEMA.

    Users write once, before their taste has drifted: a profile tells the taste of day 0.
    """
    n = len(block)
    rng = generator(settings.seed, "simulate", "profiles", block.start)
    silent = rng.random(n) < settings.empty_profile_share
    n_mentions = rng.integers(2, writing.MOST_MENTIONS + 1, size=n)
    dearest = np.argsort(-block.taste_start, axis=1, kind="stable")
    choices = rng.random((n, writing.PROFILE_CHOICES))
    texts = [
        None if silent[row] else writing.profile(dearest[row, : n_mentions[row]].tolist(), choices[row])
        for row in range(n)
    ]
    countries = rng.choice(len(phrases.COUNTRIES), size=n)
    return pa.Table.from_arrays(
        [
            pa.array(user_ids(block, n_users=settings.n_users), pa.string()),
            pa.array(texts, pa.string()),
            pa.array([phrases.AGE_GROUPS[index] for index in block.age_group.tolist()], pa.string()),
            pa.array([phrases.COUNTRIES[index] for index in countries.tolist()], pa.string()),
        ],
        schema=USER_SCHEMA,
    )


def interaction_counts(settings: SimulateSettings) -> npt.NDArray[np.int64]:
    """Return how many interactions each user has: long-tailed, 0 for cold users, exact in sum. (n_users,)"""
    rng = generator(settings.seed, "simulate", "activity")
    cold = rng.permutation(settings.n_users)[: settings.n_cold_users]
    activity = np.exp(ACTIVITY_SPREAD * rng.standard_normal(settings.n_users))
    activity[cold] = 0
    fewest = np.zeros(settings.n_users, dtype=np.int64)
    fewest[activity > 0] = min(FEWEST_INTERACTIONS, settings.n_interactions // int((activity > 0).sum()))
    counts = fewest
    open_ = activity > 0
    while (rest := settings.n_interactions - int(counts.sum())) > 0:
        counts = np.minimum(counts + _apportion(rest, np.where(open_, activity, 0)), settings.largest_basket)
        open_ &= counts < settings.largest_basket
    return counts


def _apportion(total: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Split a total into whole numbers proportional to weights, exactly. (n,)"""
    sums = np.cumsum(weights)
    # Divided by their own last value, not by weights.sum(): the two may differ in the last bit.
    parts: npt.NDArray[np.int64] = np.diff(np.rint(sums / sums[-1] * total).astype(np.int64), prepend=0)
    return parts
