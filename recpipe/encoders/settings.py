"""Settings of the encoders and of how users become vectors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from recpipe.config import Execution, Settings
from recpipe.schemas import TEXT, TITLE

Pooling = Literal["mean", "cls", "pooler", "last_token"]
Precision = Literal["float32", "float16", "bfloat16"]
Role = Literal["query", "document"]


class EncoderSettings(Settings):
    """Which pretrained encoder turns texts into vectors, and how."""

    model_name: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", min_length=1)
    """A local folder, an installed model package or a name on the Hugging Face hub, tried in that order."""

    pooling: Literal["auto"] | Pooling = "auto"
    """How token vectors become one vector; auto reads it from the model folder's sentence-transformers files."""

    normalise: Literal["always", "auto"] = "always"
    """always: vectors have unit length; auto: only where the model folder asks for it."""

    max_length: Literal["auto"] | Annotated[int, Field(ge=8)] = "auto"
    """Longest text in tokens, special tokens included; auto is the model's own limit."""

    query_prompt: str | None = None
    """Text put before every user's text; null is the model folder's query prompt, "" is none."""

    document_prompt: str | None = None
    """Text put before every item's text; null is the model folder's document prompt, "" is none."""

    precision: Precision = "float32"
    """Arithmetic of the encoder. float16 needs CUDA; bfloat16 needs CUDA or a CPU with bfloat16 units."""

    on_truncate: Literal["warn", "error"] = "warn"
    """What to do with texts longer than max_length: encode their beginning and count them, or fail."""

    item_text: tuple[str, ...] = Field(default=(TITLE.name, TEXT.name), min_length=1)
    """Item columns that are joined to the text to encode; empty ones are left out."""

    user_text: tuple[str, ...] = Field(default=(TEXT.name,), min_length=1)
    """User columns that are joined to the text to encode; empty ones are left out."""

    batch_tokens: Annotated[PositiveInt, Execution()] = 1024
    """Tokens in a batch, padding included. Small batches stay in a CPU's cache; a GPU likes 16384 and more."""


class DocumentEncoderSettings(EncoderSettings):
    """The encoder as items see it: what concerns users only leaves their vectors as they are."""

    query_prompt: Annotated[str | None, Execution()] = None
    user_text: Annotated[tuple[str, ...], Execution()] = (TEXT.name,)


class QueryEncoderSettings(EncoderSettings):
    """The encoder as users see it: what concerns items only reaches them through the item embeddings."""

    document_prompt: Annotated[str | None, Execution()] = None
    item_text: Annotated[tuple[str, ...], Execution()] = (TITLE.name, TEXT.name)


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
