"""The model ease."""

from recpipe.models.ease.model import MODEL

__all__ = ["MODEL"]
