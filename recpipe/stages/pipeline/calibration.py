"""The calibrated int8 model of an encoder: made once by embed-items, used by every later night.

It lies in `<cache>/.calibrated/<key>/`. The texts it was calibrated on decide its vectors, so it is made
once and its digest enters the encoder key: a model made anew has another key, and vectors do not mix.
Items and users share one, whatever their prompts: their vectors meet.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recpipe import logs
from recpipe.encoders import calibrated
from recpipe.encoders.calibrated import Calibration
from recpipe.encoders.fields import is_blank, join_fields
from recpipe.encoders.folder import EncoderFolder
from recpipe.encoders.settings import EncoderSettings
from recpipe.encoders.spec import EncoderSpec
from recpipe.errors import MissingInputError, UnavailableError
from recpipe.store.cache import content_keys
from recpipe.store.cache_folder import CALIBRATED

if TYPE_CHECKING:
    from recpipe.stages.pipeline.context import StageContext
    from recpipe.store.artifacts import ArtifactReader

_ROWS_READ = 16384
_TEMPORARY = ".tmp-"
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Calibrated:
    """What decides the vectors, and where the model lies.

    Attributes:
        spec: With the digest of the calibrated model, where there is one.
        folder: The model; None where precision is not int8.
        manifest: Entries for the artifact's manifest.
    """

    spec: EncoderSpec
    folder: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict)


def stored(cache: Path, spec: EncoderSpec) -> Path:
    """Return where the calibrated model of an encoder lies, or would."""
    return cache / CALIBRATED / replace(spec, prompt="", calibration="").key


def digest_of(cache: Path, spec: EncoderSpec) -> str | None:
    """Return the digest of the stored model without reading it; None where there is none or precision is not int8."""
    if spec.precision != "int8":
        return None
    found = calibrated.noted(stored(cache, spec))
    return None if found is None else found.digest


def for_items(
    settings: EncoderSettings,
    folder: EncoderFolder,
    spec: EncoderSpec,
    *,
    context: StageContext,
    items: ArtifactReader,
    texts: Mapping[str, list[str]],
) -> Calibrated:
    """Return the calibrated model, made from the items' texts where there is none yet.

    Args:
        texts: By vector column, the item columns whose joined text it encodes.

    Raises:
        GateError: It changes too much, or the texts are too few to tell.
        UnavailableError: OpenVINO or nncf is not here.
    """
    if settings.precision != "int8":
        return Calibrated(spec)
    place = stored(context.cache, spec)
    found = calibrated.read(place)
    if found is None:
        from recpipe.encoders.quantising import CALIBRATION_TEXTS, HELD_OUT_TEXTS

        sample = _sample(items, texts.values(), CALIBRATION_TEXTS + HELD_OUT_TEXTS)
        found = _calibrate(settings, folder, sample=sample, place=place)
        context.forget_parts()  # a killed run's parts come from another calibration
    calibrated.require_overlap(found, settings.min_overlap, place)
    return _calibrated(spec, place, found)


def for_users(settings: EncoderSettings, spec: EncoderSpec, cache: Path) -> Calibrated:
    """Return the calibrated model that made the items' vectors.

    Raises:
        MissingInputError: There is none.
    """
    if settings.precision != "int8":
        return Calibrated(spec)
    place = stored(cache, spec)
    found = calibrated.read(place)
    if found is None:
        raise MissingInputError(
            "the calibrated int8 model is missing", where=str(place), next_step="run: recpipe embed-items --force"
        )
    return _calibrated(spec, place, found)


def _calibrated(spec: EncoderSpec, place: Path, found: Calibration) -> Calibrated:
    return Calibrated(replace(spec, calibration=found.digest), place, {"calibration": found.manifest})


def _calibrate(settings: EncoderSettings, folder: EncoderFolder, *, sample: list[str], place: Path) -> Calibration:
    from recpipe.encoders import quantising

    logs.get().info("calibrating int8 on the items' texts", extra=logs.fields(texts=len(sample)))
    place.parent.mkdir(parents=True, exist_ok=True)
    for leftover in place.parent.glob(f"{_TEMPORARY}*"):
        if time.time() - leftover.stat().st_mtime > _DAY_SECONDS:  # its maker was killed
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place.parent))
    temporary.chmod(place.parent.stat().st_mode)  # others who share the cache read it too
    try:
        quantising.calibrate(folder, settings, role="document", texts=sample, destination=temporary)
        if calibrated.noted(place) is None:
            shutil.rmtree(place, ignore_errors=True)  # a model of which nothing is known made no vector
        with suppress(OSError):  # somebody else was faster: there is one model, theirs
            temporary.rename(place)
        stored_model = calibrated.read(place)
        if stored_model is None:
            raise UnavailableError("the int8 model cannot be stored", where=str(place), next_step="look at the folder")
        return stored_model
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sample(items: ArtifactReader, columns: Iterable[list[str]], count: int) -> list[str]:
    """Return so many distinct texts, those with the smallest content keys, in the order of the keys."""
    from recpipe.stages.pipeline.encoding import text_values

    kept: dict[tuple[int, ...], str] = {}
    for start in range(0, items.rows, _ROWS_READ):
        for names in filter(None, columns):
            table = items.row_range(start, min(start + _ROWS_READ, items.rows), names)
            texts = [text for text in join_fields(text_values(table, names)) if text is not None and not is_blank(text)]
            kept.update(zip(map(tuple, content_keys(texts).tolist()), texts, strict=True))
            kept = dict(sorted(kept.items())[:count])
    return list(kept.values())
