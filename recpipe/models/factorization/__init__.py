"""The model factorization."""

from recpipe.models.factorization.model import MODEL

__all__ = ["MODEL"]
