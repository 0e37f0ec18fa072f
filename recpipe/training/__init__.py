"""Fitting models: mini-batches, negatives, validation, early stopping, checkpoints."""
