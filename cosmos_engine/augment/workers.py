"""Workers: the processes of a job, one a CPU core or a GPU, or this process alone.

A worker climbs the ladder for one unit at a time and stages what came of it; the parent decides and writes the
dataset. Killing the parent ends the workers; a worker that dies ends the job with one line.
"""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cosmos_engine.errors import InputError
from cosmos_engine.worker_process import begin, inherited_environment

if TYPE_CHECKING:  # a worker sets its environment before it imports numpy, torch and tqdm
    from cosmos_engine.augment.staging import Unit
    from cosmos_engine.augment.workbench import Opener, WorkOrder

AHEAD_UNITS = 8
"""How many units a worker may be ahead of the oldest that is not done: what is staged waits on the disk."""
_READY, _DONE, _FAILED = "ready", "done", "failed"


@runtime_checkable
class Pool(Protocol):
    """Openers whose processes are not children of this one, and what has units climbed by them."""

    def climbed(self, order: WorkOrder, units: Sequence[Unit]) -> Iterator[Unit]:
        """Have every unit climbed; yield a unit when its tries are staged, in any order."""
        ...


def climbed(order: WorkOrder, units: Sequence[Unit], openers: Sequence[Opener]) -> Iterator[Unit]:
    """Have every unit climbed by a process for each of `openers`; yield a unit when its tries are staged, in any order.

    A `Pool` of openers has its own processes, as `ray_workers.RayPool` does.

    Raises:
        InputError: what a worker refused, or a worker that was ended from outside.
        RuntimeError: a defect in a worker, with its traceback.
    """
    if isinstance(openers, Pool):
        yield from openers.climbed(order, units)
        return
    crew = [_Worker(order, opener) for opener in openers[: len(units)]]
    waiting = deque(enumerate(units))
    unfinished = deque(range(len(units)))
    done: set[int] = set()
    try:
        while unfinished:
            for worker in crew:
                if worker.idle and waiting and waiting[0][0] < unfinished[0] + AHEAD_UNITS * len(crew):
                    worker.give(*waiting.popleft())
            for worker in _speaking(crew):
                index = worker.receive()
                if index is not None:
                    done.add(index)
                    while unfinished and unfinished[0] in done:
                        unfinished.popleft()
                    yield units[index]
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """The parent's side of one process."""

    def __init__(self, order: WorkOrder, opener: Opener) -> None:
        context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads, or a GPU is in use
        self.connection, theirs = context.Pipe()
        with inherited_environment(order.config.threads):
            self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
            self.process.start()
        theirs.close()
        self.idle = False
        self._index: int | None = None
        self._send((order, opener))

    def give(self, index: int, unit: Unit) -> None:
        """Hand over a unit."""
        self.idle, self._index = False, index
        self._send(unit)

    def receive(self) -> int | None:
        """Return the index of the unit that is done, None if the worker has only made itself ready."""
        try:
            message, content = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._ended() from None
        if message == _FAILED:
            raise content
        self.idle = True
        return self._index if message == _DONE else None

    def end(self) -> None:
        """Stop the process, whatever it does: what it has staged is whole."""
        self.connection.close()
        self.process.kill()
        self.process.join()

    def _send(self, content: Any) -> None:
        try:
            self.connection.send(content)
        except (BrokenPipeError, ConnectionResetError):
            raise self._ended() from None

    def _ended(self) -> InputError:
        self.process.join()
        code = self.process.exitcode or 0
        how = f"by signal {-code}, as when memory runs out" if code < 0 else f"with exit code {code}"
        return InputError(
            f"a worker ended {how}; the same command goes on from here, and fewer --workers need less memory"
        )


def _speaking(crew: Sequence[_Worker]) -> list[_Worker]:
    """Return the workers that have something to say, or have ended; block until one has."""
    heard = wait([worker.connection for worker in crew if not worker.idle])
    return [worker for worker in crew if worker.connection in heard]


def _work(connection: Connection) -> None:
    """Climb units until the parent says no more, or is gone."""
    begin()
    try:
        order, opener = connection.recv()
        from cosmos_engine.augment.workbench import Workbench, compute_threads

        generator, gate = opener()
        bench = Workbench(order, generator, gate)
        if line := bench.make_ready():
            print(line, file=sys.stderr)
        with compute_threads(order.config.threads):
            connection.send((_READY, None))
            while True:
                bench.climb(connection.recv())
                connection.send((_DONE, None))
    except EOFError:
        return
    except InputError as error:
        connection.send((_FAILED, error))
    except Exception:
        connection.send((_FAILED, RuntimeError(f"a worker failed:\n{traceback.format_exc()}")))
