"""Top-N on one thread: million (user, item) pairs a CPU-second, beside torch's own mm + topk.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/bench_topn.py
"""

from __future__ import annotations

import time

import numpy as np
import torch

from recpipe.scoring.topn import Excluded, ItemIndex

N_USERS, N_ITEMS, N_SEEN, BLOCK_USERS = 2048, 50_000, 50, 256


def torch_blocks(users: torch.Tensor, items: torch.Tensor, seen: torch.Tensor, n: int) -> None:
    """The usual way: all scores of a block, seen items struck out, topk."""
    for start in range(0, len(users), BLOCK_USERS):
        scores = users[start : start + BLOCK_USERS] @ items.T
        scores.scatter_(1, seen[start : start + BLOCK_USERS], float("-inf"))
        torch.topk(scores, n)


def main() -> None:
    """Print a line for each dimension and list length."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    seen = rng.integers(0, N_ITEMS, (N_USERS, N_SEEN))
    excluded = Excluded(offsets=np.arange(N_USERS + 1) * N_SEEN, item_rows=seen.reshape(-1).astype(np.int32))
    for dim in (64, 384):
        users = rng.standard_normal((N_USERS, dim), dtype=np.float32)
        items = rng.standard_normal((N_ITEMS, dim), dtype=np.float32)
        index = ItemIndex(items, rng.permutation(N_ITEMS).astype(np.int32))
        for n in (20, 100):
            seconds: dict[str, list[float]] = {"recpipe": [], "torch": []}
            for _ in range(5):  # in turn, so that a busy machine hits both
                start = time.process_time()
                index.top_n(users, n=n, excluded=excluded, block_users=BLOCK_USERS)
                middle = time.process_time()
                torch_blocks(torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(seen), n)
                seconds["recpipe"].append(middle - start)
                seconds["torch"].append(time.process_time() - middle)
            speed = {name: N_USERS * N_ITEMS / 1e6 / float(np.median(taken)) for name, taken in seconds.items()}
            print(f"dim {dim:4} n {n:4}: recpipe {speed['recpipe']:5.0f}, torch mm + topk {speed['torch']:5.0f}")


if __name__ == "__main__":
    main()
