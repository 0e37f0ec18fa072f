"""Models: one file each, found by name; the contract is in `base`, the lookup in `registry`."""
