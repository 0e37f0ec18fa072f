"""What settings and a model folder together say, and the key that keeps vectors apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.settings import EncoderSettings, Pooling, Role, TextPrecision
from recpipe.errors import ConfigError

# The prompt of items has had several names.
_PROMPT_NAMES: dict[str, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}


CODE_VERSION = 1
"""Raised when a change of this package changes vectors, so that cached ones are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Everything that decides the vector of a text.

    Attributes:
        weights: Digest of the folder's weights, tokeniser and module files.
        max_length: Tokens, special ones included.
        normalise: Vectors are scaled to unit length, whatever the folder's modules do.
        code: `CODE_VERSION`.
        chunked: Long texts are encoded in pieces instead of their beginning.
        calibration: With precision int8, digest of the calibrated model.
    """

    weights: str
    pooling: Pooling
    normalise: bool
    prompt: str
    max_length: int
    precision: TextPrecision
    code: int = CODE_VERSION
    chunked: bool = False
    calibration: str = ""

    @property
    def identity(self) -> dict[str, str | int | bool]:
        """The fields as plain JSON values, for a manifest."""
        fields = asdict(self)
        if not self.chunked:  # keys made before there was a choice stay what they were
            del fields["chunked"]
        if not self.calibration:
            del fields["calibration"]
        return fields

    @property
    def key(self) -> str:
        """20 hexadecimal digits; vectors of two keys never meet."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def spec(folder: EncoderFolder, settings: EncoderSettings, *, role: Role, weights_digest: str) -> EncoderSpec:
    """Return what decides the vectors of one side.

    Args:
        role: "query" for users' texts, "document" for items'. Both sides have one key where their prompts are equal.
        weights_digest: Digest of `folder.digest_files`.

    Raises:
        ConfigError: Pooling or length must be stated, or the stated length is beyond the model's.
    """
    if not weights_digest:
        raise ValueError("weights_digest is empty")
    return EncoderSpec(
        weights=weights_digest,
        pooling=choose_pooling(folder, settings),
        normalise=settings.normalise == "always" or folder.normalise,
        prompt=choose_prompt(folder, settings, role),
        max_length=choose_max_length(folder, settings),
        precision=settings.precision,
        chunked=settings.on_truncate == "chunk_mean",
    )


def choose_pooling(folder: EncoderFolder, settings: EncoderSettings) -> Pooling:
    """Return the stated pooling, else the folder's; ConfigError when there is neither."""
    if settings.pooling != "auto":
        return settings.pooling
    if folder.pooling is not None:
        return folder.pooling
    if folder.unsupported_pooling is not None:
        reason = f"'{folder.name}' asks for the pooling '{folder.unsupported_pooling}', which recpipe does not have"
    else:
        reason = f"'{folder.name}' does not say how its token vectors are pooled (no sentence-transformers files)"
    raise ConfigError(
        reason, where=str(folder.path), next_step="state it: --set encoder.pooling=mean (or cls, last_token, ...)"
    )


def choose_max_length(folder: EncoderFolder, settings: EncoderSettings) -> int:
    """Return the longest text in tokens; ConfigError when it is unknown or too long for the model."""
    if settings.max_length == "auto":
        if folder.max_length is None:
            raise ConfigError(
                f"'{folder.name}' does not say how long its texts may be",
                where=str(folder.path),
                next_step="state it in tokens, e.g. --set encoder.max_length=512",
            )
        return folder.max_length
    if folder.max_positions is not None and settings.max_length > folder.max_positions:
        raise ConfigError(
            f"encoder.max_length is {settings.max_length}, but '{folder.name}' has {folder.max_positions} positions",
            where=str(folder.path),
            next_step=f"--set encoder.max_length={folder.max_positions} or less",
        )
    return settings.max_length


def choose_prompt(folder: EncoderFolder, settings: EncoderSettings, role: Role) -> str:
    """Return the prompt of one side: the stated one, else the folder's for that side, else its default, else ""."""
    stated = settings.query_prompt if role == "query" else settings.document_prompt
    names = (*_PROMPT_NAMES[role], folder.default_prompt_name or "")
    prompt = (
        stated if stated is not None else next((folder.prompts[name] for name in names if name in folder.prompts), "")
    )
    return prompt.lower() if folder.lower_case else prompt
