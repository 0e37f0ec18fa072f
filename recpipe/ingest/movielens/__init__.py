"""GroupLens' MovieLens data sets, in every layout they came in."""
