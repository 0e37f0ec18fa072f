from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_media_models import AST_FRAMES, CLAP_SECONDS, PICTURE_MODELS, SOUND_MODELS, WHISPER_SECONDS

from recpipe.encoders import media
from recpipe.encoders.loading import quiet_transformers
from recpipe.encoders.media_spec import MediaModel, deciding_files, find_folder, media_model
from recpipe.encoders.settings import AudioEncoderSettings, ImageEncoderSettings, MediaSettings
from recpipe.encoders.sound_models import mean_of_frames
from recpipe.errors import UnavailableError
from recpipe.store.fingerprint import FileDigests

Models = Callable[[str], Path]

RATE = 16_000
GENERATOR = np.random.Generator(np.random.PCG64(3))


def settings_of(folder: Path, kind: str, **options: Any) -> ImageEncoderSettings | AudioEncoderSettings:
    sort = ImageEncoderSettings if kind in PICTURE_MODELS else AudioEncoderSettings
    return sort(model_name=str(folder), **options)


def loaded(folder: Path, kind: str, **options: Any) -> media.MediaEncoder:
    settings = settings_of(folder, kind, **options)
    return media.load(found(folder, kind, **options), settings, MediaSettings(), device="cpu")


def found(folder: Path, kind: str, media_settings: MediaSettings | None = None, **options: Any) -> MediaModel:
    settings = settings_of(folder, kind, **options)
    modality = "image" if kind in PICTURE_MODELS else "audio"
    digest = FileDigests(Path("unused")).combined(deciding_files(find_folder(modality, settings)[0]))
    return media_model(modality, settings, media_settings or MediaSettings(), weights_digest=digest)


def hidden(folder: Path) -> Any:
    """The model as transformers loads it, and what prepares its input."""
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel

    with quiet_transformers():
        config = json.loads((folder / "preprocessor_config.json").read_text())
        auto = AutoImageProcessor if "image_processor_type" in config else AutoFeatureExtractor
        return AutoModel.from_pretrained(folder).eval(), auto.from_pretrained(folder)


