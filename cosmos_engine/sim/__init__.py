"""Simulators: the `Environment` protocol, and an embedded MuJoCo table-top (extra `sim`) that implements it.

Only the protocol is re-exported: policies and the Isaac Sim extension use it where MuJoCo is not installed. Import
the table-top, its experts and its recorder from their modules.
"""

from cosmos_engine.sim.environment import CameraFrame, Environment, Observation, StepResult

__all__ = ["CameraFrame", "Environment", "Observation", "StepResult"]
