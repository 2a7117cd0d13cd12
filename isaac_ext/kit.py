"""Isaac Sim 5.1 and 6.0 behind one set of functions: the only module that knows which of the two is running.

Everything of Kit is imported inside the functions, so that this module can be imported anywhere. `if is_6():` is what
the contract test reads to know for which version a call is made.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError

PACKAGES = "pip_prebundle"
"""Folder beside this package where `isaac install` puts h5py if Isaac Sim has none."""
_NEEDED = (
    "isaacsim.core.experimental.prims",
    "isaacsim.core.simulation_manager",
    "isaacsim.core.version",
    "omni.replicator.core",
)
"""What the manifest names as dependencies, for where the extension itself is not loaded."""
DLSS_QUALITY = 2
"""DLSS renders at two thirds of the size instead of half: Isaac Sim's own examples set it for synthetic data."""
_DLSS = "/rtx/post/dlss/execMode"
_LATE = 1_000_000
"""Order of a callback that runs after those of the controllers."""


@functools.cache
def isaac_sim_version() -> tuple[int, int]:
    """Return major and minor version of the Isaac Sim that runs this.

    Raises:
        InputError: older than 5.1, whose Python and names are others.
    """
    from isaacsim.core.version import get_version

    version = get_version()
    found = int(version[2]), int(version[3])
    if found < (5, 1):
        raise InputError(f"Isaac Sim {found[0]}.{found[1]}: expected 5.1 or later")
    return found


def is_6() -> bool:
    """Say whether this is Isaac Sim 6.0 or later."""
    return isaac_sim_version() >= (6, 0)


def add_packages() -> None:
    """Make the packages that `isaac install` brought importable, before an older h5py that Isaac Sim may have."""
    folder = str(Path(__file__).resolve().parent.parent / PACKAGES)
    if Path(folder).is_dir() and folder not in sys.path:
        sys.path.insert(0, folder)


def stage() -> Any:
    """Return the open USD stage.

    Raises:
        InputError: none is open.
    """
    import omni.usd

    opened = omni.usd.get_context().get_stage()
    if opened is None:
        raise InputError("no stage is open")
    return opened


def new_stage() -> None:
    """Open an empty stage in place of the present one."""
    import omni.usd

    omni.usd.get_context().new_stage()


async def next_update() -> None:
    """Wait for the next update of the application."""
    import omni.kit.app

    await omni.kit.app.get_app().next_update_async()


def run(coroutine: Any) -> Any:
    """Begin a coroutine on Kit's loop and return its task."""
    import omni.kit.async_engine

    return omni.kit.async_engine.run_coroutine(coroutine)


def enable_extension(name: str) -> None:
    """Load an extension of Isaac Sim now."""
    import omni.kit.app

    omni.kit.app.get_app().get_extension_manager().set_extension_enabled_immediate(name, True)


# Timeline


def is_playing() -> bool:
    """Say whether the timeline plays."""
    import omni.timeline

    return bool(omni.timeline.get_timeline_interface().is_playing())


def is_stopped() -> bool:
    """Say whether the timeline is stopped, which paused is not."""
    import omni.timeline

    return bool(omni.timeline.get_timeline_interface().is_stopped())


def play() -> None:
    """Start or continue the timeline."""
    import omni.timeline

    omni.timeline.get_timeline_interface().play()


def stop() -> None:
    """Stop the timeline: bodies go back to where the stage has them, and physics lets go of them."""
    import omni.timeline

    omni.timeline.get_timeline_interface().stop()


# Physics


def on_physics_pre_step(callback: Callable[[], None]) -> int:
    """Call back before every physics step, after the controllers have set their targets, until `remove_callback`.

    There the state is still what the last step led to, and the targets are those that the next step follows: one row
    of a recording.
    """
    from isaacsim.core.simulation_manager import SimulationManager

    if is_6():
        from isaacsim.core.simulation_manager import SimulationEvent

        def stepped(step_dt: float, context: Any) -> None:
            callback()

        return int(SimulationManager.register_callback(stepped, SimulationEvent.PHYSICS_PRE_STEP, order=_LATE))

    from isaacsim.core.simulation_manager import IsaacEvents

    def about_to_step(step_dt: float) -> None:
        callback()

    return int(SimulationManager.register_callback(about_to_step, IsaacEvents.PRE_PHYSICS_STEP, order=_LATE))


def remove_callback(callback_id: int) -> None:
    """End what `on_physics_pre_step` began."""
    from isaacsim.core.simulation_manager import SimulationManager

    SimulationManager.deregister_callback(callback_id)


