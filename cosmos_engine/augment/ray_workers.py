"""Workers on a Ray cluster, on this machine or many: the same units, staged in the same files, as by `workers`.

One actor a GPU (or a CPU core) holds the generator and climbs the ladder for one unit at a time. An actor that dies is
replaced, wherever the cluster has room, and its unit goes to whoever is free next. Actors stage into the job's folder,
so all nodes see the recording and the output under the same paths. Needs the extra `ray`.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from cosmos_engine.augment.workers import AHEAD_UNITS
from cosmos_engine.cluster import MOST_DEATHS, connected
from cosmos_engine.errors import InputError
from cosmos_engine.worker_process import environment

if TYPE_CHECKING:  # an actor sets its environment before it imports numpy, torch and tqdm
    from cosmos_engine.augment.staging import Unit
    from cosmos_engine.augment.workbench import Opener, WorkOrder


class RayPool(Sequence["Opener"]):
    """The openers of a job's actors, and what has units climbed by them; made by `ray_pool`."""

    def __init__(self, ray: Any, opener: Opener, count: int, needs_gpu: bool) -> None:
        self._ray = ray
        self._opener = opener
        self._count = count
        self._needs_gpu = needs_gpu

    def __len__(self) -> int:
        """Return the number of actors."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> Opener: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Opener]: ...
    def __getitem__(self, index: int | slice) -> Opener | Sequence[Opener]:
        """Return an actor's opener: all have the same."""
        return ([self._opener] * self._count)[index]

    def climbed(self, order: WorkOrder, units: Sequence[Unit]) -> Iterator[Unit]:
        """Have every unit climbed; yield a unit when its tries are staged, in any order.

        Raises:
            InputError: what an actor refused, a unit over which one actor after the other died, or a node that does not
                see the job's folders.
            RuntimeError: a defect in an actor, with its traceback.
        """
        crew: list[Any] = []
        idle: deque[Any] = deque()
        busy: dict[Any, tuple[Any, int | None]] = {}  # what is awaited -> who does it, and for which unit
        waiting, unfinished = deque(range(len(units))), deque(range(len(units)))
        done: set[int] = set()
        deaths: Counter[int | None] = Counter()

        def hire() -> None:
            crew.append(self._actor(order))
            busy[crew[-1].make_ready.remote()] = (crew[-1], None)

        try:
            for _ in range(min(self._count, len(units))):
                hire()
            while unfinished:
                while idle and waiting and waiting[0] < unfinished[0] + AHEAD_UNITS * len(crew):
                    actor, index = idle.popleft(), waiting.popleft()
                    busy[actor.climb.remote(units[index])] = (actor, index)
                ready, _ = self._ray.wait(list(busy), num_returns=1)
                actor, at = busy.pop(ready[0])
                if not self._succeeded(ready[0]):
                    deaths[at] += 1
                    what = "making itself ready" if at is None else f"demo {units[at].demo}"
                    if deaths[at] == MOST_DEATHS:
                        raise InputError(
                            f"{MOST_DEATHS} Ray workers died over {what}, as when memory runs out; the same command "
                            "goes on from here"
                        )
                    print(f"a Ray worker died over {what}; another takes its place", file=sys.stderr)
                    crew.remove(actor)
                    hire()
                    if at is not None:
                        waiting.appendleft(at)
                    continue
                idle.append(actor)
                if at is not None:
                    done.add(at)
                    while unfinished and unfinished[0] in done:
                        unfinished.popleft()
                    yield units[at]
        finally:
            for actor in crew:
                self._ray.kill(actor)

    def _actor(self, order: WorkOrder) -> Any:
        variables = environment(order.config.threads)
        order = replace(order, recording=order.recording.resolve(), staging=order.staging.resolve())
        options = {"num_gpus": 1, "num_cpus": 0} if self._needs_gpu else {"num_cpus": 1}
        actor = self._ray.remote(_Climber).options(runtime_env={"env_vars": variables}, **options)
        return actor.remote(os.getcwd(), sys.path, pickle.dumps((order, self._opener)))

    def _succeeded(self, answer: Any) -> bool:
        """Tell whether a unit was climbed; False if its actor has died.

        Raises:
            InputError: what the actor refused.
            RuntimeError: a defect in the actor.
        """
        try:
            refusal, defect = self._ray.get(answer)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError):
            return False
        if refusal:
            raise InputError(refusal)
        if defect:
            raise RuntimeError(f"a worker failed:\n{defect}")
        return True


class _Climber:
    """An actor: this side of it runs in a process of its own, perhaps on another machine."""

    def __init__(self, folder: str, path: list[str], content: bytes) -> None:
        self._folder = folder
        self._path = path
        self._content = content
        self._bench: Any = None
        self._threads = 1

    def make_ready(self) -> tuple[str, str]:
        """Open generator and gate; return as `climb`."""
        return self._answer(self._open)

    def climb(self, unit: Any) -> tuple[str, str]:
        """Climb a unit; return what the input lacks, and the traceback of a defect: both empty if all went well."""

        def work() -> None:
            from cosmos_engine.augment.workbench import compute_threads

            with compute_threads(self._threads):
                self._bench.climb(unit)

        return self._answer(work)

    def _answer(self, work: Callable[[], None]) -> tuple[str, str]:
        try:
            work()
        except InputError as error:
            return str(error), ""
        except Exception:
            return "", traceback.format_exc()
        return "", ""

    def _open(self) -> None:
        try:
            os.chdir(self._folder)  # for the relative paths among the job's options
        except OSError as error:
            raise _unseen(self._folder) from error
        sys.path.extend(folder for folder in self._path if folder not in sys.path)
        order, opener = pickle.loads(self._content)
        for folder in (order.recording, order.staging):
            if not folder.is_dir():
                raise _unseen(folder)
        from cosmos_engine.augment.workbench import Workbench

        generator, gate = opener()
        bench = Workbench(order, generator, gate)
        bench.make_ready()
        self._threads = order.config.threads
        self._bench = bench


def _unseen(folder: object) -> InputError:
    node = os.uname().nodename if hasattr(os, "uname") else "a node"
    return InputError(f"{folder}: not seen on {node}; all Ray nodes need the job's folders under the same paths")


@contextmanager
def ray_pool(address: str, opener: Opener, workers: int | None, needs_gpu: bool) -> Iterator[RayPool]:
    """Connect to a Ray cluster, or start one of this machine, as `cluster.connected`; `opener` can be pickled."""
    with connected(address, workers, needs_gpu) as (ray, count):
        yield RayPool(ray, opener, count, needs_gpu)
