from __future__ import annotations

import pytest

from recpipe.config import validate
from recpipe.errors import ConfigError, DataError
from recpipe.models.base import Items, TrainingData
from recpipe.models.content import ContentSettings
from recpipe.models.registry import find_model, model_names
from recpipe.models.selection import candidates_of, settings_for
from recpipe.models.settings import ModelSettings


def test_names_are_models_and_nothing_else() -> None:
    names = model_names()
    assert {"content", "popularity"} <= set(names)
    assert not {"base", "registry", "settings", "storage", "ids"} & set(names)


def test_default_model_exists() -> None:
    settings = settings_for(ModelSettings().model)()
    assert [candidate.model for candidate in candidates_of(settings)]


@pytest.mark.parametrize(("typo", "meant"), [("populrity", "popularity"), ("contnet", "content")])
def test_typo_lists_the_nearest_first(typo: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_model(typo)
    assert caught.value.exit_code == 2
    assert typo in caught.value.what
    hint = str(caught.value.next_step)
    assert f"did you mean '{meant}'" in hint
    assert hint.partition("valid: ")[2].split(", ")[0] == meant
    assert set(hint.partition("valid: ")[2].split(", ")) == set(model_names())


@pytest.mark.parametrize("name", ["base", "registry", "../content", "", "content.MODEL"])
def test_other_modules_and_paths_are_no_models(name: str) -> None:
    with pytest.raises(ConfigError):
        find_model(name)


def test_settings_are_flat_and_typos_are_named() -> None:
    settings = validate(find_model("content").settings, {"model": "content", "centred": False})
    assert settings == ContentSettings(centred=False)
    with pytest.raises(ConfigError, match="did you mean 'centred'"):
        validate(find_model("content").settings, {"centered": False})


def test_a_model_refuses_the_settings_of_another() -> None:
    with pytest.raises(TypeError, match="ContentSettings"):
        find_model("content").create(find_model("popularity").settings())
    with pytest.raises(ConfigError):
        validate(find_model("content").settings, {"model": "popularity"})


def test_several_named_models() -> None:
    assert ContentSettings().kept_as == "content"
    assert ContentSettings(name="raw-cosine").kept_as == "raw-cosine"
    for bad in ("../up", "", ".hidden", "a/b"):
        with pytest.raises(ConfigError):
            validate(ContentSettings, {"name": bad})


def test_target_is_what_the_model_and_the_data_allow() -> None:
    import pyarrow as pa

    spec = find_model("popularity")
    data = TrainingData(items=Items.bare(pa.array(["a"])), open_blocks=lambda: iter(()), n_users=0)
    assert spec.target_for(spec.settings(), data) == "implicit"
    with pytest.raises(ConfigError, match="cannot learn"):
        spec.target_for(spec.settings(target="rating"), data)


def test_auto_target_falls_to_the_next_one_the_data_allow() -> None:
    import dataclasses

    import pyarrow as pa

    spec = dataclasses.replace(find_model("popularity"), targets=("rating", "implicit"))
    unrated = TrainingData(items=Items.bare(pa.array(["a"])), open_blocks=lambda: iter(()), n_users=0)
    rated = dataclasses.replace(unrated, targets=frozenset({"implicit", "rating"}))
    assert spec.target_for(spec.settings(), rated) == "rating"
    assert spec.target_for(spec.settings(), unrated) == "implicit"
    with pytest.raises(DataError, match="ratings"):
        spec.target_for(spec.settings(target="rating"), unrated)
