"""The local executor: this process, or several on this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from recpipe import logs
from recpipe.errors import RecpipeError
from recpipe.executors.base import Executor, Shard, Task
from recpipe.executors.settings import ExecutorSettings

_task: Task | None = None
_failure: Exception | None = None


class LocalExecutor:
    """Computes shards in this process (`workers=1`) or in spawned ones."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map_shards(self, task: Task, shards: Sequence[Shard]) -> Iterator[tuple[Shard, dict[str, Any]]]:
        if not shards:
            return
        if self._workers == 1 or len(shards) == 1:
            task.setup()
            for shard in shards:
                yield shard, task(shard)
            return
        yield from self._in_processes(task, shards)

    def _in_processes(self, task: Task, shards: Sequence[Shard]) -> Iterator[tuple[Shard, dict[str, Any]]]:
        workers = min(self._workers, len(shards))
        threads = max(1, (os.cpu_count() or 1) // workers)
        # spawn: a forked child would inherit locks of torch's and Arrow's thread pools
        pool = ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(task, threads, logs.current()),
        )
        try:
            waiting: dict[Future[dict[str, Any]], Shard] = {pool.submit(_compute, shard): shard for shard in shards}
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool:
            raise RecpipeError(
                "a worker process died (killed, out of memory, or it failed to start)",
                next_step="run again: finished parts are kept; fewer executor.workers need less memory",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def create(settings: ExecutorSettings) -> Executor:
    """Return the executor the settings name."""
    return LocalExecutor(1 if settings.workers == "auto" else settings.workers)


def _start_worker(task: Task, threads: int, log_state: logs.State | None) -> None:
    global _task, _failure
    logs.resume(log_state)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    try:
        task.setup()
    except Exception as error:  # raised from an initializer it would reach the caller as "a worker died"
        _failure = error
    _task = task


def _compute(shard: Shard) -> dict[str, Any]:
    if _failure is not None:
        raise _failure
    if _task is None:
        raise RecpipeError("worker used before it was set up")
    return _task(shard)
