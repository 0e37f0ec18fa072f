"""Fitting a hybrid: in the evaluation view, in production, and alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from planted_tastes import Tastes, data_of, histories_of, hybrid, planted_tastes, scores_of

from recpipe.models.base import FitContext, FitReport, Histories, Model, Profiles, TrainingData
from recpipe.models.hybrid.fusion import FusionWeights
from recpipe.models.hybrid.model import HybridModel
from recpipe.training import fusing
from recpipe.training.candidates import Candidates
from recpipe.training.fitting import fit
from recpipe.training.fusing import fit_hybrid
from recpipe.training.fusion_search import search_weights

OPEN: dict[str, dict[str, Any]] = {"segment_prior": {"n_segments": 5, "svd_dim": 5}}
"""ease and tau are searched."""


@pytest.fixture(scope="module")
def tastes() -> Tastes:
    return planted_tastes()


@dataclass
class Seen:
    """What parts were fitted with, and what was reported."""

    fits: list[tuple[str, int, FitContext]] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def fit(self, model: Model, data: TrainingData, context: FitContext) -> FitReport:
        """Stand where `fitting.fit` stands."""
        blocks = list(data.blocks())
        self.fits.append((model.settings.model, sum(len(h.item_rows[h.events()]) for _, h in blocks), context))
        self.widths.append(max(p.embeddings.shape[1] + p.features.shape[1] + p.centres.shape[1] for p, _ in blocks))
        return fit(model, data, context)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)


def weights_in(choice: Any) -> dict[str, float]:
    return {key: value for key, value in choice.items() if key.startswith("weight.")}


def test_production_fits_again_what_was_chosen(tastes: Tastes) -> None:
    """Given the choice, the same data and seed give the same model, and held-out data are not asked."""
    first, second = hybrid(part_settings=OPEN), hybrid(part_settings=OPEN)
    report = fit(first, tastes.data, FitContext(seed=1, held_out=tastes.held_out))
    again = fit(second, tastes.data, FitContext(seed=1, choice=report.choice))
    assert {"ease.l2", "ease.history_decay", "segment_prior.tau"} <= set(report.choice)
    assert again.choice == report.choice
    assert report.metric == "ndcg@100" and report.validation is not None and again.validation is None
    assert list(second.parts) == list(first.parts) == list(first.weights.used)
    np.testing.assert_allclose(
        scores_of(second, tastes.profiles, tastes.train), scores_of(first, tastes.profiles, tastes.train), atol=1e-4
    )


def test_the_same_seed_chooses_the_same(tastes: Tastes) -> None:
    reports, scores = [], []
    for seed in (1, 1, 2):
        model = hybrid()
        reports.append(fit(model, tastes.data, FitContext(seed=seed, held_out=tastes.held_out)))
        scores.append(scores_of(model, tastes.profiles, tastes.train))
    assert reports[0].choice == reports[1].choice
    np.testing.assert_array_equal(scores[0], scores[1])
    assert reports[0].choice != reports[2].choice  # other users stand for short histories


def test_chosen_model_is_saved_as_it_scores(tastes: Tastes, tmp_path: Path) -> None:
    model = hybrid()
    fit(model, tastes.data, FitContext(seed=1, held_out=tastes.held_out))
    model.save(tmp_path)
    loaded = HybridModel(model.settings)
    loaded.load(tmp_path)
    np.testing.assert_array_equal(
        scores_of(loaded, tastes.profiles, tastes.train), scores_of(model, tastes.profiles, tastes.train)
    )


def test_production_on_more_data_keeps_the_weights(tastes: Tastes) -> None:
    report = fit(hybrid(), tastes.data, FitContext(seed=1, held_out=tastes.held_out))
    everything = [
        np.append(tastes.train.item_rows[slice(*train)], tastes.later.item_rows[slice(*later)])
        for train, later in zip(pairs(tastes.train), pairs(tastes.later), strict=True)
    ]
    model, seen = hybrid(), Seen()
    data = data_of(tastes.profiles, histories_of(tastes.items, everything))
    again = fit_hybrid(model, data, FitContext(seed=1, choice=report.choice), fit_part=seen.fit)
    assert weights_in(again.choice) == weights_in(report.choice)
    assert {count for _, count, _ in seen.fits} == {len(tastes.train.item_rows) + len(tastes.later.item_rows)}
    assert [name for name, _, _ in seen.fits] == list(model.weights.used)  # no others are fitted
    assert not model.is_new(tastes.items).any()


def pairs(histories: Histories) -> Iterator[tuple[int, int]]:
    return zip(histories.offsets[:-1].tolist(), histories.offsets[1:].tolist(), strict=True)


def test_parts_are_told_their_own_choices_only(tastes: Tastes, tmp_path: Path) -> None:
    seen = Seen()
    weights = FusionWeights.alone(("ease", "segment_prior", "recent_popularity", "content"), "segment_prior")
    choice = {"ease.l2": 7.0, "segment_prior.tau": 2.0, **weights.choice()}
    model = hybrid(part_settings=OPEN)
    report = fit_hybrid(model, tastes.data, FitContext(choice=choice, checkpoint=tmp_path), fit_part=seen.fit)
    ((name, _, context),) = seen.fits
    assert name == "segment_prior" and context.choice == {"tau": 2.0}
    assert context.checkpoint == tmp_path / "segment_prior" and context.checkpoint.is_dir()
    assert report.choice["segment_prior.tau"] == 2.0 and "ease.l2" not in report.choice
    source = model.user_vectors(tastes.profiles, tastes.train).source
    assert set(source) == {"hybrid", "segment_prior"}


def test_what_parts_validate_on_is_items_somebody_took(tastes: Tastes) -> None:
    """What parts do with new items is weighed apart."""
    seen = Seen()
    fit_hybrid(hybrid(), tastes.data, FitContext(held_out=tastes.held_out), fit_part=seen.fit)
    for _, _, context in seen.fits:
        assert context.held_out is not None
        rows = np.concatenate([histories.item_rows for _, histories in context.held_out.blocks()])
        assert not tastes.is_new[rows].any()
        assert len(rows) == len(tastes.later.item_rows) - len(tastes.profiles)  # one new item each
        assert context.held_out.n_users == tastes.data.n_users


def test_train_alone_holds_out_for_itself(tastes: Tastes) -> None:
    """Without content, whose user embeddings have seen what is held out, then everything is fitted again."""
    model, seen = hybrid(), Seen()
    report = fit_hybrid(model, tastes.data, FitContext(seed=4, report=seen.lines.append), fit_part=seen.fit)
    assert "10% of the interactions held out, without content" in seen.log
    names = [name for name, _, _ in seen.fits]
    assert "content" not in names and "content" not in model.parts
    judged, final = seen.fits[:3], seen.fits[3:]
    n_all = len(tastes.train.item_rows)
    for _, count, context in judged:
        assert context.held_out is not None and context.checkpoint is None
        assert 0.6 * n_all < count < n_all
    assert [name for name, _, _ in final] == list(model.weights.used)
    for _, count, context in final:
        assert count == n_all and context.held_out is None
    assert report.metric == "ndcg@100" and report.validation is not None
    assert weights_in(report.choice) == model.weights.choice()
    assert not any(value for key, value in report.choice.items() if key.startswith("weight.content"))


def test_train_alone_never_reads_what_interactions_made_of_users(tastes: Tastes) -> None:
    """No embedding, feature or centre reaches the choice; the parts fitted again see no segments either."""
    n_users = len(tastes.profiles)
    poisoned = replace(
        tastes.profiles,
        embeddings=np.full((n_users, 8), np.nan, np.float32),
        features=np.full((n_users, 3), np.nan, np.float32),
        centres=np.full((n_users, 8), np.nan, np.float32),
        segments=np.zeros(n_users, np.int32),
    )
    models, seen = [], Seen()
    for profiles in (poisoned, tastes.profiles):
        models.append(hybrid())
        seen.widths.clear()
        fit_hybrid(models[-1], data_of(profiles, tastes.train), FitContext(seed=4), fit_part=seen.fit)
        assert set(seen.widths[:3]) == {0}
        assert set(seen.widths[3:]) == {8}  # embeddings alone
    np.testing.assert_array_equal(
        scores_of(models[0], tastes.profiles, tastes.train), scores_of(models[1], tastes.profiles, tastes.train)
    )


def test_without_parts_that_read_embeddings_nothing_is_left_out(tastes: Tastes) -> None:
    lines: list[str] = []
    fit(hybrid(("recent_popularity", "segment_prior")), tastes.data, FitContext(report=lines.append))
    assert lines[0] == "weights: choosing on 10% of the interactions held out"


@pytest.mark.parametrize("rows", [[[0]], [[0], [1], []], [[3], [3], [4]]])
def test_a_handful_of_interactions_leaves_the_first_part(tastes: Tastes, rows: list[list[int]]) -> None:
    histories = histories_of(tastes.items, rows)
    profiles = tastes.profiles.rows(0, len(rows))
    lines: list[str] = []
    model = hybrid()
    report = fit(model, data_of(profiles, histories), FitContext(report=lines.append))
    assert list(model.parts) == ["ease"]
    assert any("taking ease alone" in line for line in lines)
    assert report.validation is None
    assert np.isfinite(scores_of(model, profiles, histories)).all()


def test_only_new_items_held_out(tastes: Tastes) -> None:
    """Nothing tells the parts apart; new items are placed all the same, and nothing crashes."""
    rows = [[row for row in tastes.later.item_rows[slice(*pair)] if tastes.is_new[row]] for pair in pairs(tastes.later)]
    lines: list[str] = []
    model = hybrid()
    held_out = data_of(tastes.profiles, histories_of(tastes.items, rows))
    report = fit(model, tastes.data, FitContext(held_out=held_out, report=lines.append))
    assert any(
        "no held-out interaction with an item of the training interactions: ease alone" in line for line in lines
    )
    assert report.validation == 0.0
    np.testing.assert_array_equal(model.weights.known[0], 1.0)
    assert model.weights.known.sum() == 1.0
    assert np.isfinite(scores_of(model, tastes.profiles, tastes.train)).all()


def test_users_unseen_in_training_are_scored_through_their_histories(tastes: Tastes) -> None:
    model = hybrid()
    fit(model, tastes.data, FitContext(held_out=tastes.held_out))
    topics = np.repeat(np.arange(5), 4)
    own = [np.flatnonzero((tastes.item_topics == topic) & ~tastes.is_new)[:6] for topic in topics]
    histories = histories_of(tastes.items, own)
    profiles = Profiles.bare(pa.array([f"stranger{row}" for row in range(len(topics))]))
    made = model.user_vectors(profiles, histories)
    assert set(made.source) == {"hybrid"}
    scores = made.vectors @ model.item_vectors(tastes.items).T
    scores[histories.user_rows(), histories.item_rows] = -np.inf
    first = np.argsort(-scores, axis=1)[:, :5]
    assert (tastes.item_topics[first] == topics[:, None]).mean() > 0.8  # chance: 0.2
    # what they took counts, not who they are: all of a topic get the same
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    assert not np.allclose(scores[0], scores[4])


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Candidates, np.ndarray]]:
    """What each search chose by, and what it chose."""
    found: list[tuple[Candidates, np.ndarray]] = []

    def watched(candidates: Candidates, parts: Sequence[str], *, report: Callable[[str], None]) -> np.ndarray:
        found.append((candidates, search_weights(candidates, parts, report=report)))
        return found[-1][1]

    monkeypatch.setattr(fusing, "search_weights", watched)
    return found


def test_never_below_the_best_part(tastes: Tastes, searched: list[tuple[Candidates, np.ndarray]]) -> None:
    """The value reported is that of the weights, recomputed, and no part alone does better on the same users."""
    for seed in (1, 2, 3):
        report = fit(hybrid(), tastes.data, FitContext(seed=seed, held_out=tastes.held_out))
        candidates, weights = searched[-1]
        told = candidates.of(candidates.classes > 0)
        total = sum(
            told.of(told.classes == number).ndcg(weights[:, number]).sum() for number in np.unique(told.classes)
        )
        assert report.validation == pytest.approx(total / len(told), abs=1e-6)
        alone = [told.ndcg(one).mean() for one in np.eye(4, dtype=np.float32)]
        assert report.validation is not None and report.validation >= max(alone) - 1e-6


def test_users_cut_short_stand_for_short_histories(
    tastes: Tastes, searched: list[tuple[Candidates, np.ndarray]]
) -> None:
    """Nobody has a short history: weights for these are chosen on others whose history is hidden in part."""
    long = np.flatnonzero(np.diff(tastes.train.offsets) >= 8)
    keep = [tastes.train.item_rows[slice(*pair)] for pair in pairs(tastes.train)]
    wants = [tastes.later.item_rows[slice(*pair)] for pair in pairs(tastes.later)]
    profiles = replace(
        Profiles.bare(tastes.profiles.user_ids.take(pa.array(long))),
        embeddings=tastes.profiles.embeddings[long],
        embedded=np.ones(len(long), bool),
    )
    data = data_of(profiles, histories_of(tastes.items, [keep[user] for user in long]))
    held_out = data_of(profiles, histories_of(tastes.items, [wants[user] for user in long]))
    fit(hybrid(), data, FitContext(held_out=held_out))
    candidates = searched[0][0]
    counts = np.bincount(candidates.classes, minlength=5)
    assert (counts[:3] == len(long)).all()
    # what is to be found stays the same
    assert candidates.wanted[candidates.classes == 0].sum() == candidates.wanted[: len(long)].sum()


def test_two_towers_take_the_order_from_ease(tastes: Tastes) -> None:
    """A decay of 1 says that order means nothing; trying both orders would cost two trainings."""
    towers = {"max_epochs": 2, "hidden_dim": 8}
    for decay, order in ((1.0, "set"), (0.8, "sequence")):
        seen = Seen()
        settings: dict[str, dict[str, Any]] = {"ease": {"l2": 20.0}, "two_tower": towers}
        model = hybrid(("ease", "two_tower"), settings)

        def fit_part(model: Model, data: TrainingData, context: FitContext) -> FitReport:
            report = seen.fit(model, data, context)  # noqa: B023
            if model.settings.model == "ease":
                return replace(report, choice={**report.choice, "history_decay": decay})  # noqa: B023
            return report

        report = fit_hybrid(model, tastes.data, FitContext(held_out=tastes.held_out), fit_part=fit_part)
        assert seen.fits[1][0] == "two_tower"
        assert seen.fits[1][2].choice == {"history_order": order}
        if "two_tower" in model.parts:
            assert report.choice["two_tower.history_order"] == order and report.history
