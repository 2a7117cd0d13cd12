"""What a policy is to those who run it: a specification of its inputs and outputs, and one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from cosmos_engine.data.dataset import IMAGE_SUFFIX
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import Environment


@dataclass(frozen=True)
class PolicySpec:
    """Say what a policy sees and does.

    `observation_shapes` maps an observation name to the shape of one frame as the environment gives it: (h, w, 3) for a
    camera image (its name ends in "_image"), (d,) for a low-dimensional vector. Their order is the policy's order.
    """

    observation_shapes: dict[str, list[int]] = field(default_factory=dict)
    action_dim: int = 0
    step_hz: float = 0.0
    observation_frames: int = 2
    action_chunk: int = 8

    @property
    def images(self) -> dict[str, list[int]]:
        """The camera images among the observations."""
        return {name: shape for name, shape in self.observation_shapes.items() if name.endswith(IMAGE_SUFFIX)}

    @property
    def low_dim(self) -> dict[str, list[int]]:
        """The low-dimensional observations."""
        return {name: shape for name, shape in self.observation_shapes.items() if not name.endswith(IMAGE_SUFFIX)}


@runtime_checkable
class Policy(Protocol):
    """Map a window of observations to an action chunk."""

    @property
    def spec(self) -> PolicySpec: ...

    def act(
        self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]
    ) -> Float32[np.ndarray, "b chunk a"]:
        """Return one action chunk per row of the batch.

        Args:
            observations: name -> (b, t, ...), t = spec.observation_frames, the present frame last; images uint8.
            rngs: one generator per row, so that a trial's noise does not depend on what else is in the batch. A trial
                comes with the same one at every call until it ends, which tells a recurrent policy whose row it is.
        """
        ...


def check_environment(policy_name: str, spec: PolicySpec, environment: Environment) -> None:
    """Make sure that an environment gives what a policy sees and takes what it does.

    Raises:
        InputError: names the first observation, the action or the rate that differs.
    """
    for name, shape in spec.observation_shapes.items():
        given = environment.observation_spec.get(name)
        if given is None:
            raise InputError(
                f"policy {policy_name}: sees {name!r}, which environment {environment.task!r} does not give; "
                f"it gives {', '.join(environment.observation_spec)}"
            )
        if tuple(given) != tuple(shape):
            raise InputError(
                f"policy {policy_name}: expects {name!r} of shape {tuple(shape)}, "
                f"environment {environment.task!r} gives {tuple(given)}"
            )
    if environment.action_dim != spec.action_dim:
        raise InputError(
            f"policy {policy_name}: its actions have {spec.action_dim} numbers, "
            f"environment {environment.task!r} takes {environment.action_dim}"
        )
    if not np.isclose(environment.step_hz, spec.step_hz, rtol=1e-3):
        raise InputError(
            f"policy {policy_name}: acts at {spec.step_hz:g} Hz, environment {environment.task!r} steps at "
            f"{environment.step_hz:g} Hz"
        )
