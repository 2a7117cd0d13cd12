"""Many environments side by side in worker processes, each acting one action chunk at a time.

Between two action chunks an environment is asked for one observation window; the control steps inside a chunk cost no
message between processes and no image.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32

from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import Environment, Observation

Window = dict[str, np.ndarray]
"""Observation name -> (t, ...), the present frame last; before an episode's first frame the first one is repeated."""


@dataclass(frozen=True)
class ChunkResult:
    """Tell what one action chunk led to in one environment.

    `window` is what to act from next; where the episode ended it is the start of the next one, or None if none was
    asked for. `terminated` means success and `truncated` the horizon: `final_window` then holds what the truncated
    episode ended with, for a value function to bootstrap from. `error` tells of a simulator that broke down; what it
    gave before is not to be learned from. `reward` is summed over the `steps` control steps that were made.
    """

    window: Window | None
    reward: float
    steps: int
    terminated: bool
    truncated: bool
    final_window: Window | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the episode is over, one way or another."""
        return self.terminated or self.truncated or self.error is not None


class VectorEnvironment:
    """Own `count` environments in worker processes. Close it, or use it as a context manager.

    What an environment gives depends on its seeds and actions alone, never on the number of workers.

    Args:
        make: builds one environment; it is pickled, so a lambda needs `workers` 0.
        count: environments.
        observations: names to observe; what is not named is never rendered.
        observation_frames: frames of a window.
        workers: processes; 0 runs all environments in this one. None means one per available core.

    Raises:
        InputError: what building an environment raises as a user's mistake.
        ValueError: fewer than one environment or frame.
    """

    def __init__(
        self,
        make: Callable[[], Environment],
        count: int,
        *,
        observations: Sequence[str],
        observation_frames: int = 1,
        workers: int | None = None,
    ) -> None:
        if count < 1 or observation_frames < 1:
            raise ValueError(f"expected at least 1 environment and 1 frame, got {count} and {observation_frames}")
        self.count = count
        processes = min(count, available_cores() if workers is None else workers)
        slots = [range(worker, count, processes) for worker in range(processes)] or [range(count)]
        groups = [_GroupConfig(make, len(part), tuple(observations), observation_frames) for part in slots]
        self._worker_of = {
            slot: (worker, index) for worker, part in enumerate(slots) for index, slot in enumerate(part)
        }
        self._groups: list[_Endpoint] = []
        try:
            self._groups += [_Process(group) for group in groups] if processes else [_Local(groups[0])]
            for group in self._groups:
                group.receive()
        except BaseException:
            self.close()
            raise

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Window]:
        """Start the episodes that `seeds` name in these environments; return their first windows.

        Raises:
            InputError: what an environment raises as a user's mistake.
            RuntimeError: an environment broke down, or a worker process died.
        """
        return self._ask("reset", slots, list(zip(seeds, strict=True)))

    def step(
        self, slots: Sequence[int], chunks: Float32[np.ndarray, "m chunk a"], next_seeds: Sequence[int | None]
    ) -> list[ChunkResult]:
        """Act one action chunk in each of these environments, up to the end of its episode.

        Args:
            slots: environments, each at most once.
            chunks: their actions; values beyond [-1, 1] are clipped.
            next_seeds: the episode to start where one ends; None leaves that environment to a later `reset`.

        Raises:
            InputError: what an environment raises as a user's mistake.
            RuntimeError: an environment broke down at a reset, or a worker process died.
        """
        return self._ask("step", slots, list(zip(np.clip(chunks, -1.0, 1.0), next_seeds, strict=True)))

    def close(self) -> None:
        """Free all environments and end the workers; safe to call twice."""
        for group in self._groups:
            group.close()
        self._groups.clear()

    def __enter__(self) -> VectorEnvironment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, slots: Sequence[int], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of some environments, all workers at the same time; the answers are in the slots' order."""
        calls: dict[int, list[tuple[Any, ...]]] = {}
        places: dict[int, list[int]] = {}
        for place, (slot, of_slot) in enumerate(zip(slots, arguments, strict=True)):
            worker, index = self._worker_of[slot]
            calls.setdefault(worker, []).append((index, *of_slot))
            places.setdefault(worker, []).append(place)
        for worker, of_worker in calls.items():
            self._groups[worker].send(method, of_worker)
        answers: list[Any] = [None] * len(slots)
        for worker, of_worker_places in places.items():
            for place, answer in zip(of_worker_places, self._groups[worker].receive(), strict=True):
                answers[place] = answer
        return answers


