"""One demo of a scripted expert on the table-top: states first, render passes on replay of those states."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from cosmos_engine.data import CameraPasses, Episode
from cosmos_engine.sim.environment import CameraFrame, stacked
from cosmos_engine.sim.experts import Expert
from cosmos_engine.sim.tabletop import TabletopEnvironment

SOURCE = "embedded-mujoco"
_HOLD_STEPS = 5
"""Control steps that success must last; a demo ends with them, so that a policy learns to stay."""


def record_demo(
    environment: TabletopEnvironment, seed: int, action_noise: float, env_args: dict[str, Any]
) -> Episode | None:
    """Act one seeded episode with the expert and render it; None if the expert failed.

    The episode's id is made from `env_args` and the seed, so that the same command records the same bytes.
    """
    # The second word keeps the noise apart from the start, which is drawn from the seed itself.
    expert = Expert(environment.task, action_noise=action_noise, rng=np.random.default_rng((seed, 1)))
    observation = environment.reset(seed)
    states, observations, actions, rewards = [], [], [], []
    held = 0
    for _ in range(environment.horizon):
        states.append(environment.get_state())
        observations.append({name: value for name, value in observation.items() if value.ndim == 1})
        actions.append(expert.act(environment))
        result = environment.step(actions[-1])
        rewards.append(result.reward)
        observation = result.observation
        held = held + 1 if result.terminated else 0
        if held == _HOLD_STEPS:
            break
    if held < _HOLD_STEPS:
        return None
    identity = f"{SOURCE} {json.dumps(env_args, sort_keys=True)} {seed}"
    return Episode(
        actions=np.stack(actions),
        states=np.stack(states),
        rewards=np.array(rewards, dtype=np.float32),
        dones=np.arange(len(actions)) == len(actions) - 1,
        observations={name: np.stack([frame[name] for frame in observations]) for name in observations[0]},
        cameras=render_states(environment, states),
        labels=dict(environment.labels),
        success=True,
        seed=seed,
        step_hz=environment.step_hz,
        episode_id=str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        source=SOURCE,
        task=environment.task,
        instruction=environment.instruction,
    )


def render_states(environment: TabletopEnvironment, states: Sequence[np.ndarray]) -> dict[str, CameraPasses]:
    """Return the passes of every camera of the environment over recorded states, in its present appearance."""
    frames: dict[str, list[CameraFrame]] = {camera: [] for camera in environment.camera_names}
    for state in states:
        environment.set_state(state)
        for camera, of_camera in frames.items():
            of_camera.append(environment.render_passes(camera))
    return {camera: stacked(of_camera) for camera, of_camera in frames.items()}
