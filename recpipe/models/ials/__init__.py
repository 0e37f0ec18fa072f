"""The model ials."""

from recpipe.models.ials.model import MODEL

__all__ = ["MODEL"]