def available_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _GroupConfig:
    make: Callable[[], Environment]
    count: int
    observations: tuple[str, ...]
    observation_frames: int


class _Group:
    """The environments of one worker."""

    def __init__(self, config: _GroupConfig) -> None:
        self._config = config
        self._environments: list[Environment] = []
        self._histories: list[deque[Observation]] = []
        self._steps = [0] * config.count
        try:
            for _ in range(config.count):
                self._environments.append(config.make())
                self._histories.append(deque(maxlen=config.observation_frames))
        except BaseException:
            self.close()
            raise

    def reset(self, index: int, seed: int) -> Window:
        observation = self._environments[index].reset(seed)
        self._steps[index] = 0
        self._histories[index].extend([observation] * self._config.observation_frames)
        return self._window(index)

    def step(self, index: int, chunk: np.ndarray, next_seed: int | None) -> ChunkResult:
        environment, reward, steps, terminated, truncated = self._environments[index], 0.0, 0, False, False
        try:
            for action in chunk:
                result = environment.step(action)
                self._histories[index].append(result.observation)
                self._steps[index] += 1
                reward, steps, terminated = reward + result.reward, steps + 1, result.terminated
                truncated = not terminated and (result.truncated or self._steps[index] >= environment.horizon)
                if terminated or truncated:
                    break
            final = self._window(index) if truncated else None
            ended = terminated or truncated
            window = None if ended else self._window(index)
        except InputError:
            raise
        except Exception as error:  # Whatever a simulator raises is the end of this episode, not of all.
            self._replace(index)
            window = None if next_seed is None else self.reset(index, next_seed)
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return ChunkResult(window, reward, steps, terminated=False, truncated=False, error=text)
        if ended and next_seed is not None:
            window = self.reset(index, next_seed)
        return ChunkResult(window, reward, steps, terminated, truncated, final)

    def close(self) -> None:
        for environment in self._environments:
            environment.close()
        self._environments.clear()

    def _replace(self, index: int) -> None:
        """Put a new environment in the place of one that broke down: what it still holds cannot be trusted."""
        self._environments[index].close()
        self._environments[index] = self._config.make()

    def _window(self, index: int) -> Window:
        return {name: np.stack([frame[name] for frame in self._histories[index]]) for name in self._config.observations}


class _Endpoint(Protocol):
    """Where a group answers: `send` a call, then `receive` its answers; the first `receive` waits for the start."""

    def send(self, method: str, calls: list[tuple[Any, ...]]) -> None: ...

    def receive(self) -> list[Any]: ...

    def close(self) -> None: ...


class _Local:
    """A group in this process."""

    def __init__(self, config: _GroupConfig) -> None:
        self._group = _Group(config)
        self._answers: list[Any] = []

    def send(self, method: str, calls: list[tuple[Any, ...]]) -> None:
        self._answers = [getattr(self._group, method)(*call) for call in calls]

    def receive(self) -> list[Any]:
        return self._answers

    def close(self) -> None:
        self._group.close()


class _Process:
    """A group in a worker process."""

    def __init__(self, config: _GroupConfig) -> None:
        # Spawned: a fork would share torch's threads and an OpenGL context, and neither survives that.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, config), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, method: str, calls: list[tuple[Any, ...]]) -> None:
        try:
            self._connection.send((method, calls))
        except OSError as error:
            raise self._death() from error

    def receive(self) -> list[Any]:
        try:
            kind, content = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if kind == "input error":
            raise InputError(content)
        if kind == "failure":
            raise RuntimeError(f"an environment broke down in its worker process:\n{content}")
        return content

    def close(self) -> None:
        self._connection.close()  # the worker reads the end of its pipe and leaves
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _death(self) -> RuntimeError:
        self._process.join(timeout=10)
        return RuntimeError(f"a worker process of environments died (exit code {self._process.exitcode})")


def _serve(connection: Connection, config: _GroupConfig) -> None:
    """Answer calls until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    group: _Group | None = None
    try:
        group = _Group(config)
        connection.send(("answers", []))
        while True:
            method, calls = connection.recv()
            connection.send(("answers", [getattr(group, method)(*call) for call in calls]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except InputError as error:
        connection.send(("input error", str(error)))
    except Exception:
        connection.send(("failure", traceback.format_exc()))
    finally:
        if group is not None:
            group.close()
