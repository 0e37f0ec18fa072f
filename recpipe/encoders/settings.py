"""Settings of the encoders and of how users become vectors."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from recpipe.config import Execution, Settings
from recpipe.schemas import TEXT, TITLE

POOLINGS = ("mean", "cls", "last_token", "max", "mean_sqrt_len_tokens", "weightedmean", "pooler")
"""Ways from token vectors to one vector; all but pooler can be joined by "+"."""


Pooling = str
"""One of `POOLINGS`, or several joined by "+": their vectors behind one another."""


def _known_pooling(value: str) -> str:
    names = value.split("+")
    joined = len(set(names)) == len(names) and set(names) <= set(POOLINGS) - {"pooler"}
    if value not in {"auto", "pooler"} and not joined:
        raise ValueError(f"choose from auto, {', '.join(POOLINGS)}, or join some of all but the last, as in cls+mean")
    return value


Precision = Literal["float32", "float16", "bfloat16"]
TextPrecision = Literal["float32", "float16", "bfloat16", "int8"]
Role = Literal["query", "document"]


BlockName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""Name of a block of text columns."""

MEDIA_BLOCKS = ("image", "audio")
"""Names of the blocks that are no text."""


class EncoderSettings(Settings):
    """Which pretrained encoder turns texts into vectors, and how."""

    model_name: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", min_length=1)
    """A local folder, an installed model package or a name on the Hugging Face hub, tried in that order."""

    pooling: Annotated[str, AfterValidator(_known_pooling)] = "auto"
    """How token vectors become one vector: mean, cls (the first), last_token, max, mean_sqrt_len_tokens,
    weightedmean (later tokens weigh more), pooler (the model's own), or several behind one another (cls+mean);
    auto reads it from the model folder's sentence-transformers files."""

    normalise: Literal["always", "auto"] = "always"
    """always: vectors have unit length; auto: only where the model folder asks for it."""

    max_length: Literal["auto"] | Annotated[int, Field(ge=8)] = "auto"
    """Longest text in tokens, special tokens included; auto is the model's own limit."""

    query_prompt: str | None = None
    """Text put before every user's text; null is the model folder's query prompt, "" is none."""

    document_prompt: str | None = None
    """Text put before every item's text; null is the model folder's document prompt, "" is none."""

    backend: Annotated[Literal["torch", "openvino"], Execution()] = "torch"
    """What computes the vectors. openvino (a CPU, extra `openvino`) is checked to give those of torch within 1e-5."""

    precision: TextPrecision = "float32"
    """Arithmetic of the encoder. float16 needs CUDA; bfloat16 needs CUDA or a CPU with bfloat16 units; int8 needs
    `backend: openvino`: about three times as fast, calibrated by embed-items on the items' own texts, less exact."""

    min_overlap: float = Field(default=0.9, ge=0.0, le=1.0)
    """With int8, how many of a text's 10 nearest neighbours under float32 must stay among the 10 nearest (mean share
    over texts not calibrated on); below it embed-items is refused."""

    on_truncate: Literal["warn", "error", "chunk_mean"] = "warn"
    """What to do with texts longer than max_length. warn: encode their beginning and count them; error: fail;
    chunk_mean: encode all of it in pieces of max_length, whose mean vector, weighted by their tokens, is the text's."""

    item_text: tuple[str, ...] = Field(default=(TITLE.name, TEXT.name), min_length=1)
    """Item columns that are joined to the text to encode; empty ones are left out."""

    user_text: tuple[str, ...] = Field(default=(TEXT.name,), min_length=1)
    """User columns that are joined to the text to encode; empty ones are left out."""

    item_blocks: dict[BlockName, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Item columns to encode apart, each to a vector column of its own beside the embedding, as in
    {title: [title], tags: [genres], prose: [text]}: long prose in one text with a title drowns it."""

    batch_tokens: Annotated[PositiveInt, Execution()] = 1024
    """Tokens in a batch, padding included. Small batches stay in a CPU's cache; a GPU likes 16384 and more."""

    @model_validator(mode="after")
    def _backend_has_precision(self) -> Self:
        if self.precision == "int8" and self.backend != "openvino":
            raise ValueError("precision int8 needs backend: openvino")
        if self.backend == "openvino" and self.precision not in ("float32", "int8"):
            raise ValueError(f"backend openvino has no precision {self.precision}: choose float32 or int8")
        return self

    @field_validator("item_blocks")
    @classmethod
    def _no_media(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name in MEDIA_BLOCKS:
            if name in value:
                raise ValueError(f"'{name}' is the name of what the {name} encoder makes")
        return value


class DocumentEncoderSettings(EncoderSettings):
    """The encoder as items see it: what concerns users only leaves their vectors as they are."""

    query_prompt: Annotated[str | None, Execution()] = None
    user_text: Annotated[tuple[str, ...], Execution()] = (TEXT.name,)


class QueryEncoderSettings(EncoderSettings):
    """The encoder as users see it: what concerns items only reaches them through the item embeddings."""

    document_prompt: Annotated[str | None, Execution()] = None
    min_overlap: Annotated[float, Execution()] = 0.9
    item_text: Annotated[tuple[str, ...], Execution()] = (TITLE.name, TEXT.name)
    item_blocks: Annotated[dict[str, tuple[str, ...]], Execution()] = Field(default_factory=dict)


class ImageEncoderSettings(Settings):
    """Which pretrained encoder turns pictures into vectors (columns `image` of items and users)."""

    model_name: str | None = Field(default=None, min_length=1)
    """A local folder, an installed model package or a name on the Hugging Face hub; null: pictures are not read."""

    precision: Precision = "float32"
    """Arithmetic of the encoder. float16 needs CUDA; bfloat16 needs CUDA or a CPU with bfloat16 units."""

    batch_size: Annotated[PositiveInt, Execution()] = 8
    """Pictures in a batch. Few stay in a CPU's cache; a GPU likes 64 and more."""


class AudioEncoderSettings(Settings):
    """Which pretrained encoder turns sounds into vectors (columns `audio` of items and users)."""

    model_name: str | None = Field(default=None, min_length=1)
    """A local folder, an installed model package or a name on the Hugging Face hub; null: sounds are not read."""

    precision: Precision = "float32"
    """Arithmetic of the encoder. float16 needs CUDA; bfloat16 needs CUDA or a CPU with bfloat16 units."""

    batch_size: Annotated[PositiveInt, Execution()] = 4
    """Windows of sound in a batch."""

    window_seconds: float = Field(default=10.0, ge=0.1)
    """Longest piece of a sound encoded at once; the vector of a longer one is the mean of its pieces."""


class MediaSettings(Settings):
    """Which files of pictures and sounds are read, and how many may fail."""

    max_bad_share: Annotated[float, Execution(), Field(ge=0.0, le=1.0)] = 0.05
    """A larger share of files that cannot be read, among those a column names, fails the stage; 1 allows any."""

    max_megabytes: PositiveFloat = 50.0
    """Largest file, in MB."""

    max_megapixels: PositiveFloat = 50.0
    """Largest picture, in million pixels: a small file can unpack to far more."""

    max_seconds: PositiveFloat = 600.0
    """Longest sound."""


class UsersSettings(Settings):
    """How a user's own text and history become one vector."""

    history: Literal["auto", "mean", "text", "none"] = "auto"
    """mean: recency-weighted mean of the item embeddings; text: titles of recent items are encoded with the
    user's text; none: the user's text alone; auto: mean where items and interactions are given, else none."""

    half_life_days: PositiveFloat = 90.0
    """Age in days at which an interaction counts half of one today."""

    half_life_events: PositiveFloat = 20.0
    """Number of later interactions after which one counts half; used where no times are known."""

    profile_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the user's own text in the vector of a user who has both a text and a history."""

    positive_from: float | None = None
    """Rating from which an interaction counts in the history; null: every one. Without a rating it counts."""

    max_history: PositiveInt = 200
    """Only this many newest interactions of a user are looked at."""

    history_intro: str = "Recently liked: "
    """Words before the titles, with history: text."""

    history_separator: str = Field(default="; ", min_length=1)
    """What stands between two titles, with history: text."""
