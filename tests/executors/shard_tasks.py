"""Tasks for worker processes, which import them by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recpipe import logs
from recpipe.errors import DataError, UnavailableError
from recpipe.executors.base import Shard


@dataclass
class Squares:
    """Writes the sum of squares of its rows; fails at the shard that `failing` names."""

    failing: int = -1
    failure: str = "data"
    setup_fails: bool = False
    log: Path | None = None

    def setup(self) -> None:
        if self.setup_fails:
            raise UnavailableError("no such device", where="here", next_step="buy one")
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")
        self._ready = True

    def __call__(self, shard: Shard) -> dict[str, Any]:
        assert self._ready
        if shard.index == self.failing:
            if self.failure == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.failure == "slow":
                time.sleep(60)
            if self.failure == "data":
                raise DataError("bad row", where="line 3", next_step="mend it")
            raise ZeroDivisionError("inner")
        logs.get().warning("shard %d", shard.index)
        total = sum(row * row for row in range(shard.start, shard.stop))
        shard.output.write_text(str(total))
        return {"total": total, "rows": shard.rows}
