"""The local executor: this process, or several on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
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
        others = set(multiprocessing.active_children())
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
        except Exception:
            raise  # shards under way are finished first: their parts are kept
        except BaseException:
            # interrupted: parts are published whole or not at all, so workers can go at once
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def create(settings: ExecutorSettings) -> Executor:
    """Return the executor the settings name."""
    return LocalExecutor(1 if settings.workers == "auto" else settings.workers)


def _start_worker(task: Task, threads: int, log_state: logs.State | None) -> None:
    global _task, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.resume(log_state)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    try:
        task.setup()
    except Exception as error:  # raised from an initializer it would reach the caller as "a worker died"
        _failure = error
    _task = task


def _end_with_parent() -> None:
    """End this process when its parent is gone: a killed run must not leave workers that wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _compute(shard: Shard) -> dict[str, Any]:
    if _failure is not None:
        raise _failure
    if _task is None:
        raise RecpipeError("worker used before it was set up")
    return _task(shard)
