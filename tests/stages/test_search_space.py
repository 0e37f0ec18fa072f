"""A search space is checked against the configuration before anything runs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from recpipe.errors import ConfigError
from recpipe.stages.pipeline.search_space import TunedConfig
from recpipe.stages.settings import build


def tuned(space: dict[str, Any], **sections: Any) -> TunedConfig:
    raw = {"train": {"model": "factorization"}, **sections, "tune": {"space": space}}
    return TunedConfig.check(raw, build(raw))


def problem(space: dict[str, Any], **sections: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        tuned(space, **sections)
    assert caught.value.where is not None and caught.value.where.startswith("tune.space")
    return caught.value


def test_a_space_that_holds() -> None:
    found = tuned(
        {
            "train.hidden_dim": {"int": [16, 256], "log": True},
            "train.weight_decay": {"float": [0.0001, 0.1], "log": True},
            "train.loss": {"choice": ["softmax", "bpr"]},
            "cluster.pca_dim": {"choice": [None, 32]},
            "cluster.features.max_values": {"int": [10, 50]},
            "users.half_life_days": {"float": [10, 200]},
        },
        cluster={"pca_dim": 8},
    )
    assert found.own_values() == {
        "train.hidden_dim": 64,
        "train.weight_decay": "auto",
        "train.loss": "softmax",
        "cluster.pca_dim": 8,
        "cluster.features.max_values": 50,
        "users.half_life_days": 90.0,
    }


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.hiden_dim", "unknown key 'train.hiden_dim': did you mean 'hidden_dim'?"),
        ("clusters.n_clusters", "unknown section 'clusters' in 'clusters.n_clusters': did you mean 'cluster'?"),
        ("cluster.features.max_value", "did you mean 'max_values'?"),
        ("cluster.features", "is a section"),
        ("cluster", "is a section"),
        ("cluster.n_clusters.low", "'cluster.n_clusters' is a setting, not a section"),
        ("train.checkpoint_seconds", "does not change what comes out"),
        ("train.target", "decides what is measured"),
        ("train.positive_from", "decides what is measured"),
        ("split.test_share", "cannot be searched: settings of encoder, users, cluster, train can"),
        ("evaluate.n_bootstrap", "cannot be searched"),
        ("seed", "cannot be searched"),
        ("tune.n_trials", "cannot be searched"),
    ],
)
def test_what_cannot_be_searched(key: str, message: str) -> None:
    assert message in problem({key: {"int": [1, 2]}}).what


@pytest.mark.parametrize(
    ("key", "dimension", "message"),
    [
        ("train.hidden_dim", {"int": [0, 16]}, "train.hidden_dim: must be greater than 0 (got 0)"),
        ("train.dropout", {"float": [0.0, 1.0]}, "train.dropout: must be less than 1 (got 1.0)"),
        ("train.hidden_dim", {"float": [8.0, 16.0]}, "train.hidden_dim: must be a valid integer"),
        ("train.loss", {"choice": ["softmax", "bpp"]}, "train.loss: must be 'softmax', 'bpr'"),
        ("train.hidden_dim", {"choice": [8, None]}, "train.hidden_dim: "),
        ("train.model", {"choice": ["content", "contend"]}, "unknown model 'contend'"),
        ("train.model", {"int": [1, 2]}, "models are named"),
    ],
)
def test_every_bound_is_tried(key: str, dimension: dict[str, Any], message: str) -> None:
    assert message in problem({key: dimension}).what


def test_all_problems_are_told_at_once() -> None:
    found = problem({"train.hidden_dim": {"int": [0, 16]}, "train.dropout": {"float": [0.5, 2.0]}}).what
    assert "train.hidden_dim" in found and "train.dropout" in found
    found = problem({"train.hiden_dim": {"int": [1, 16]}, "trian.dropout": {"float": [0.5, 0.6]}}).what
    assert "'trian'" in found


def test_an_empty_space_shows_an_example() -> None:
    found = problem({})
    assert found.what == "nothing to search" and "train.hidden_dim" in str(found.next_step)


def test_the_model_is_named_where_a_key_is_unknown() -> None:
    found = problem({"train.hidden_dim": {"int": [1, 16]}}, train={"model": "content"})
    assert "unknown key 'train.hidden_dim'" in found.what
    assert "the model is content (train.model)" in str(found.next_step)


def test_bounds_may_need_each_other() -> None:
    """40 is above the configuration's own max_clusters, but not above those that are searched."""
    lone = {"cluster.min_clusters": {"int": [2, 40]}}
    assert "min_clusters is above max_clusters" in problem(lone).what
    tuned({**lone, "cluster.max_clusters": {"int": [40, 60]}})


def test_settings_belong_to_the_models_that_have_them() -> None:
    space = {
        "train.model": {"choice": ["content", "factorization"]},
        "train.centred": {"choice": [True, False]},
        "train.hidden_dim": {"int": [4, 8]},
        "cluster.n_clusters": {"int": [2, 4]},
    }
    found = tuned(space, train={"model": "factorization"})
    assert found.space.models == {
        "train.model": {"content", "factorization"},
        "train.centred": {"content"},
        "train.hidden_dim": {"factorization"},
    }
    assert found.own_values() == {
        "train.model": "factorization", "train.hidden_dim": 64, "cluster.n_clusters": 10,
    }  # fmt: skip
    assert "train.hidden_dim" in problem({**space, "train.hidden_dim": {"int": [0, 8]}}).what
    # a key of the file that one of the models does not have
    assert "'train.dropout'" in problem(space, train={"model": "factorization", "dropout": 0.1}).what


def test_values_are_laid_over_what_was_written() -> None:
    found = tuned({"train.hidden_dim": {"int": [1, 16]}, "cluster.features.max_values": {"int": [1, 9]}})
    before = copy.deepcopy(dict(found.raw))
    config = found.config_with({"train.hidden_dim": 3, "cluster.features.max_values": 4})
    assert (config.train.model_dump()["hidden_dim"], config.cluster.features.max_values) == (3, 4)
    assert found.raw == before
