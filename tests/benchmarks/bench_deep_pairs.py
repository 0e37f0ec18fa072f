"""Scores of `deep` for all pairs on one thread: million pairs a CPU-second, beside torch's broadcast.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/bench_deep_pairs.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from recpipe.models.deep.network import all_pairs

N_USERS, N_ITEMS, HIDDEN_DIM = 256, 20_000, 64


def broadcast(users: torch.Tensor, items: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The formula as it is written, eight users at a time."""
    return torch.cat([torch.relu(users[start : start + 8, None] + items) @ output for start in range(0, 32, 8)])


def rate(run: Callable[[], object], n_pairs: int) -> float:
    """Million pairs a CPU-second, the median of five."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return n_pairs / float(np.median(seconds)) / 1e6


def main() -> None:
    """Print both rates."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, HIDDEN_DIM), dtype=np.float32) for n in (N_USERS, N_ITEMS))
    output = rng.standard_normal(HIDDEN_DIM, dtype=np.float32)
    tensors = [torch.from_numpy(array) for array in (users, items, output)]
    print(f"all_pairs {rate(lambda: all_pairs(users, items, output), N_USERS * N_ITEMS):.0f}")
    print(f"broadcast {rate(lambda: broadcast(*tensors), 32 * N_ITEMS):.1f}")


if __name__ == "__main__":
    main()
