"""The model two_tower."""

from recpipe.models.two_tower.model import MODEL

__all__ = ["MODEL"]
