"""The sections of a stage's settings that say which pictures and sounds are encoded, and how. Read while planning."""

from __future__ import annotations

from typing import Protocol

from recpipe.encoders.settings import AudioEncoderSettings, ImageEncoderSettings, MediaSettings
from recpipe.ingest.settings import DataSettings
from recpipe.stages.base import Given


class MediaSections(Protocol):
    """Settings of a stage that encodes pictures and sounds."""

    @property
    def image_encoder(self) -> ImageEncoderSettings: ...

    @property
    def audio_encoder(self) -> AudioEncoderSettings: ...

    @property
    def media(self) -> MediaSettings: ...

    @property
    def data(self) -> DataSettings: ...


def reads_media(settings: MediaSections, given: Given) -> bool:
    """Say whether an encoder of pictures or sounds is configured."""
    return settings.image_encoder.model_name is not None or settings.audio_encoder.model_name is not None
