"""A row task for worker processes, which import it by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recpipe.errors import DataError
from recpipe.store.arrow import vector_array


@dataclass
class Numbers:
    """Item `i7` gets the vector [7, 49]; remembers what it computed in a file."""

    log: Path
    fails_at: int = -1

    def setup(self) -> None:
        self._ready = True

    def compute(self, start: int, stop: int) -> tuple[pa.Table, dict[str, Any]]:
        assert self._ready
        if start <= self.fails_at < stop:
            raise DataError("no number", where=f"i{self.fails_at}")
        with self.log.open("a") as file:
            file.write(f"{start}-{stop}\n")
        rows = np.arange(start, stop, dtype=np.float32)
        ids = pa.array([f"i{row}" for row in range(start, stop)], pa.string())
        vectors = vector_array(np.column_stack([rows, rows**2]))
        return pa.table({"item_id": ids, "embedding": vectors}), {"computed": stop - start}
