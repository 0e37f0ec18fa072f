"""recpipe: an offline recommender pipeline on pretrained transformers."""

__version__ = "0.1.0"
