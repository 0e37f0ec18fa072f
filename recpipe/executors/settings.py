"""Settings of the executor: how work is placed, never what comes out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PositiveInt

from recpipe.config import Execution, Settings


class ExecutorSettings(Settings):
    """Where shards are computed."""

    kind: Annotated[Literal["local"], Execution()] = "local"
    """`local`: this machine, nothing to start."""
    workers: Annotated[Literal["auto"] | PositiveInt, Execution()] = "auto"
    """Worker processes. `auto` computes in this process, where the libraries use every core."""
