"""The model bpr."""

from recpipe.models.bpr.model import MODEL

__all__ = ["MODEL"]
