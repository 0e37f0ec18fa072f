"""Worlds with pictures and sounds: what they show stands nowhere else, and is what users go by."""

from __future__ import annotations

import colorsys
import io
import json
import sys
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from runs import digests
from scipy.special import iv

from recpipe.errors import UnavailableError
from recpipe.ingest.simulate.files import write_world
from recpipe.ingest.simulate.rendering import MIDDLE_PITCH, N_SHAPES, SAMPLE_RATE, SIDE, picture, sound
from recpipe.ingest.simulate.senses import SENSE_WEIGHT, appeal, pleasure
from recpipe.ingest.simulate.settings import SimulateSettings
from recpipe.ingest.simulate.truth import iterate_user_truth, load_truth
from recpipe.ingest.simulate.world import simulate

Image = pytest.importorskip("PIL.Image")

SILENT = SimulateSettings(n_users=300, n_items=200, n_interactions=5000, seed=7)
WORLD = SILENT.model_copy(update={"media": True})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media") / "world"
    write_world(simulate(WORLD), folder)
    return folder


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64) / 255


def samples(content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLE_RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def test_every_item_has_a_picture_and_a_sound_beside_the_tables(folder: Path) -> None:
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(items) == WORLD.n_items
    for item in items[:20]:
        assert item["image"] == f"images/{item['item_id']}.png" and item["audio"] == f"audio/{item['item_id']}.wav"
        assert pixels((folder / item["image"]).read_bytes()).shape == (SIDE, SIDE, 3)
        assert len(samples((folder / item["audio"]).read_bytes())) == SAMPLE_RATE // 2
    assert len(list((folder / "images").iterdir())) == len(list((folder / "audio").iterdir())) == WORLD.n_items


def test_the_same_settings_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_world(simulate(WORLD), tmp_path)
    for pattern in ("*.*", "images/*", "audio/*"):
        assert digests(tmp_path, pattern) == digests(folder, pattern)
    write_world(simulate(WORLD.model_copy(update={"seed": 8})), tmp_path)
    others = digests(tmp_path, "images/*")
    assert all(others[name] != digest for name, digest in digests(folder, "images/*").items())


def test_all_but_what_is_taken_is_as_without_media() -> None:
    """Texts, categories, prices and profiles are the same: nothing in them can tell of look or sound."""
    with_media, without = (simulate(settings) for settings in (WORLD, SILENT))
    assert (
        pa.concat_tables(with_media.items()).drop_columns(["image", "audio"]).equals(pa.concat_tables(without.items()))
    )
    assert pa.concat_tables(with_media.users()).equals(pa.concat_tables(without.users()))
    assert list(without.media()) == []
    assert without.truth().senses.shape == (SILENT.n_items, 0)


@pytest.mark.parametrize("look", [0.1, 1.3, 2.5, 3.6, 4.9, 6.1])
def test_the_hue_is_the_look_and_neighbouring_sectors_differ_in_shape(look: float) -> None:
    drawn = pixels(picture(look, np.random.default_rng(1)))
    coloured = drawn.max(axis=2) - drawn.min(axis=2) > 0.3
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in drawn[coloured]])
    np.testing.assert_allclose(hues, look / (2 * np.pi), atol=0.01)
    next_one = pixels(picture((look + 2 * np.pi / N_SHAPES) % (2 * np.pi), np.random.default_rng(1)))
    assert ((next_one.max(axis=2) - next_one.min(axis=2) > 0.3) != coloured).sum() > 20


@pytest.mark.parametrize("tone", [0.0, 0.8, 1.6, 2.5, 3.1, 4.0, 4.7, 5.6])
def test_pitch_and_brightness_are_the_sound(tone: float) -> None:
    spectrum = np.abs(np.fft.rfft(samples(sound(tone, np.random.default_rng(2)))))
    expected = MIDDLE_PITCH * 2 ** np.cos(tone)
    bin_width = SAMPLE_RATE / (2 * (len(spectrum) - 1))
    lowest = int(700 / bin_width)  # no pitch is higher
    assert spectrum[:lowest].argmax() * bin_width == pytest.approx(expected, abs=3)
    first, second = (
        np.linalg.norm(spectrum[round(k * expected / bin_width) - 8 : round(k * expected / bin_width) + 9])
        for k in (1, 2)
    )
    assert second / first == pytest.approx(0.05 + 0.85 * (1 + np.sin(tone)) / 2, abs=0.05)


