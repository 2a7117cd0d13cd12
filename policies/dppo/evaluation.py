"""Count the successes of a policy over seeds, many environments at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_engine.sim.vector import VectorEnvironment, Window
from policies.intervals import wilson_95
from policies.policy import Policy


@dataclass(frozen=True)
class Evaluation:
    """Count how trials ended; a crash is the simulator's or the policy's breakdown, not a failure."""

    successes: int
    failures: int
    crashes: int

    @property
    def success_rate(self) -> float | None:
        """Successes among finished trials; None where none finished."""
        finished = self.successes + self.failures
        return self.successes / finished if finished else None

    def as_log(self, prefix: str = "") -> dict[str, Any]:
        """Return what a log line says of it."""
        interval = wilson_95(self.successes, self.successes + self.failures)
        return {
            f"{prefix}successes": self.successes,
            f"{prefix}failures": self.failures,
            f"{prefix}crashes": self.crashes,
            f"{prefix}success_rate": self.success_rate,
            f"{prefix}wilson_95": list(interval) if interval else None,
        }


def evaluate(
    policy: Policy,
    environments: VectorEnvironment,
    seeds: Sequence[int],
    check: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run one trial per seed to its end, as the benchmark does: a seed decides its start and its noise.

    Args:
        policy: acts without exploring.
        environments: take the next seed when a trial ends.
        seeds: of the resets.
        check: called before each action chunk; may raise to stop.
    """
    waiting = list(reversed(seeds))
    slots = list(range(min(environments.count, len(waiting))))
    started = [waiting.pop() for _ in slots]
    windows: dict[int, Window] = dict(zip(slots, environments.reset(slots, started), strict=True))
    rngs = {slot: np.random.default_rng(seed) for slot, seed in zip(slots, started, strict=True)}
    successes = failures = crashes = 0
    while windows:
        check()
        acting = list(windows)
        batch = {name: np.stack([windows[slot][name] for slot in acting]) for name in policy.spec.observation_shapes}
        chunks = policy.act(batch, [rngs[slot] for slot in acting])
        finite = np.isfinite(chunks).all(axis=(1, 2))
        # What is not finite is stood still for one chunk and counted as a crash, whatever came of it.
        actions = np.where(finite[:, None, None], chunks, 0.0).astype(np.float32)
        results = environments.step(acting, actions, [None] * len(acting))
        for slot, ok, result in zip(acting, finite, results, strict=True):
            if ok and not result.ended:
                assert result.window is not None
                windows[slot] = result.window
                continue
            crashed = not ok or result.error is not None
            crashes += crashed
            successes += result.terminated and not crashed
            failures += result.truncated and not crashed
            del windows[slot]
            if waiting:
                seed = waiting.pop()
                (windows[slot],) = environments.reset([slot], [seed])
                rngs[slot] = np.random.default_rng(seed)
    return Evaluation(successes, failures, crashes)
