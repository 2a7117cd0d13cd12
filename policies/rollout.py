"""Let a policy act: several environments side by side, one batched inference per action chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import Environment, Observation
from policies.policy import Policy, PolicySpec

Outcome = Literal["success", "failure", "crash"]


@dataclass(frozen=True)
class Trial:
    """Hold one finished attempt.

    `steps` counts control steps. A crash is the environment's or the policy's breakdown (`error` says which), not a
    failure of the task. `frames` has one image per control step, and one before the first, where a film was asked for.
    """

    seed: int
    outcome: Outcome
    steps: int
    error: str | None = None
    frames: list[UInt8[np.ndarray, "h w 3"]] = field(default_factory=list, repr=False)


class EnvironmentPool:
    """Own the environments that trials run in.

    Args:
        make: builds one environment.
        size: how many.
    """

    def __init__(self, make: Callable[[], Environment], size: int) -> None:
        self._make = make
        self.environments = [make() for _ in range(size)]

    def replace(self, index: int) -> None:
        """Put a new environment in the place of one that crashed: what it still holds cannot be trusted."""
        self.environments[index].close()
        self.environments[index] = self._make()

    def close(self) -> None:
        """Free all environments."""
        for environment in self.environments:
            environment.close()
        self.environments.clear()

    def __enter__(self) -> EnvironmentPool:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def run_trials(
    policy: Policy,
    pool: EnvironmentPool,
    seeds: Sequence[int],
    *,
    prepare: Callable[[Environment, int], None] = lambda _environment, _seed: None,
    film_camera: str | None = None,
    film: Callable[[Outcome], bool] = lambda _outcome: True,
    show: Callable[[int, UInt8[np.ndarray, "h w 3"]], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Trial]:
    """Run one trial per seed and yield each as it ends; a seed alone decides its start and its noise.

    Args:
        policy: acts in all environments at once.
        pool: environments; each takes the next seed when its trial ends.
        seeds: of the resets.
        prepare: called before each reset with the environment and the seed (sets the appearance).
        film_camera: observation name of the images that films are made of; None films nothing.
        film: called when a trial has succeeded or failed; tells whether its frames are wanted. They are rendered then.
        show: called with the seed and each frame as it happens.
        check: called before each action chunk; may raise to stop.

    Raises:
        InputError: what `prepare`, reset or step raise as a user's mistake; everything else they raise is a crash.
    """
    waiting = deque(seeds)
    acting: list[_Attempt] = []
    free = deque(range(len(pool.environments)))
    while waiting or acting:
        check()
        while waiting and free:
            slot, seed = free.popleft(), waiting.popleft()
            attempt = _Attempt(slot, seed, policy.spec, film_camera, show)
            attempt.start(pool.environments[slot], prepare)
            acting.append(attempt)
        started = [attempt for attempt in acting if attempt.outcome is None]
        if started:
            windows = [attempt.window() for attempt in started]
            batch = {name: np.stack([window[name] for window in windows]) for name in policy.spec.observation_shapes}
            chunks = policy.act(batch, [attempt.rng for attempt in started])
            for attempt, chunk in zip(started, chunks, strict=True):
                attempt.execute(pool.environments[attempt.slot], chunk)
        for attempt in acting:
            if attempt.outcome is not None:
                frames = []
                if attempt.outcome == "crash":
                    pool.replace(attempt.slot)
                elif film_camera is not None and film(attempt.outcome):
                    frames = [np.array(observation[film_camera]) for observation in attempt.seen]
                free.append(attempt.slot)
                yield Trial(attempt.seed, attempt.outcome, attempt.steps, attempt.error, frames)
        acting = [attempt for attempt in acting if attempt.outcome is None]


class _Attempt:
    """A trial under way in one environment."""

    def __init__(
        self,
        slot: int,
        seed: int,
        spec: PolicySpec,
        film_camera: str | None,
        show: Callable[[int, np.ndarray], None] | None,
    ) -> None:
        self.slot = slot
        self.seed = seed
        self.spec = spec
        self.film_camera = film_camera
        self.show = show
        self.rng = np.random.default_rng(seed)
        self.history: deque[Observation] = deque(maxlen=spec.observation_frames)
        self.seen: list[Observation] = []  # what a film would be rendered from; their images may not be yet
        self.steps = 0
        self.outcome: Outcome | None = None
        self.error: str | None = None

    def start(self, environment: Environment, prepare: Callable[[Environment, int], None]) -> None:
        try:
            prepare(environment, self.seed)
            observation = environment.reset(self.seed)
        except InputError:
            raise
        except Exception as error:  # Whatever a simulator raises is an outcome of this trial, not the end of all.
            self._crash(error)
            return
        for _ in range(self.spec.observation_frames):  # before the first frame the first one is repeated
            self.history.append(observation)
        self._film(observation)

    def window(self) -> dict[str, np.ndarray]:
        return {name: np.stack([frame[name] for frame in self.history]) for name in self.spec.observation_shapes}

    def execute(self, environment: Environment, chunk: Float32[np.ndarray, "chunk a"]) -> None:
        if not np.isfinite(chunk).all():
            self._crash(ValueError("the policy's actions are not finite"))
            return
        for action in np.clip(chunk, -1.0, 1.0):
            try:
                result = environment.step(action)
            except InputError:
                raise
            except Exception as error:  # see start
                self._crash(error)
                return
            self.steps += 1
            self.history.append(result.observation)
            self._film(result.observation)
            if result.terminated:
                self.outcome = "success"
                return
            if result.truncated or self.steps >= environment.horizon:
                self.outcome = "failure"
                return

    def _film(self, observation: Observation) -> None:
        if self.film_camera is not None:
            self.seen.append(observation)
            if self.show is not None:
                self.show(self.seed, observation[self.film_camera])

    def _crash(self, error: Exception) -> None:
        self.outcome = "crash"
        self.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
