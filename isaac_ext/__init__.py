"""Inside Isaac Sim: the extension `cosmos.engine`, its recorder, headless demos, and an environment over Isaac Sim.

    kit           all that differs between Isaac Sim 5.1 and 6.0, and every call into Kit but those that draw the window
    labels, camera, roles, stage, appearance     what annotators and the USD stage say, and layers over the stage
    capture, tape, demo, recorder                passes, states, and episodes made of both
    engine, settings, session, window, extension the engine as a process, and the window that starts it
    franka, headless, selfcheck, arena, wire     without a window
    outside/      what runs in the engine's own Python: install, doctor, generate, benchmark

Kit is imported inside functions, so this package can be imported anywhere. Inside Isaac Sim it needs numpy and h5py.
"""

from isaac_ext.camera import intrinsics_px, world_from_camera
from isaac_ext.labels import InstanceIds, PrimLabel, parse_labels

__all__ = ["InstanceIds", "PrimLabel", "intrinsics_px", "parse_labels", "world_from_camera"]
