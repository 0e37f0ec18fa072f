"""Models of pictures and sounds of a few kilobytes with random weights, for tests that need no understanding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    HubertConfig,
    HubertModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from recpipe.encoders.loading import quiet_transformers

try:  # without torchvision the class of version 5 that needs Pillow alone has another name
    from transformers import BitImageProcessorPil as BitImageProcessor
except ImportError:
    from transformers import BitImageProcessor

PICTURE_MODELS = ("clip", "siglip", "vit", "dinov2")
SOUND_MODELS = ("clap", "clap_fused", "wav2vec2", "wav2vec2_group", "hubert", "whisper", "ast")
PICTURE_EDGE = 32
WHISPER_SECONDS = 2
CLAP_SECONDS = 1
AST_FRAMES = 128
"""1.285 s of sound."""

_LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_TEXT = {**_LAYERS, "vocab_size": 50, "max_position_embeddings": 16, "projection_dim": 24}
_PICTURE = {**_LAYERS, "image_size": PICTURE_EDGE, "patch_size": 8, "initializer_range": 0.2}
_SQUARE = {"height": PICTURE_EDGE, "width": PICTURE_EDGE}
_WAVE = {
    **_LAYERS,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (8, 5, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "initializer_range": 0.2,
    "apply_spec_augment": False,
}


def build(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny model of one kind with its processor; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = _KINDS[kind]()
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def _clip() -> tuple[Any, Any]:
    config = CLIPConfig(text_config=_TEXT, vision_config={**_PICTURE, "projection_dim": 24}, projection_dim=24)
    processor = CLIPImageProcessor(size={"shortest_edge": PICTURE_EDGE}, crop_size=_SQUARE)
    return CLIPModel(config), processor


def _siglip() -> tuple[Any, Any]:
    config = SiglipConfig(text_config=_TEXT, vision_config=_PICTURE)
    return SiglipModel(config), SiglipImageProcessor(size=_SQUARE)


def _vit() -> tuple[Any, Any]:
    return ViTModel(ViTConfig(**_PICTURE)), ViTImageProcessor(size=_SQUARE)


def _dinov2() -> tuple[Any, Any]:
    config = Dinov2Config(**{**_PICTURE, "mlp_ratio": 2})
    # as its own folders have it: the short side is brought to one size, the middle is cut out
    processor = BitImageProcessor(
        size={"shortest_edge": 40}, crop_size=_SQUARE, do_resize=True, do_center_crop=True, default_to_square=False
    )
    return Dinov2Model(config), processor


def _clap(*, fused: bool = False) -> tuple[Any, Any]:
    audio = {
        "num_mel_bins": 64, "spec_size": 128, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4,
        "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2, "projection_dim": 24, "enable_fusion": fused,
    }  # fmt: skip
    config = ClapConfig(text_config=_TEXT, audio_config=audio, projection_dim=24)
    extractor = ClapFeatureExtractor(max_length_s=CLAP_SECONDS)
    return ClapModel(config), extractor


def _wav2vec2(*, norm: str = "layer") -> tuple[Any, Any]:
    config = Wav2Vec2Config(
        **_WAVE, feat_extract_norm=norm, conv_bias=norm == "layer", do_stable_layer_norm=norm == "layer"
    )
    return Wav2Vec2Model(config), Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")


def _hubert() -> tuple[Any, Any]:
    config = HubertConfig(**_WAVE, feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True)
    return HubertModel(config), Wav2Vec2FeatureExtractor(return_attention_mask=True)


def _whisper() -> tuple[Any, Any]:
    config = WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, decoder_layers=1,
        decoder_attention_heads=4, decoder_ffn_dim=48, num_mel_bins=16, max_source_positions=50 * WHISPER_SECONDS,
        max_target_positions=8, vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, init_std=0.2,
    )  # fmt: skip
    return WhisperModel(config), WhisperFeatureExtractor(feature_size=16, chunk_length=WHISPER_SECONDS)


def _ast() -> tuple[Any, Any]:
    config = ASTConfig(
        **_LAYERS, num_mel_bins=32, max_length=AST_FRAMES, patch_size=8, frequency_stride=8, time_stride=8,
        initializer_range=0.2,
    )  # fmt: skip
    return ASTModel(config), ASTFeatureExtractor(num_mel_bins=32, max_length=AST_FRAMES)


_KINDS = {
    "clip": _clip,
    "siglip": _siglip,
    "vit": _vit,
    "dinov2": _dinov2,
    "clap": _clap,
    "clap_fused": lambda: _clap(fused=True),
    "wav2vec2": _wav2vec2,
    "wav2vec2_group": lambda: _wav2vec2(norm="group"),
    "hubert": _hubert,
    "whisper": _whisper,
    "ast": _ast,
}
