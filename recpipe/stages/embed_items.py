"""embed-items: every item's text as a vector v, and its blocks of text, picture and sound as vectors of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from recpipe.config import Execution, Settings
from recpipe.encoders.settings import (
    AudioEncoderSettings,
    DocumentEncoderSettings,
    ImageEncoderSettings,
    MediaSettings,
)
from recpipe.ingest.settings import DataSettings
from recpipe.schemas import BLOCK_PREFIX, EMBEDDING, ITEM_EMBEDDINGS, ITEM_ID, ITEM_MEDIA_ERRORS, ITEMS
from recpipe.stages.base import Input, Output, Stage
from recpipe.stages.pipeline.media_sections import reads_media
from recpipe.stages.settings import CacheSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from recpipe.stages.pipeline.context import StageContext
    from recpipe.stages.pipeline.encoding import CachedEncoder
    from recpipe.stages.pipeline.media_encoding import MediaBlocks
    from recpipe.store.fingerprint import FileDigests
    from recpipe.store.manifest import Manifest


class EmbedItemsSettings(Settings):
    """What decides the item embeddings."""

    encoder: DocumentEncoderSettings
    image_encoder: ImageEncoderSettings
    audio_encoder: AudioEncoderSettings
    media: MediaSettings
    # only the media root is read, which the tables' fingerprints already hold
    data: Annotated[DataSettings, Execution()]
    # where a calibrated model may lie
    workdir: Annotated[Path, Execution()]
    cache: Annotated[CacheSettings, Execution()]


@dataclass
class _EmbedItems:
    """Encodes a range of the items table.

    Attributes:
        texts: By vector column, the item columns whose joined text it encodes.
    """

    items: Path
    texts: dict[str, list[str]]
    encoder: CachedEncoder
    media: MediaBlocks

    def setup(self) -> None:
        from recpipe.store.artifacts import ArtifactReader

        self._reader = ArtifactReader(self.items, ITEMS)

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:
        import pyarrow as pa

        from recpipe.encoders.fields import join_fields
        from recpipe.stages.pipeline.encoding import text_values
        from recpipe.store.arrow import vector_array

        wanted = {name for columns in self.texts.values() for name in columns} - {ITEM_ID.name}
        wanted |= set(self.media.columns)
        table = self._reader.row_range(start, stop, [ITEM_ID.name, *sorted(wanted)])
        ids = table.column(ITEM_ID.name)
        texts = {
            name: join_fields(text_values(table, columns)) if columns else [None] * len(ids)
            for name, columns in self.texts.items()
        }
        vectors = self.encoder.vectors_of_columns(texts, ids.to_pylist())
        arrays = {name: vector_array(matrix, present) for name, (matrix, present) in vectors.items()}
        of_files, sums = self.media.arrays(table)
        return pa.table({ITEM_ID.name: ids, **arrays, **of_files}), self.encoder.take_counts() | sums


def _run(settings: EmbedItemsSettings, context: StageContext) -> None:
    from recpipe.stages.pipeline import calibration, encoding, media_changes, media_encoding

    folder, found = encoding.encoder_spec(settings.encoder, "document", context.digests)
    encoding.warn_of_missing_prompts(folder, settings.encoder)
    items = context.read(ITEMS)
    files = media_encoding.media_files(settings, context, items)
    texts = {EMBEDDING.name: [name for name in settings.encoder.item_text if name in items.columns]}
    if not files:  # items that are only pictures or sounds need no text
        texts[EMBEDDING.name] = encoding.text_columns(items, settings.encoder.item_text, "encoder.item_text")
    for name, columns in settings.encoder.item_blocks.items():
        key = f"encoder.item_blocks.{name}"
        texts[f"{BLOCK_PREFIX}{name}"] = encoding.text_columns(items, columns, key, every=True)
    chosen = calibration.for_items(settings.encoder, folder, found, context=context, items=items, texts=texts)
    encoder = encoding.CachedEncoder(
        folder, settings.encoder, "document", context.device(), context.cache, chosen.spec.key, chosen.folder
    )
    media = media_encoding.MediaBlocks()
    if reads_media(settings, context.given):
        media = media_encoding.encode_files(files, context, items, ITEM_MEDIA_ERRORS, unit="items")
    counts = context.map_rows(
        ITEM_EMBEDDINGS,
        _EmbedItems(items.path, texts, encoder, media),
        n_rows=items.rows,
        shard_rows=encoding.SHARD_ROWS,
        unit="items",
        encoder=chosen.spec.identity,
        **chosen.manifest,
        **media.manifest,
    )
    encoding.report_counts(counts, "items")
    media_changes.report(counts, media.seen)
    for name in settings.encoder.item_blocks:
        encoding.report_counts(counts, f"items, {name}", column=f"{BLOCK_PREFIX}{name}")


def _identity(settings: EmbedItemsSettings, digests: FileDigests) -> str:
    from recpipe.stages.pipeline.encoding import identity
    from recpipe.stages.pipeline.media_encoding import with_media

    return with_media(
        identity(settings.encoder, "document", digests, settings.cache.folder(settings.workdir)), settings, digests
    )


def _changed_files(settings: EmbedItemsSettings, inputs: Mapping[str, Path], made: Manifest) -> str:
    from recpipe.stages.pipeline import media_changes

    return media_changes.since(made, settings, settings.cache.folder(settings.workdir), inputs[ITEMS.name], ITEMS)


STAGE = Stage(
    name="embed_items",
    summary="Encode every item's text, picture and sound to vectors.",
    description="Encode the text columns of every item (`encoder.item_text`) with a pretrained transformer. "
    "Items without text get no vector and are counted; equal texts and texts of earlier nights are not encoded again. "
    "Blocks of columns (`encoder.item_blocks`) are encoded apart, each to a vector column of its own; "
    "so are pictures and sounds (`image_encoder`, `audio_encoder`), of which those that fail are listed. A file that "
    "came, was mended or was replaced under its old name makes the embeddings stale, as a changed table does.",
    example="recpipe embed-items --items items.csv --output work/item_embeddings.parquet",
    version=1,
    settings=EmbedItemsSettings,
    reads=(Input(ITEMS),),
    writes=(Output(ITEM_EMBEDDINGS), Output(ITEM_MEDIA_ERRORS, when=reads_media)),
    run=_run,
    identity=_identity,
    changed_files=_changed_files,
)
