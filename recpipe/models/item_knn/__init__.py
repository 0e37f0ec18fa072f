"""The model item_knn."""

from recpipe.models.item_knn.model import MODEL

__all__ = ["MODEL"]
