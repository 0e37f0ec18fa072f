"""embed-users: every user's text and history as a vector z."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from recpipe.config import Execution, Settings
from recpipe.encoders.settings import (
    AudioEncoderSettings,
    ImageEncoderSettings,
    MediaSettings,
    QueryEncoderSettings,
    UsersSettings,
)
from recpipe.errors import ConfigError, DataError
from recpipe.ingest.settings import DataSettings
from recpipe.schemas import (
    EMBEDDING,
    HISTORY_EMBEDDING,
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_ID,
    ITEMS,
    PROFILE_EMBEDDING,
    TITLE,
    USER_EMBEDDINGS,
    USER_ID,
    USER_MEDIA_ERRORS,
    USERS,
)
from recpipe.stages.base import Given, Input, Output, Stage
from recpipe.stages.pipeline.media_sections import reads_media
from recpipe.stages.settings import CacheSettings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.encoding import CachedEncoder
    from recpipe.stages.pipeline.events import Events
    from recpipe.stages.pipeline.media_encoding import MediaBlocks
    from recpipe.store.fingerprint import FileDigests
    from recpipe.store.manifest import Manifest


class EmbedUsersSettings(Settings):
    """What decides the user embeddings."""

    encoder: QueryEncoderSettings
    image_encoder: ImageEncoderSettings
    audio_encoder: AudioEncoderSettings
    media: MediaSettings
    users: UsersSettings
    as_of: datetime | None
    # only the media root is read, which the tables' fingerprints already hold
    data: Annotated[DataSettings, Execution()]
    # where a calibrated model may lie
    workdir: Annotated[Path, Execution()]
    cache: Annotated[CacheSettings, Execution()]


def history_mode(users: UsersSettings, given: Given) -> str:
    """Return mean, text or none; auto is mean where items and interactions are given."""
    if users.history != "auto":
        return users.history
    return "mean" if {ITEMS.name, INTERACTIONS.name} <= given else "none"


def _with_history(settings: EmbedUsersSettings, given: Given) -> bool:
    return history_mode(settings.users, given) != "none"


def _with_titles(settings: EmbedUsersSettings, given: Given) -> bool:
    return history_mode(settings.users, given) == "text"


def _with_mean(settings: EmbedUsersSettings, given: Given) -> bool:
    return history_mode(settings.users, given) == "mean"


@dataclass
class _EmbedUsers:
    """Encodes a range of the users table."""

    users: Path
    columns: list[str]
    settings: EmbedUsersSettings
    mode: str
    encoder: CachedEncoder
    items: Path | None
    interactions: Path | None
    item_embeddings: Path | None
    media: MediaBlocks

    def setup(self) -> None:
        from recpipe.stages.pipeline.events import UserEvents, column_array
        from recpipe.store.arrow import vector_matrix
        from recpipe.store.artifacts import ArtifactReader

        self._users = ArtifactReader(self.users, USERS)
        if self.mode == "none":
            return
        assert self.interactions is not None
        if self.mode == "mean":
            assert self.item_embeddings is not None
            table = ArtifactReader(self.item_embeddings, ITEM_EMBEDDINGS).table([ITEM_ID.name, EMBEDDING.name])
            self._item_vectors, self._item_present = vector_matrix(table.column(EMBEDDING.name))
        else:
            assert self.items is not None
            table = ArtifactReader(self.items, ITEMS).table([ITEM_ID.name, TITLE.name])
            self._titles: list[str | None] = table.column(TITLE.name).to_pylist()
        self._events = UserEvents(ArtifactReader(self.interactions, INTERACTIONS), column_array(table, ITEM_ID.name))
        self._as_of_us = self._events.as_of_us(self.settings.as_of) if self._events.has_timestamps else None

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:
        import numpy as np
        import pyarrow as pa

        from recpipe.encoders.fields import join_fields
        from recpipe.encoders.histories import combine
        from recpipe.stages.pipeline.encoding import text_values
        from recpipe.stages.pipeline.events import column_array
        from recpipe.store.arrow import vector_array

        wanted = {*self.columns, *self.media.columns} - {USER_ID.name}
        table = self._users.row_range(start, stop, [USER_ID.name, *sorted(wanted)])
        ids = column_array(table, USER_ID.name)
        texts: list[str | None] = [None] * len(ids)
        if self.columns:
            texts = join_fields(text_values(table, self.columns))
        counts: dict[str, Any] = {}
        if self.mode == "text":
            texts, counts["shortened"] = self._with_titles(texts, self._events.of(ids))
        profile, profile_present = self.encoder.vectors(texts, ids.to_pylist())
        history = np.zeros_like(profile)
        history_present = np.zeros(len(ids), bool)
        if self.mode == "mean":
            history, history_present = self._mean(self._events.of(ids), profile.shape[1])
        z, present = combine(
            profile,
            profile_present,
            history=history,
            history_present=history_present,
            profile_weight=self.settings.users.profile_weight,
        )
        counts |= {**self.encoder.take_counts(), "with_history": int(history_present.sum())}
        counts["without_embedding"] = int((~present).sum())
        of_files, sums = self.media.arrays(table)
        columns = {
            USER_ID.name: ids,
            PROFILE_EMBEDDING.name: vector_array(profile, profile_present),
            HISTORY_EMBEDDING.name: vector_array(history, history_present),
            EMBEDDING.name: vector_array(z, present),
            **of_files,
        }
        return pa.table(columns), counts | sums

    def _weights(self, events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return offsets, kept rows and weights of the newest events that count of each user."""
        from recpipe.encoders.histories import history_weights, newest, positive

        offsets, counting = positive(events.offsets, events.ratings, self.settings.users.positive_from)
        offsets, kept = newest(offsets, self.settings.users.max_history)
        kept = counting[kept]
        times = events.timestamps_us[kept] if events.timestamps_us is not None else None
        weights = history_weights(offsets, timestamps=times, as_of=self._as_of_us, settings=self.settings.users)
        return offsets, kept, weights

    def _mean(self, events: Events, dim: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        from recpipe.encoders.histories import mean_of_history

        if self._item_vectors.shape[1] != dim:
            raise DataError(
                f"item embeddings have {self._item_vectors.shape[1]} dimensions, the encoder of the users {dim}",
                where=str(self.item_embeddings),
                next_step="run: recpipe embed-items with the same encoder",
            )
        offsets, kept, weights = self._weights(events)
        return mean_of_history(
            self._item_vectors, self._item_present, offsets=offsets, item_rows=events.item_rows[kept], weights=weights
        )

    def _with_titles(self, texts: list[str | None], events: Events) -> tuple[list[str | None], int]:
        from recpipe.encoders.history_texts import history_texts

        offsets, kept, weights = self._weights(events)
        rows = events.item_rows[kept]
        titles = [
            [self._titles[rows[i]] for i in range(stop - 1, start - 1, -1) if rows[i] >= 0 and weights[i] > 0]
            for start, stop in itertools.pairwise(offsets.tolist())
        ]
        encoder = self.encoder.encoder
        written = history_texts(
            texts,
            titles,
            budget=encoder.content_budget,
            count_tokens=encoder.count_tokens,
            settings=self.settings.users,
        )
        return written.texts, written.shortened


def _run(settings: EmbedUsersSettings, context: StageContext) -> None:
    from recpipe.stages.pipeline import calibration, encoding, media_changes, media_encoding

    folder, found = encoding.encoder_spec(settings.encoder, "query", context.digests)
    encoding.warn_of_missing_prompts(folder, settings.encoder)
    chosen = calibration.for_users(settings.encoder, found, context.cache)
    mode = history_mode(settings.users, context.given)
    users = context.read(USERS)
    columns = [name for name in settings.encoder.user_text if name in users.columns]
    files = media_encoding.media_files(settings, context, users)
    if mode == "none" and not files:
        columns = encoding.text_columns(users, settings.encoder.user_text, "encoder.user_text")
    if mode == "text" and not context.read(ITEMS).has(TITLE):
        raise ConfigError(
            "users.history: text needs titles, and the items have none", next_step="set users.history: mean"
        )
    if mode == "mean":
        documents = encoding.identity(settings.encoder, "document", context.digests, context.cache)
        documents = media_encoding.with_media(documents, settings, context.digests)
        encoding.require_same_encoder(context.read(ITEM_EMBEDDINGS), documents, calibration=chosen.spec.calibration)
    media = media_encoding.MediaBlocks()
    if reads_media(settings, context.given):
        media = media_encoding.encode_files(files, context, users, USER_MEDIA_ERRORS, unit="users")
    task = _EmbedUsers(
        users.path,
        columns,
        settings,
        mode,
        encoding.CachedEncoder(
            folder, settings.encoder, "query", context.device(), context.cache, chosen.spec.key, chosen.folder
        ),
        context.path(ITEMS) if context.has(ITEMS) else None,
        context.path(INTERACTIONS) if context.has(INTERACTIONS) else None,
        context.path(ITEM_EMBEDDINGS) if context.has(ITEM_EMBEDDINGS) else None,
        media,
    )
    counts = context.map_rows(
        USER_EMBEDDINGS,
        task,
        n_rows=users.rows,
        shard_rows=encoding.SHARD_ROWS,
        unit="users",
        encoder=chosen.spec.identity,
        history=mode,
        **media.manifest,
    )
    encoding.report_counts(counts, "users")
    media_changes.report(counts, media.seen)
    if counts.get("without_embedding"):
        context.log.info("%d users have neither text nor history: no vector", counts["without_embedding"])


def _identity(settings: EmbedUsersSettings, digests: FileDigests) -> str:
    from recpipe.stages.pipeline.encoding import identity
    from recpipe.stages.pipeline.media_encoding import with_media

    return with_media(
        identity(settings.encoder, "query", digests, settings.cache.folder(settings.workdir)), settings, digests
    )


def _changed_files(settings: EmbedUsersSettings, inputs: Mapping[str, Path], made: Manifest) -> str:
    from recpipe.stages.pipeline import media_changes

    return media_changes.since(made, settings, settings.cache.folder(settings.workdir), inputs[USERS.name], USERS)


STAGE = Stage(
    name="embed_users",
    summary="Encode every user's text and history to a vector.",
    description="Encode the text users wrote (`encoder.user_text`) and summarise what they took (`users.history`): "
    "the recency-weighted mean of their items' vectors, or the titles as text. "
    "The user's vector is the weighted mean of the parts that exist; users with neither have none and are counted. "
    "Pictures and sounds of users (`image_encoder`, `audio_encoder`) become vector columns of their own.",
    example="recpipe embed-users --users users.csv --interactions interactions.csv --items items.csv",
    version=1,
    settings=EmbedUsersSettings,
    reads=(
        Input(USERS),
        Input(INTERACTIONS, when=_with_history),
        Input(ITEMS, when=_with_titles),
        Input(ITEM_EMBEDDINGS, when=_with_mean),
    ),
    writes=(Output(USER_EMBEDDINGS), Output(USER_MEDIA_ERRORS, when=reads_media)),
    run=_run,
    identity=_identity,
    changed_files=_changed_files,
)