def physics_hz() -> float:
    """Return the physics steps in a second of simulated time."""
    from isaacsim.core.simulation_manager import SimulationManager

    return 1.0 / float(SimulationManager.get_physics_dt())


class Robot:
    """Read and drive one articulation, in the order of its own joints."""

    def __init__(self, path: str) -> None:
        """Take hold of the articulation at or below a prim path; the timeline must have played."""
        from isaacsim.core.experimental.prims import Articulation

        self._articulation = Articulation(path)

    @property
    def joint_names(self) -> list[str]:
        """Names of the joints."""
        return list(self._articulation.dof_names)

    def positions(self) -> np.ndarray:
        """Return float64 (j,): radians, or metres for sliding joints."""
        return _row(self._articulation.get_dof_positions())

    def velocities(self) -> np.ndarray:
        """Return float64 (j,): radians or metres a second."""
        return _row(self._articulation.get_dof_velocities())

    def targets(self) -> np.ndarray:
        """Return float64 (j,): the position targets that the drives follow."""
        return _row(self._articulation.get_dof_position_targets())

    def set_targets(self, targets: np.ndarray) -> None:
        """Set the position targets, (j,)."""
        self._articulation.set_dof_position_targets(np.asarray(targets, np.float32)[np.newaxis])

    def set_state(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Put the joints where they were, each (j,)."""
        self._articulation.set_dof_positions(np.asarray(positions, np.float32)[np.newaxis])
        self._articulation.set_dof_velocities(np.asarray(velocities, np.float32)[np.newaxis])


class Bodies:
    """Read and put the world poses of rigid bodies, links among them, as physics has them."""

    def __init__(self, paths: list[str]) -> None:
        """Take hold of the bodies at these paths, in this order; the timeline must have played."""
        from isaacsim.core.experimental.prims import RigidPrim

        self._bodies = RigidPrim(paths, resolve_paths=False)

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions (b, 3) in scene units and quaternions (b, 4), real part first; float64."""
        positions, quats = self._bodies.get_world_poses()
        return np.asarray(positions.numpy(), np.float64), np.asarray(quats.numpy(), np.float64)

    def put(self, positions: np.ndarray, quats_wxyz: np.ndarray) -> None:
        """Put the bodies at poses as `poses` returns them, at rest."""
        still = np.zeros((len(positions), 3), np.float32)
        self._bodies.set_world_poses(np.asarray(positions, np.float32), np.asarray(quats_wxyz, np.float32))
        self._bodies.set_velocities(still, still)


# Rendering


def set_capture_on_play(on: bool) -> None:
    """Say whether Replicator captures every frame of a playing timeline by itself."""
    import omni.replicator.core as rep

    rep.orchestrator.set_capture_on_play(on)


def captures_on_play() -> bool:
    """Say what `set_capture_on_play` was last set to."""
    import carb.settings

    return bool(carb.settings.get_settings().get("/omni/replicator/captureOnPlay"))


def dlss_mode() -> int | None:
    """Return how RTX scales its images up; None if it is not set."""
    import carb.settings

    mode = carb.settings.get_settings().get(_DLSS)
    return None if mode is None else int(mode)


def set_dlss_mode(mode: int) -> None:
    """Say how RTX scales its images up: 0 fast, 1 balanced, 2 quality, 3 by itself."""
    import carb.settings

    carb.settings.get_settings().set(_DLSS, mode)


def still_tick_rate(stage: Any, camera_path: str) -> None:
    """Make a camera render at every capture: one with a tick rate of its own would skip some in 6.0."""
    if is_6():
        attribute = stage.GetPrimAtPath(camera_path).GetAttribute("omni:sensor:tickRate")
        if attribute and attribute.Get():
            attribute.Set(0.0)


def render_product(camera_path: str, height: int, width: int, name: str) -> Any:
    """Make a render product of a camera."""
    import omni.replicator.core as rep

    return rep.create.render_product(camera_path, (width, height), name=name, force_new=True)


def annotator(name: str, product: Any) -> Any:
    """Attach an annotator to a render product."""
    import omni.replicator.core as rep

    # Ids as numbers; where RTX packs colours all the same, `labels` reads those too.
    options = {"colorize": False} if "segmentation" in name else None
    made = rep.AnnotatorRegistry.get_annotator(name, init_params=options)
    made.attach(product)
    return made


async def capture(rt_subframes: int) -> None:
    """Render all products once at this very instant: no time passes, physics does not step."""
    import omni.replicator.core as rep

    await rep.orchestrator.step_async(rt_subframes=rt_subframes, pause_timeline=False, delta_time=0.0)


async def captured() -> None:
    """Wait until Replicator has nothing left to write."""
    import omni.replicator.core as rep

    await rep.orchestrator.wait_until_complete_async()


# Settings, menu, keys, notifications


def read_setting(path: str) -> str:
    """Return a setting of the application as text, empty where it is not set."""
    import carb.settings

    value = carb.settings.get_settings().get(path)
    return "" if value is None else str(value)


def write_setting(path: str, value: str) -> None:
    """Set a setting; what is below `/persistent` outlives the application."""
    import carb.settings

    carb.settings.get_settings().set(path, value)


def notify(text: str, is_error: bool) -> None:
    """Show a notification, and write it to the log."""
    import carb
    from omni.kit.notification_manager import NotificationStatus, post_notification

    if is_error:
        carb.log_error(text)
        post_notification(text, status=NotificationStatus.WARNING)
    else:
        carb.log_info(text)
        post_notification(text, status=NotificationStatus.INFO)


def add_menu(menu: str, entries: Mapping[str, Callable[[], None]]) -> Any:
    """Add entries to a menu of the menu bar, made if it is not there; give the answer to `remove_menu`."""
    from omni.kit.menu.utils import MenuItemDescription, add_menu_items

    items = [MenuItemDescription(name=name, onclick_fn=clicked) for name, clicked in entries.items()]
    add_menu_items(items, menu)
    return items


def remove_menu(menu: str, items: Any) -> None:
    """Take away what `add_menu` added."""
    from omni.kit.menu.utils import remove_menu_items

    remove_menu_items(items, menu)


class Keys:
    """Call functions when keys are pressed, until `close`; without a window there are no keys."""

    def __init__(self, pressed: Mapping[str, Callable[[], None]]) -> None:
        """Listen.

        Args:
            pressed: name of a key, as in F8 -> what is called.

        Raises:
            InputError: there is no such key.
        """
        import carb.input
        import omni.appwindow

        self._actions: dict[Any, Callable[[], None]] = {}
        for name, action in pressed.items():
            key = getattr(carb.input.KeyboardInput, name, None)
            if key is None:
                raise InputError(f"hotkey {name!r}: there is no such key; expected a name as F8")
            self._actions[key] = action
        self._press = carb.input.KeyboardEventType.KEY_PRESS
        self._subscription: Any = None
        window = omni.appwindow.get_default_app_window()
        if window is not None:
            self._keyboard = window.get_keyboard()
            self._input = carb.input.acquire_input_interface()
            self._subscription = self._input.subscribe_to_keyboard_events(self._keyboard, self._on_event)

    def close(self) -> None:
        """Listen no more; a second call does nothing."""
        if self._subscription is not None:
            self._input.unsubscribe_to_keyboard_events(self._keyboard, self._subscription)
            self._subscription = None

    def _on_event(self, event: Any) -> bool:
        if event.type == self._press and event.input in self._actions:
            self._actions[event.input]()
        return True


# Standing alone (headless)


def start_app() -> Any:
    """Start Isaac Sim without a window and return its SimulationApp; nothing of Kit can be imported before.

    One GPU: with several, segmentation frames can come back empty (IsaacSim#507). The renderer is each version's own.
    """
    from isaacsim import SimulationApp

    app = SimulationApp({"headless": True, "multi_gpu": False})
    for name in _NEEDED:
        enable_extension(name)
    return app


def close_app(app: Any, exit_code: int) -> None:
    """Close a SimulationApp; the process ends with `exit_code` where the version can."""
    if is_6():
        app.close(wait_for_replicator=True, skip_cleanup=False, exit_code=exit_code)
    else:
        app.close(wait_for_replicator=True, skip_cleanup=False)


def franka_pick_place(phases: list[int]) -> Any:
    """Return Isaac Sim's own scripted pick-and-place of a Franka, not yet set up; `phases` are calls of `forward`."""
    if is_6():
        enable_extension("isaacsim.robot.experimental.manipulators.examples")
        from isaacsim.robot.experimental.manipulators.examples.franka import FrankaPickPlace as Franka6

        return Franka6(events_dt=phases)
    enable_extension("isaacsim.robot.manipulators.examples")
    from isaacsim.robot.manipulators.examples.franka import FrankaPickPlace as Franka5

    return Franka5(events_dt=phases)


def _row(values: Any) -> np.ndarray:
    return np.asarray(values.numpy(), np.float64).reshape(-1)
