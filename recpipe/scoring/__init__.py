"""Scoring: from vectors or scores to the best items of every user."""
