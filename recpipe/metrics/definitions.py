"""What each figure means, in a line: printed beside the figures and kept in their manifest.

Formulas and sources are in `ranking`, `beyond_accuracy` and `rating`.
"""

from __future__ import annotations

DEFINITIONS: dict[str, str] = {
    "ndcg": "discounted gain of the held-out items in the first k, 1/log2(rank + 1) each, over that of the best order "
    "of min(k, held-out) items; mean over users with a held-out item",
    "recall": "held-out items in the first k, over all held-out items of the user; mean over users",
    "hit_rate": "share of users with a held-out item in the first k",
    "mrr": "1 / rank of the first held-out item, 0 when it is not in the first k; mean over users",
    "map": "precision at the rank of each held-out item in the first k, summed, over all held-out items of the user; "
    "mean over users",
    "coverage": "share of the catalogue that stands in the first k of some user",
    "novelty": "-log2 of the share of training users who took a listed item (at least one), in bits; mean over the "
    "first k, then users",
    "popularity_percentile": "share of the catalogue less popular than a listed item, equals counted half; mean over "
    "the first k, then users; 0.5 for random lists",
    "popularity_bias": "training users of a listed item, over those of the item of a training interaction; ratio of "
    "means; 1: as popular as what people take",
    "diversity": "1 - cosine of the embeddings of two listed items; mean over all pairs in the first k, then users",
    "rmse": "root of the mean squared error over all held-out ratings",
    "mae": "mean absolute error over all held-out ratings",
    "interval_coverage": "share of the held-out ratings within the intervals of their predictions, made to hold 0.9",
}