def test_items_are_taken_in_proportion_to_their_appeal() -> None:
    """Of a strength κ, the mean cosine between what is liked and what is taken is I₁(κ) / I₀(κ)."""
    settings = SimulateSettings(
        n_users=400, n_items=1500, n_interactions=4000, media=True, picture_pull=2.0, sound_pull=1.0, seed=3
    )
    world = simulate(settings)
    taken = pa.concat_tables(world.interactions())
    users, items = (
        np.array([int(text[1:]) - 1 for text in taken[name].to_pylist()]) for name in ("user_id", "item_id")
    )
    liked, shown = world.senses(np.arange(settings.n_users))[users], world.truth().senses[items]
    found = np.cos(liked - shown).mean(axis=0)
    np.testing.assert_allclose(found, [iv(1, 2) / iv(0, 2), iv(1, 1) / iv(0, 1)], atol=0.05)


def test_each_sense_helps_to_foresee_what_is_taken() -> None:
    world = simulate(WORLD)
    taken = pa.concat_tables(world.interactions())
    users, items = (
        np.array([int(text[1:]) - 1 for text in taken[name].to_pylist()]) for name in ("user_id", "item_id")
    )
    truth, rows = world.truth(), np.arange(WORLD.n_users)
    tastes, senses = world.tastes(rows, WORLD.days // 2), world.senses(rows)

    def mean_log_choice(used: np.ndarray) -> float:
        choice = truth.choice(tastes, WORLD.days - 1) * np.exp(
            (used * np.cos(senses[:, None] - truth.senses[None])).sum(axis=2)
        )
        choice /= choice.sum(axis=1, keepdims=True)
        return float(np.log(np.maximum(choice[users, items], 1e-9)).mean())

    none, look, both = (mean_log_choice(np.array(used)) for used in ([0, 0], [2, 0], [2, 2]))
    assert none + 0.15 < look and look + 0.15 < both


def test_the_truth_is_the_same_from_files_as_from_the_world(folder: Path) -> None:
    world, truth = simulate(WORLD), load_truth(folder)
    assert truth.settings == WORLD
    users = list(iterate_user_truth(folder))
    liked = np.concatenate([batch.senses for batch in users])
    rows = np.arange(WORLD.n_users)
    np.testing.assert_array_equal(liked, world.senses(rows))
    tastes = world.tastes(rows, 40)
    np.testing.assert_array_equal(truth.preference(tastes, liked), world.true_preference(rows, 40))
    added = truth.preference(tastes, liked)[3, 5] - truth.preference(tastes)[3, 5]
    assert added == pytest.approx(SENSE_WEIGHT * np.cos(liked[3] - truth.senses[5]).sum())
    factor = truth.choice(tastes, 364, liked)[3, 5] / truth.choice(tastes, 364)[3, 5]
    assert factor == pytest.approx(np.exp(2 * (np.cos(liked[3] - truth.senses[5]) - 1).sum()))


def test_opposites_by_hand() -> None:
    liked = np.array([[0.0, np.pi]], np.float32)
    shown = np.array([[0.0, np.pi], [np.pi, 0.0]], np.float32)
    np.testing.assert_allclose(appeal(liked, shown, WORLD), [1, np.exp(-8)])
    np.testing.assert_allclose(pleasure(liked, shown), [2 * SENSE_WEIGHT, -2 * SENSE_WEIGHT])
    nothing = np.empty((3, 0), np.float32)
    np.testing.assert_array_equal(appeal(nothing, nothing, SILENT), np.ones(3))


def test_without_pillow_the_command_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnavailableError, match="Pillow") as refused:
        write_world(simulate(WORLD), tmp_path)
    assert "pip install" in str(refused.value.next_step)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_media_and_replaces_only_its_own(run_cli, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    size = ("--set", "n_users=50", "--set", "n_items=60", "--set", "n_interactions=250", "--set", "media=true")
    Path("shop/images").mkdir(parents=True)
    Path("shop/images/mine.png").write_text("mine", encoding="utf-8")
    assert "would overwrite images" in run_cli("simulate", "--to", "shop", *size, expect=2).stderr
    run_cli("simulate", "--to", "world", *size)
    run_cli("simulate", "--to", "world", *size, "--set", "seed=3")
    assert len(list(Path("world/audio").iterdir())) == 60
