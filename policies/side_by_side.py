"""Jobs side by side: processes that each open what a job needs once, then take one job after the other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, Protocol, TypeVar

from cosmos_engine import worker_process
from cosmos_engine.errors import InputError

JobT = TypeVar("JobT")
JobT_contra = TypeVar("JobT_contra", contravariant=True)


class Bench(Protocol[JobT_contra]):
    """Where jobs are done."""

    def do(self, job: JobT_contra, check: Callable[[], None]) -> None:
        """Do a job; `check` is called often and may raise to stop it."""
        ...


_open_bench: Callable[[], Bench[Any]]  # of this worker process, as are the next two
_bench: Bench[Any] | None = None
_stop: Event


def side_by_side(open_bench: Callable[[], Bench[JobT]], jobs: Sequence[JobT], workers: int) -> Generator[JobT]:
    """Have every job done by one of `workers` processes; yield a job when it is done, in any order.

    Whatever ends this early, Ctrl-C among it, stops the other jobs at their next check.

    Args:
        open_bench: called once in every process; it is pickled.
        jobs: what to do.
        workers: processes; the cores of this machine are divided among them.

    Raises:
        InputError: what a job refused, or a process that was ended from outside.
    """
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads, or a GPU is in use
    stop = context.Event()
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _begin, (open_bench, stop))
    try:
        with worker_process.inherited_environment(threads=max(1, worker_process.usable_cores() // workers)):
            job_of = {pool.submit(_do, job): job for job in jobs}
        for done in as_completed(job_of):
            done.result()
            yield job_of[done]
    except BrokenProcessPool:
        raise InputError(
            "a worker was ended, as when memory runs out; the same command goes on from here, and fewer --workers "
            "need less memory"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _begin(open_bench: Callable[[], Bench[Any]], stop: Event) -> None:
    global _open_bench, _stop
    worker_process.begin()
    _open_bench, _stop = open_bench, stop


def _do(job: Any) -> None:
    global _bench
    _check()
    if _bench is None:  # not in `_begin`: what it refuses would be lost there
        _bench = _open_bench()
    _bench.do(job, _check)


def _check() -> None:
    if _stop.is_set():
        raise KeyboardInterrupt
