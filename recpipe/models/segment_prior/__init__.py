"""The model segment_prior."""

from recpipe.models.segment_prior.model import MODEL

__all__ = ["MODEL"]
