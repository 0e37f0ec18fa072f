"""The model hybrid."""

from recpipe.models.hybrid.model import MODEL

__all__ = ["MODEL"]
