"""robosuite's tasks as an `Arena` of the benchmark."""

from __future__ import annotations

from cosmos_engine.sim.environment import Environment
from cosmos_engine.sim.robosuite_environment import RobosuiteEnvironment
from cosmos_engine.sim.robosuite_shifts import ROBOSUITE_SHIFTS, show_shift
from cosmos_engine.sim.strengths import ShiftStrengths


class RobosuiteArena:
    """Bring robosuite's environments under the shifts that its models can show.

    Args:
        task: a name in `ROBOSUITE_TASKS`.
        cameras: observed and filmed.
        image_size: pixels.
        strengths: of the shifts.
    """

    shifts = ROBOSUITE_SHIFTS

    def __init__(self, task: str, cameras: tuple[str, ...], image_size: int, strengths: ShiftStrengths) -> None:
        self.task = f"robosuite_{task}"
        self._robosuite_task = task
        self._cameras = cameras
        self._image_size = image_size
        self._strengths = strengths

    def make(self) -> Environment:
        """Build an environment."""
        return RobosuiteEnvironment(
            self._robosuite_task, cameras=self._cameras, image_size=self._image_size, render=bool(self._cameras)
        )

    def prepare(self, environment: Environment, shift: str, seed: int) -> None:
        """Give the environment the look that it has under a shift in the trial of that seed."""
        assert isinstance(environment, RobosuiteEnvironment)
        show_shift(environment, shift, self._strengths, seed=seed)
