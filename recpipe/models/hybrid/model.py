"""Hybrid: several models, each a dot product, fused into one dot product with weights that validation chooses.

Parts and what each is there for:

- ease: what goes with what, and what reads alike; strongest where histories are long;
- two_tower: the next item, from content, attributes and averages of the history;
- segment_prior: what users like this one took, for users with few events;
- recent_popularity: what is taken lately, for users of whom nothing is known;
- taste: what reads like all the user ever took, for items nobody took yet;
- content: what reads like the user's own text.

The weights differ with the length of the history; formulas are in `fusion`, how they are
chosen in `recpipe.training.fusing`. A part that earns no weight is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recpipe.models.base import (
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
from recpipe.models.hybrid.settings import HybridSettings
from recpipe.models.registry import find_model
from recpipe.schemas import ITEM_EMBEDDINGS, USER_EMBEDDINGS

if TYPE_CHECKING:
    from pathlib import Path

    from recpipe.models.hybrid.alike import AlikeItems, Regression
    from recpipe.models.hybrid.fusion import FusionWeights
    from recpipe.models.hybrid.level import Leaders
    from recpipe.models.hybrid.part import Part
    from recpipe.models.tables import Float32, Int64
    from recpipe.models.taken_matrix import KnownItems

PARTS_FOLDER = "parts"


class HybridModel(FactoredModel):
    """Weighted sum of the z-scores of several models; see the module."""

    def __init__(self, settings: HybridSettings) -> None:
        self.settings: HybridSettings = settings
        self.parts: dict[str, FactoredModel] = {name: _created(name, settings) for name in settings.parts}
        self.fused: dict[str, Part] = {}
        self._weights: FusionWeights | None = None
        self._taken: KnownItems | None = None
        self._alike: AlikeItems | None = None
        self._leading: KnownItems | None = None
        self._leaders: Leaders | None = None

    def fit(self, data: TrainingData, context: FitContext) -> FitReport:
        """Refuse: `recpipe.training.fitting.fit` fits this model. TypeError."""
        raise TypeError(f"{type(self).__name__} is fitted by recpipe.training.fitting.fit")

    def measure_parts(self, data: TrainingData, *, seed: int) -> Regression:
        """Take the fitted parts in: which items somebody took, how the scores of each part spread, what is alike."""
        import numpy as np
        import pyarrow as pa

        from recpipe.models.hybrid.alike import AlikeItems, most_taken
        from recpipe.models.hybrid.level import MAX_ITEMS
        from recpipe.models.hybrid.part import Part
        from recpipe.models.popularity import ItemCounts
        from recpipe.models.taken_matrix import KnownItems
        from recpipe.seeding import derive_seed

        n_users = ItemCounts.of(data, self.settings.positive_from).n_users
        rows = np.flatnonzero(n_users)
        taken = data.items.rows(rows)
        self._taken = KnownItems(data.items.ids.take(pa.array(rows)))
        self._leading = KnownItems(data.items.ids.take(pa.array(most_taken(n_users, MAX_ITEMS))))
        self._alike = AlikeItems.of(data.items, n_users)
        regression = self._alike.regression()
        for name, model in self.parts.items():
            part_seed = derive_seed(seed, "hybrid", name) % 2**32
            self.fused[name] = Part.of(model, taken, self._alike, regression, seed=part_seed)
        return regression

    @property
    def alike(self) -> AlikeItems:
        """The items that new ones are likened to."""
        if self._alike is None:
            raise RuntimeError("fit or load the model first")
        return self._alike

    def weigh(self, weights: FusionWeights) -> None:
        """Take the weights, and let go of the parts that have none."""
        self._weights, self._leaders = weights, None
        self.parts = {name: self.parts[name] for name in weights.used}
        new = dict(zip(weights.parts, weights.new, strict=True))
        self.fused = {name: self.fused[name].kept(new[name]) for name in weights.used}

    def is_new(self, items: Items) -> Any:
        """Which items nobody had taken: bool (n_items,)."""
        if self._taken is None:
            raise RuntimeError("fit or load the model first")
        return self._taken.rows(items) < 0

    def classes(self, histories: Histories) -> Int64:
        """Return the class of each user's history: int64 (n_users,)."""
        import numpy as np

        from recpipe.models.hybrid.fusion import class_of

        positive = histories.positive(self.settings.positive_from)
        return class_of(np.bincount(histories.user_rows()[positive], minlength=len(histories)))

    def user_vectors(self, profiles: Profiles, histories: Histories) -> UserVectors:
        import numpy as np

        weights = self.weights
        classes = self.classes(histories)
        totals = weights.totals[classes]
        of_known, of_new, counts, sources = [], [], [], []
        for name, by_class, known, kappas in self._weighed():
            vectors, made = self.fused[name].users(profiles, histories)
            if known:
                of_known.append(vectors * by_class[classes][:, None])
            if kappas.any():
                of_new.append(vectors * totals[:, None])
            counts.append(by_class[classes] * vectors.any(axis=1))
            sources.append(made.source)
        users = np.concatenate(of_known, axis=1)
        levels = self._leaders_of(histories.items).levels(users, histories)
        # whoever has a history is served by all parts together, the others by the one that counts most for known items
        first = np.stack(sources)[np.argmax(np.stack(counts), axis=0), np.arange(len(profiles))]
        vectors = np.concatenate([users, *of_new, np.stack([levels, totals], axis=1)], axis=1)
        return UserVectors(vectors, np.where(classes > 0, MODEL.name, first))

    def item_vectors(self, items: Items) -> Float32:
        import numpy as np

        new = self.is_new(items)
        rows = np.flatnonzero(new)
        new_items = items.rows(rows)
        kernel = self.alike.kernel(new_items)
        of_known = self._known_vectors(items)
        of_known[rows] = 0.0
        blocks = [of_known]
        for name, _, _, kappas in self._weighed():
            if kappas.any():
                part = self.fused[name]
                vectors = np.zeros((len(items), part.width), np.float32)
                vectors[rows] = part.new_items(new_items, kernel, kappas)
                blocks.append(vectors)
        placed = np.where(new[:, None], np.array([1.0, self.weights.offset]), 0.0).astype(np.float32)
        return np.concatenate([*blocks, placed], axis=1)

    def _known_vectors(self, items: Items) -> Float32:
        """Return the vectors of items somebody took, without what only new ones have: float32 (n_items, k)."""
        import numpy as np

        blocks = [self.fused[name].items(items) for name, _, known, _ in self._weighed() if known]
        return np.concatenate(blocks, axis=1)

    def leading(self, items: Items) -> Int64:
        """Return the rows of a catalogue that levels are measured on, int64, ascending."""
        import numpy as np

        if self._leading is None:
            raise RuntimeError("fit or load the model first")
        return np.flatnonzero(self._leading.rows(items) >= 0)

    def _leaders_of(self, items: Items) -> Leaders:
        """Return the items of a catalogue that levels are measured on. Found once a catalogue."""
        from recpipe.models.hybrid.level import Leaders

        if self._leaders is None or self._leaders.items is not items:
            rows = self.leading(items)
            self._leaders = Leaders(items, rows, self._known_vectors(items.rows(rows)))
        return self._leaders

    def _weighed(self) -> list[tuple[str, Float32, bool, Float32]]:
        """Return of each part that counts its name, w (n_classes,), whether it counts for known items, and κ (2,)."""
        weights = self.weights
        rows = zip(weights.parts, weights.by_class, weights.known, weights.new, strict=True)
        return [(name, by_class, bool(known), new) for name, by_class, known, new in rows if name in self.fused]

    def state(self) -> ModelState:
        from recpipe.models.ids import rows_of

        weights = self.weights
        assert self._taken is not None and self._leading is not None
        arrays = {key: array for name, part in self.fused.items() for key, array in part.arrays(name).items()}
        arrays |= {
            "alike": rows_of(self.alike.ids, self._taken.ids),
            "leading": rows_of(self._leading.ids, self._taken.ids),
        }
        return ModelState(
            weights=arrays | self.alike.weights(),
            values=weights.choice() | self.alike.values(),
            item_ids=self._taken.ids,
        )

    def restore(self, state: ModelState) -> None:
        """Take back what `state` returned; the parts are restored apart."""
        import pyarrow as pa

        from recpipe.models.hybrid.alike import AlikeItems
        from recpipe.models.hybrid.fusion import FusionWeights
        from recpipe.models.hybrid.part import Part
        from recpipe.models.taken_matrix import KnownItems

        weights = FusionWeights.from_choice(self.settings.parts, state.values)
        if state.item_ids is None or weights is None:
            raise KeyError("weights of the parts")
        self._weights = weights
        self.parts = {name: self.parts[name] for name in weights.used}
        self.fused = {name: Part.from_arrays(state.weights, name, part) for name, part in self.parts.items()}
        self._taken = KnownItems(state.item_ids)
        alike, leading = (state.item_ids.take(pa.array(state.weights[name])) for name in ("alike", "leading"))
        self._alike = AlikeItems.from_state(state.weights, state.values, alike)
        self._leading, self._leaders = KnownItems(leading), None

    def save(self, folder: Path) -> None:
        for name, part in self.parts.items():
            part.save(folder / PARTS_FOLDER / name)
        super().save(folder)

    def load(self, folder: Path) -> None:
        super().load(folder)
        for name, part in self.parts.items():
            part.load(folder / PARTS_FOLDER / name)

    @property
    def weights(self) -> FusionWeights:
        """What each part counts. RuntimeError before the model is fitted or loaded."""
        if self._weights is None:
            raise RuntimeError("fit or load the model first")
        return self._weights


def _created(name: str, settings: HybridSettings) -> FactoredModel:
    """Make an unfitted part."""
    part = find_model(name).create(settings.settings_of(name))
    if not isinstance(part, FactoredModel):
        raise TypeError(f"{name} is no dot product")
    return part


MODEL = ModelSpec(
    name="hybrid",
    summary="EASE, two towers, segments, recent popularity, taste and content, weighed by validation.",
    settings=HybridSettings,
    factory=HybridModel,
    targets=("implicit",),
    reads=(ITEM_EMBEDDINGS.name, USER_EMBEDDINGS.name),
    attributes=True,
    blocks=True,
)
