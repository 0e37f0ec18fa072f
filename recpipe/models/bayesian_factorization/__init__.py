"""The model bayesian_factorization."""

from recpipe.models.bayesian_factorization.model import MODEL

__all__ = ["MODEL"]
