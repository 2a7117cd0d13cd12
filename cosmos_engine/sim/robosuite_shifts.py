"""The benchmark's shifts that robosuite's models can show: lights and the external camera's pose.

Strengths are drawn as for the embedded table-top, and mean the same relative to how the scene usually looks: its lights
so many times as bright, of another colour, its camera so far away. Textures, objects' colours, distractors and the
sensor's faults belong to the embedded scenes.
"""

from __future__ import annotations

import numpy as np

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import default_appearance
from cosmos_engine.sim.colors import light_rgb
from cosmos_engine.sim.look import Look
from cosmos_engine.sim.robosuite_environment import RobosuiteEnvironment
from cosmos_engine.sim.shifts import SHIFTS, shifted
from cosmos_engine.sim.strengths import ShiftStrengths

ROBOSUITE_SHIFTS = ("vanilla", "light_intensity", "light_color", "camera_pose")


def check_robosuite_shift(name: str) -> None:
    """Make sure that robosuite's models can show a shift.

    Raises:
        InputError: for a shift of the embedded table-top's alone.
    """
    if name in SHIFTS and name not in ROBOSUITE_SHIFTS:
        raise InputError(
            f"shift {name!r}: not available in robosuite, whose models fix it; available: {', '.join(ROBOSUITE_SHIFTS)}"
        )


def show_shift(environment: RobosuiteEnvironment, name: str, strengths: ShiftStrengths, *, seed: int) -> None:
    """Give an environment the look that it has under a shift in the trial of that seed, whatever it had before.

    Raises:
        InputError: for a shift that is not among `ROBOSUITE_SHIFTS`.
    """
    check_robosuite_shift(name)
    usual = Look(default_appearance({}))
    look = shifted(name, usual, strengths, seed=seed)
    tints = [np.array(light_rgb(of.appearance.lights[0].temperature_k)) for of in (look, usual)]
    environment.light = look.appearance.level() / usual.appearance.level()
    environment.tint = tuple((tints[0] / tints[1]).tolist())
    environment.camera_offset = look.camera_offset
