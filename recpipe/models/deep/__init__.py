"""The model deep."""

from recpipe.models.deep.model import MODEL

__all__ = ["MODEL"]