def unit(vector: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vector.flatten(), dim=0).numpy()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    # 1 to 3 pixels a side: what is height and what is channels cannot be told from the numbers
    sizes = [(50, 40), (1, 1), (3, 3), (3, 40), (32, 32), (90, 45)]
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    for path, (width, height) in zip(paths, sizes, strict=True):
        Image.fromarray(GENERATOR.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of 5 ms to 3.3 s, at several rates, one of two channels."""
    folder = tmp_path_factory.mktemp("sounds")
    paths = []
    for number, (seconds, rate) in enumerate(
        [(0.7, RATE), (0.005, RATE), (1.0, 8_000), (3.3, RATE), (0.7, RATE), (0.31, 44_100), (1.6, 48_000)]
    ):
        times = np.arange(round(seconds * rate)) / rate
        samples = 0.3 * np.sin(2 * np.pi * (200 + 150 * number) * times * (1 + times))
        samples = np.stack([samples, samples + 0.05 * GENERATOR.normal(size=len(samples))], axis=1)
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], samples if number == 2 else samples[:, 1], rate, subtype="FLOAT")
    return paths


@pytest.fixture
def files(request: pytest.FixtureRequest, kind: str) -> list[Path]:
    result: list[Path] = request.getfixturevalue("pictures" if kind in PICTURE_MODELS else "sounds")
    return result


@pytest.mark.parametrize("kind", [*PICTURE_MODELS, *SOUND_MODELS])
class TestEveryModel:
    def test_is_small(self, tiny_media_model: Models, kind: str) -> None:
        assert sum(file.stat().st_size for file in tiny_media_model(kind).iterdir()) < 1_000_000

    def test_a_vector_depends_on_its_file_alone(self, tiny_media_model: Models, kind: str, files: list[Path]) -> None:
        folder = tiny_media_model(kind)
        alone = loaded(folder, kind, batch_size=1)
        vectors = np.concatenate([alone.encode([file]).vectors for file in files])
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        # the files differ, and so do their vectors
        apart = np.linalg.norm(vectors[:, None] - vectors, axis=2) + 10 * np.eye(len(files))
        assert apart.min() > 1e-3
        for batch_size in (2, 3, 50):
            together = loaded(folder, kind, batch_size=batch_size).encode(files)
            assert together.failed == {}
            assert np.abs(together.vectors - vectors).max() < 1e-5
        backwards = loaded(folder, kind, batch_size=4).encode(files[::-1]).vectors[::-1]
        assert np.abs(backwards - vectors).max() < 1e-5

    def test_the_width_is_known_without_a_file(self, tiny_media_model: Models, kind: str, files: list[Path]) -> None:
        encoder = loaded(tiny_media_model(kind), kind)
        assert encoder.encode([]).vectors.shape == (0, encoder.dim)
        assert encoder.encode(files[:1]).vectors.shape == (1, encoder.dim)

    def test_files_that_fail_leave_the_others(
        self, tiny_media_model: Models, kind: str, files: list[Path], tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad"
        bad.write_bytes(b"no picture and no sound")
        encoder = loaded(tiny_media_model(kind), kind)
        mixed = encoder.encode([bad, files[0], bad, files[3]])
        assert {row: error.code.value for row, error in mixed.failed.items()} == {0: "unsupported", 2: "unsupported"}
        assert not mixed.vectors[[0, 2]].any()
        assert np.abs(mixed.vectors[[1, 3]] - encoder.encode([files[0], files[3]]).vectors).max() < 1e-5
        assert set(encoder.encode([bad]).failed) == {0}

    def test_a_file_without_a_vector_is_listed(
        self, tiny_media_model: Models, kind: str, files: list[Path], tmp_path: Path
    ) -> None:
        folder = tmp_path / "broken"
        shutil.copytree(tiny_media_model(kind), folder)
        weights = load_file(folder / "model.safetensors")
        nan = {
            name: torch.full_like(weight, math.nan) for name, weight in weights.items() if weight.is_floating_point()
        }
        save_file({**weights, **nan}, folder / "model.safetensors", metadata={"format": "pt"})
        found = loaded(folder, kind).encode(files[:2])
        assert {row: error.code.value for row, error in found.failed.items()} == {0: "no_vector", 1: "no_vector"}
        assert "NaN, infinite or zero" in found.failed[0].message
        assert not found.vectors.any()

    def test_bfloat16_is_nearly_the_same(
        self, tiny_media_model: Models, kind: str, files: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # every CPU can emulate it, only too slowly to be let through
        monkeypatch.setattr("recpipe.encoders.precision._cpu_flags", lambda: {"amx_bf16"})
        folder = tiny_media_model(kind)
        exact = loaded(folder, kind).encode(files).vectors
        rounded = loaded(folder, kind, precision="bfloat16").encode(files).vectors
        assert (exact * rounded).sum(axis=1).min() > 0.999
        assert not np.array_equal(exact, rounded)

    def test_the_newer_file_of_a_processor_is_read(
        self, tiny_media_model: Models, kind: str, files: list[Path], tmp_path: Path
    ) -> None:
        folder = tmp_path / "newer"
        shutil.copytree(tiny_media_model(kind), folder)
        part = "image_processor" if kind in PICTURE_MODELS else "feature_extractor"
        content = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(json.dumps({part: content}))
        expected = loaded(tiny_media_model(kind), kind).encode(files[:2]).vectors
        assert np.array_equal(loaded(folder, kind).encode(files[:2]).vectors, expected)

    def test_the_key_follows_what_decides_a_vector(self, tiny_media_model: Models, kind: str, tmp_path: Path) -> None:
        folder = tiny_media_model(kind)
        key = found(folder, kind).key
        assert found(folder, kind, batch_size=1).key == key
        assert found(folder, kind, MediaSettings(max_bad_share=1, max_megabytes=1)).key == key
        assert found(folder, kind, precision="bfloat16").key != key
        limit = "max_megapixels" if kind in PICTURE_MODELS else "max_seconds"
        assert found(folder, kind, MediaSettings(**{limit: 3})).key != key
        for name in ("model.safetensors", "preprocessor_config.json", "config.json"):
            other = tmp_path / name
            shutil.copytree(folder, other)
            if name == "model.safetensors":
                content = bytearray((other / name).read_bytes())
                content[-1] ^= 1
                (other / name).write_bytes(content)
            else:
                (other / name).write_text((other / name).read_text() + "\n")
            assert found(other, kind).key != key

    def test_missing_weights_are_no_random_ones(self, tiny_media_model: Models, kind: str, tmp_path: Path) -> None:
        folder = tmp_path / "incomplete"
        shutil.copytree(tiny_media_model(kind), folder)
        weights = load_file(folder / "model.safetensors")
        left_out = next(name for name in weights if "layer" in name and "text" not in name and "decoder" not in name)
        save_file(
            {name: weight for name, weight in weights.items() if name != left_out},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
        with pytest.raises(UnavailableError, match="incomplete"):
            loaded(folder, kind)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pictures_lie_where_the_model_compares_them_with_texts(
    tiny_media_model: Models, pictures: list[Path], kind: str
) -> None:
    model, processor = hidden(tiny_media_model(kind))
    ids = torch.tensor([[1, 2]])
    vectors = loaded(tiny_media_model(kind), kind).encode(pictures[:1]).vectors
    pixels = processor(Image.open(pictures[0]), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = model(input_ids=ids, pixel_values=pixels).image_embeds
    assert np.abs(vectors[0] - unit(expected)).max() < 1e-5


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_pictures_take_the_pooled_vector(tiny_media_model: Models, pictures: list[Path], kind: str) -> None:
    model, processor = hidden(tiny_media_model(kind))
    with torch.inference_mode():
        output = model(**processor(Image.open(pictures[0]), return_tensors="pt"))
    vectors = loaded(tiny_media_model(kind), kind).encode(pictures[:1]).vectors
    assert np.abs(vectors[0] - unit(output.pooler_output)).max() < 1e-5


def test_without_a_pooler_the_class_token_counts(
    tiny_media_model: Models, pictures: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "vit"
    shutil.copytree(tiny_media_model("vit"), folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    model, processor = hidden(folder)
    with torch.inference_mode():
        output = model(**processor(Image.open(pictures[0]), return_tensors="pt"))
    vectors = loaded(folder, "vit").encode(pictures[:1]).vectors
    assert np.abs(vectors[0] - unit(output.last_hidden_state[0, 0])).max() < 1e-5


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2_group", "hubert"])
def test_speech_models_take_the_mean_of_a_sounds_own_frames(
    tiny_media_model: Models, sounds: list[Path], kind: str
) -> None:
    model, extractor = hidden(tiny_media_model(kind))
    samples, rate = soundfile.read(sounds[0], dtype="float32")
    with torch.inference_mode():  # alone, so without padding
        states = model(extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"]).last_hidden_state
    vectors = loaded(tiny_media_model(kind), kind, batch_size=50).encode(sounds).vectors
    assert np.abs(vectors[0] - unit(states[0].mean(dim=0))).max() < 1e-5


def test_whisper_takes_the_mean_of_the_frames_that_hold_sound(tiny_media_model: Models, sounds: list[Path]) -> None:
    model, extractor = hidden(tiny_media_model("whisper"))
    samples, rate = soundfile.read(sounds[0], dtype="float32")
    inputs = extractor(samples, sampling_rate=rate, return_attention_mask=True, return_tensors="pt")
    with torch.inference_mode():
        states = model.get_encoder()(inputs["input_features"]).last_hidden_state[0]
    assert len(states) == 50 * WHISPER_SECONDS
    held = inputs["attention_mask"][0, ::2].bool()  # a frame of the encoder is made of two
    assert held.sum() == 35
    vectors = loaded(tiny_media_model("whisper"), "whisper").encode(sounds[:1]).vectors
    assert np.abs(vectors[0] - unit(states[held].mean(dim=0))).max() < 1e-5
    assert np.abs(vectors[0] - unit(states.mean(dim=0))).max() > 1e-3


@pytest.mark.parametrize("kind", ["clap", "clap_fused"])
def test_clap_reads_as_its_config_asks(tiny_media_model: Models, sounds: list[Path], kind: str) -> None:
    model, extractor = hidden(tiny_media_model(kind))
    samples, rate = soundfile.read(sounds[6], dtype="float32")
    samples = samples[: len(samples) // 2]  # 0.8 s, its first window
    truncation = "fusion" if kind == "clap_fused" else "rand_trunc"
    inputs = extractor(samples, sampling_rate=rate, truncation=truncation, return_tensors="pt")
    assert inputs["input_features"].shape[1] == (4 if kind == "clap_fused" else 1)
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([[1, 2]]), **inputs).audio_embeds
    path = sounds[0].with_name("first_window.wav")
    soundfile.write(path, samples, rate, subtype="FLOAT")
    vectors = loaded(tiny_media_model(kind), kind).encode([path]).vectors
    assert np.abs(vectors[0] - unit(expected)).max() < 1e-5


def test_ast_takes_the_pooled_vector(tiny_media_model: Models, sounds: list[Path]) -> None:
    model, extractor = hidden(tiny_media_model("ast"))
    samples, rate = soundfile.read(sounds[0], dtype="float32")
    with torch.inference_mode():
        output = model(**extractor(samples, sampling_rate=rate, return_tensors="pt"))
    vectors = loaded(tiny_media_model("ast"), "ast").encode(sounds[:1]).vectors
    assert np.abs(vectors[0] - unit(output.pooler_output)).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "longest"),
    [("clap", CLAP_SECONDS), ("clap_fused", CLAP_SECONDS), ("whisper", WHISPER_SECONDS), ("ast", AST_FRAMES / 100)],
)
def test_nothing_of_a_long_sound_is_cut_off(
    tiny_media_model: Models, tmp_path: Path, kind: str, longest: float
) -> None:
    """A sound longer than the model reads is the mean of its windows, the last of which counts."""
    rate = 48_000 if kind.startswith("clap") else RATE
    samples = (0.2 * GENERATOR.normal(size=round(2 * 0.9 * longest * rate))).astype(np.float32)
    halves = np.split(samples, 2)
    for name, part in (("whole", samples), ("first", halves[0]), ("second", halves[1])):
        soundfile.write(tmp_path / f"{name}.wav", part, rate, subtype="FLOAT")
    encoder = loaded(tiny_media_model(kind), kind, window_seconds=1000)
    whole, first, second = encoder.encode([tmp_path / f"{name}.wav" for name in ("whole", "first", "second")]).vectors
    assert np.linalg.norm(first - second) > 1e-3
    if kind.startswith("clap"):  # its vectors have unit length before they are averaged
        assert np.abs(whole - unit(torch.from_numpy(first + second))).max() < 1e-5
    between = np.linalg.lstsq(np.stack([first, second], axis=1), whole, rcond=None)
    assert between[0].min() > 0.3
    assert np.abs(np.stack([first, second], axis=1) @ between[0] - whole).max() < 1e-4


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2_group"])
def test_the_vector_of_a_long_sound_is_the_mean_of_its_windows(
    tiny_media_model: Models, sounds: list[Path], kind: str
) -> None:
    model, extractor = hidden(tiny_media_model(kind))
    samples, rate = soundfile.read(sounds[3], dtype="float32")
    windows = np.split(samples, 3)
    with torch.inference_mode():
        means = [
            model(extractor(window, sampling_rate=rate, return_tensors="pt")["input_values"]).last_hidden_state[0]
            for window in windows
        ]
    expected = torch.stack([states.mean(dim=0) for states in means]).mean(dim=0)
    vectors = loaded(tiny_media_model(kind), kind, window_seconds=1.2).encode(sounds).vectors
    assert np.abs(vectors[3] - unit(expected)).max() < 1e-5


def test_nothing_is_left_to_chance(tiny_media_model: Models, sounds: list[Path]) -> None:
    """The extractor of CLAP crops at random and calls a random sound of a batch longer."""
    encoder = loaded(tiny_media_model("clap_fused"), "clap_fused", batch_size=3)
    first = encoder.encode(sounds).vectors
    state = np.random.get_state()
    for seed in range(4):
        np.random.seed(seed)
        assert np.array_equal(encoder.encode(sounds).vectors, first)
    np.random.set_state(state)


def test_the_rate_is_the_folders(tiny_media_model: Models, sounds: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    shutil.copytree(tiny_media_model("wav2vec2"), folder)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "sampling_rate": 8_000}))
    model, extractor = hidden(folder)
    samples, rate = soundfile.read(sounds[2], dtype="float32")
    assert rate == 8_000
    values = extractor(samples.mean(axis=1), sampling_rate=rate, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        expected = model(values).last_hidden_state[0].mean(dim=0)
    assert np.abs(loaded(folder, "wav2vec2").encode(sounds[2:3]).vectors[0] - unit(expected)).max() < 1e-5


def test_the_mean_of_frames_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0], [3.0], [math.inf]], [[1.0], [3.0], [8.0]]])
    assert mean_of_frames(states, torch.tensor([2, 3])).tolist() == [[2.0], [4.0]]


def test_an_unknown_type_lists_the_known_ones(tiny_encoder: Path, tiny_media_model: Models) -> None:
    with pytest.raises(UnavailableError, match=r"type bert.*no image encoder") as error:
        find_folder("image", ImageEncoderSettings(model_name=str(tiny_encoder)))
    assert "clip, siglip, vit, dinov2" in str(error.value)
    with pytest.raises(UnavailableError, match=r"type clip.*no audio encoder") as error:
        find_folder("audio", AudioEncoderSettings(model_name=str(tiny_media_model("clip"))))
    assert "audio-spectrogram-transformer" in str(error.value)


def test_errors_name_their_own_setting(tiny_media_model: Models, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no model folder") as error:
        find_folder("image", ImageEncoderSettings(model_name="./nowhere"))
    assert "image_encoder.model_name" in str(error.value)
    folder = tmp_path / "bare"
    shutil.copytree(tiny_media_model("ast"), folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UnavailableError, match=r"preprocessor_config\.json is missing") as error:
        find_folder("audio", AudioEncoderSettings(model_name=str(folder)))
    assert "audio_encoder.model_name" in str(error.value)
    with pytest.raises(UnavailableError, match=r"audio_encoder\.precision float16 needs a CUDA") as error:
        loaded(tiny_media_model("ast"), "ast", precision="float16")
    assert "--set audio_encoder.precision=float32" in str(error.value)


@pytest.mark.parametrize(("module", "kind"), [("PIL", "clip"), ("soundfile", "ast")])
def test_a_missing_package_is_named_with_its_command(
    tiny_media_model: Models, monkeypatch: pytest.MonkeyPatch, module: str, kind: str
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    with pytest.raises(UnavailableError) as error:
        loaded(tiny_media_model(kind), kind)
    assert "pip install 'recpipe[media]'" in str(error.value)
