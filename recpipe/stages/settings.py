"""The root of the configuration, assembled from every capability's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, SerializeAsAny, create_model, field_validator

from recpipe import config
from recpipe.config import Execution, Settings
from recpipe.encoders.settings import (
    AudioEncoderSettings,
    EncoderSettings,
    ImageEncoderSettings,
    MediaSettings,
    UsersSettings,
)
from recpipe.executors.settings import ExecutorSettings
from recpipe.ingest.settings import DataSettings, SplitSettings
from recpipe.metrics.settings import EvaluateSettings
from recpipe.models.selection import settings_for
from recpipe.models.settings import ModelSettings
from recpipe.scoring.settings import ScoreSettings
from recpipe.segments.settings import ClusterSettings
from recpipe.training.settings import TuneSettings


class CacheSettings(Settings):
    """Where vectors are remembered."""

    dir: Annotated[Path | None, Execution()] = None
    """Folder of the embedding cache; null is `cache` below the work directory. It may be shared."""

    max_gb: Annotated[NonNegativeFloat | None, Execution()] = 20.0
    """Size in GB above which `run` removes the least recently used vectors; null keeps everything."""

    def folder(self, workdir: Path) -> Path:
        """Return the cache's folder."""
        return self.dir or workdir / "cache"


class Config(Settings):
    """The whole configuration. Every key has a default; the shortest file names only the tables."""

    workdir: Annotated[Path, Execution()] = Path("work")
    """Folder of all artifacts. Relative paths here and in `data` are relative to the current directory."""
    seed: NonNegativeInt = 42
    """Seed of everything random."""
    device: Annotated[str, Execution(), Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto | cpu | cuda | cuda:1; auto takes CUDA where torch finds it."""
    as_of: datetime | None = None
    """"Now" for every age and decay (ISO 8601, UTC without a zone); null is the newest timestamp, never the clock."""
    data: DataSettings = DataSettings()
    """Source tables."""
    encoder: EncoderSettings = EncoderSettings()
    """The pretrained encoder of texts."""
    image_encoder: ImageEncoderSettings = ImageEncoderSettings()
    """The pretrained encoder of pictures."""
    audio_encoder: AudioEncoderSettings = AudioEncoderSettings()
    """The pretrained encoder of sounds."""
    media: MediaSettings = MediaSettings()
    """Files of pictures and sounds."""
    users: UsersSettings = UsersSettings()
    """How users become vectors."""
    cluster: ClusterSettings = ClusterSettings()
    """Profiles and segments."""
    train: SerializeAsAny[ModelSettings] = ModelSettings()
    """The model; further keys depend on `train.model`."""
    score: ScoreSettings = ScoreSettings()
    """The lists written."""
    split: SplitSettings = SplitSettings()
    """How the evaluation view holds interactions out."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """What is measured."""
    tune: TuneSettings = TuneSettings()
    """What `recpipe tune` searches."""
    executor: ExecutorSettings = ExecutorSettings()
    """How work is placed."""
    cache: CacheSettings = CacheSettings()
    """The embedding cache."""

    keep_runs: Annotated[PositiveInt, Execution()] = 14
    """Past runs whose metrics and recommendations are kept under `runs/`."""

    @field_validator("as_of")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @property
    def cache_folder(self) -> Path:
        """The embedding cache's folder."""
        return self.cache.folder(self.workdir)


def load(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    workdir: Path | None = None,
    sources: Mapping[str, Path] | None = None,
) -> Config:
    """Read and validate the configuration.

    Args:
        path: A YAML file, or None for defaults.
        overrides: `section.key=value` strings.
        workdir: The work directory named on the command line; it wins. A path, never read as YAML.
        sources: Source tables named on the command line, by table name; they win.

    Raises:
        ConfigError: Every problem found, with its key and line.
    """
    return build(read(path, overrides, workdir=workdir, sources=sources), path=path, overrides=overrides)


def read(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    workdir: Path | None = None,
    sources: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Read what `load` validates: sections by name, as somebody wrote them.

    Raises:
        ConfigError: The file is missing or no mapping, or an override is malformed.
    """
    raw = config.read_raw(path, overrides)
    if workdir is not None:
        raw["workdir"] = workdir
    data = raw.get("data") or {}
    if sources and isinstance(data, Mapping):  # anything else is reported below
        raw["data"] = {**data, **{name: str(source) for name, source in sources.items()}}
    # a section whose keys are all commented out is null in YAML
    sections = {name for name, field in Config.model_fields.items() if isinstance(field.default, Settings)}
    return {key: ({} if value is None and key in sections else value) for key, value in raw.items()}


def build(raw: Mapping[str, Any], *, path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Validate what `read` returned; path and overrides are those it was read from, for the messages.

    Raises:
        ConfigError: Every problem found, with its key and line.
    """
    return config.validate(_class_for(raw.get("train")), raw, path=path, overrides=overrides)


def _class_for(train: Any) -> type[Config]:
    """Return the configuration whose `train` section is the named model's own settings.

    So every key of the section is checked against the model that will read it.
    """
    default = ModelSettings.model_fields["model"].default
    name = train.get("model", default) if isinstance(train, Mapping) else default
    settings = settings_for(str(name))
    # the class is known at run time only, so the field cannot be written as a type
    field: Any = (settings, settings())
    return create_model("Config", __base__=Config, train=field)
