"""A strict stand-in for Kit, made from the recorded signatures, with a small world that moves and is rendered.

Every name that is not recorded for the version raises AttributeError, every argument that does not bind TypeError. What
can be checked with it is that the extension calls what there is, in an order that works, and that its data is right;
how Isaac Sim renders, and how its window looks, cannot.

The world: a robot of two joints and a hand, and a cube that the hand carries along from half way. Physics has poses of
its own while the timeline plays, as PhysX has, and the stage keeps the ones it was authored with. The renderer shows
physics while the timeline plays, else the stage: so a replay is right only if it puts poses on the stage. The first
frame after either changes over is stale, as in Isaac Sim.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))

from signatures import ROOTS, containers, is_class, recorded, signature

from isaac_ext import stage as stage_module
from isaac_ext.appearance import ROOT

PHYSICS_HZ = 60.0
JOINTS = ["arm_joint", "panda_finger_joint1"]
HAND_SPEED_M = 0.004
LABEL_FORMATS = ("paths", "text_ids", "rgba_packed", "rgba_pixels", "classes")
"""Forms of idToLabels, see `isaac_ext.labels`."""
REP = "omni.replicator.core"


class FakeKit:
    """Hold the behaviour behind the recorded names, and install it as modules."""

    def __init__(self, version: str, world: World) -> None:
        self.version = version
        self.world = world
        self.settings: dict[str, Any] = {"/omni/replicator/captureOnPlay": True, "/rtx/post/dlss/execMode": 0}
        self.notifications: list[tuple[str, str]] = []
        self.menus: dict[str, list[Any]] = {}
        self.widgets: list[Any] = []
        self.windows: list[Any] = []
        self.entered: list[Any] = []
        """Widgets whose `with` blocks are being run: what is made meanwhile is their child."""
        self.keyboard: list[Callable[[Any], bool]] = []
        self.callbacks: dict[int, Callable[..., None]] = {}
        self.attached: list[Any] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.update_s = 0.0
        """Pause between updates; above 0 where another process is to get on meanwhile."""
        self.classes: dict[str, type] = {}
        self.behaviour = self._behaviour()

    # Installing

    def install(self, monkeypatch: Any) -> None:
        """Put the modules in place until the test ends."""
        modules: dict[str, types.ModuleType] = {}
        for name in sorted(containers()):
            if not any(is_class(".".join(name.split(".")[:end])) for end in range(1, name.count(".") + 2)):
                modules[name] = types.ModuleType(name)
                modules[name].__path__ = []  # type: ignore[attr-defined]
        for name, module in modules.items():
            if name.split(".")[0] in ROOTS:
                monkeypatch.setitem(sys.modules, name, module)
                parent, _, last = name.rpartition(".")
                if parent:
                    setattr(modules[parent], last, module)
        for name, entry in recorded().items():
            parent, _, last = name.rpartition(".")
            if self.version in entry.signatures and parent in modules:
                setattr(modules[parent], last, self._value(name))
        for name in containers():
            parent, _, last = name.rpartition(".")
            if is_class(name) and parent in modules and not hasattr(modules[parent], last) and self._exists(name):
                setattr(modules[parent], last, self._class(name))

    def _exists(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") and self.version in entry.signatures for key, entry in recorded().items())

    def _value(self, name: str) -> Any:
        entry = recorded()[name]
        if entry.kind == "class":
            return self._class(name)
        if entry.kind == "attribute":
            return self._class(entry.returns)() if entry.returns else name
        return self._function(name, None)

    def _function(self, name: str, owner: Any) -> Callable[..., Any]:
        entry = recorded()[name]
        if self.version not in entry.signatures:
            raise AttributeError(f"{name}: not in Isaac Sim {self.version}")
        parameters = signature(entry.signatures[self.version])

        def called(*args: Any, **kwargs: Any) -> Any:
            parameters.bind(*args, **kwargs)
            behaviour = self.behaviour.get(name)
            if behaviour is None:
                return self._class(entry.returns)() if entry.returns else None
            return behaviour(owner, *args, **kwargs)

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            parameters.bind(*args, **kwargs)
            behaviour = self.behaviour.get(name)
            return None if behaviour is None else await behaviour(owner, *args, **kwargs)

        return awaited if entry.kind == "async" else called

    def _class(self, name: str) -> type:
        if name not in self.classes:
            kit = self

            class Strict:
                kit_name = name

                def __init__(self, *args: Any, **kwargs: Any) -> None:
                    entry = recorded().get(name)
                    text = entry.signatures.get(kit.version, "") if entry else ""
                    self.given: dict[str, Any] = {}
                    self.children: list[Any] = []
                    if name.startswith("omni.ui.") and not name.endswith("Model") and kit.entered:
                        kit.entered[-1].children.append(self)
                    if text:
                        bound = signature(text).bind(*args, **kwargs)
                        self.given = dict(bound.arguments)
                    elif args or kwargs:
                        raise TypeError(f"{name} takes no arguments")
                    made = kit.behaviour.get(f"{name}()")
                    if made is not None:
                        made(self)

                def __getattr__(self, word: str) -> Any:
                    return kit._member(name, word, self)

                def __enter__(self) -> Any:
                    kit.entered.append(self)
                    return self

                def __exit__(self, *error: Any) -> None:
                    kit.entered.pop()

            Strict.__name__ = Strict.__qualname__ = name.rpartition(".")[2]

            class Meta(type(Strict)):  # type: ignore[misc]
                def __getattr__(cls, word: str) -> Any:
                    return kit._member(name, word, None)

            made = self.classes[name] = Meta(Strict.__name__, (Strict,), {})
            for key, entry in recorded().items():
                owner, _, word = key.rpartition(".")
                if owner == name and name == "omni.ui.Window" and entry.kind == "function":
                    # What subclasses reach through super(), which asks no __getattr__.
                    setattr(
                        made, word, lambda this, *args, key=key, **kwargs: self._function(key, this)(*args, **kwargs)
                    )
        return self.classes[name]

    def _member(self, name: str, word: str, owner: Any) -> Any:
        key = f"{name}.{word}"
        entry = recorded().get(key)
        if entry is None or self.version not in entry.signatures:
            raise AttributeError(f"{key}: not recorded for Isaac Sim {self.version}")
        if entry.kind != "attribute":
            return self._function(key, owner)
        behaviour = self.behaviour.get(key)
        if behaviour is not None:
            return behaviour(owner)
        value = self._value(key)
        if owner is not None:
            owner.__dict__[word] = value
        return value

    # What it does

    async def run_updates(self) -> None:
        """Update the application for ever, as its main loop does."""
        while True:
            self.world.update(self.pre_steps)
            waiting, self.waiting = self.waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            await asyncio.sleep(self.update_s)

    def pre_steps(self) -> None:
        """Call what is registered before a physics step, with the arguments of the version."""
        for callback in list(self.callbacks.values()):
            callback(1 / PHYSICS_HZ) if self.version == "5.1" else callback(1 / PHYSICS_HZ, object())

    def button(self, text: str) -> Any:
        """Return the newest button with a text; press it with `.given["clicked_fn"]()`."""
        for widget in reversed(self.widgets):
            if widget.kit_name == "omni.ui.Button" and (widget.__dict__.get("text") or widget.given["text"]) == text:
                return widget
        raise AssertionError(f"no button {text!r}")

    def labels_shown(self) -> list[str]:
        """Return the texts of all labels."""
        return [w.__dict__.get("text", w.given.get("text", "")) for w in self.widgets if w.kit_name == "omni.ui.Label"]

    def press(self, key: str) -> None:
        """Press a key."""
        event = types.SimpleNamespace(
            type="carb.input.KeyboardEventType.KEY_PRESS", input=f"carb.input.KeyboardInput.{key}"
        )
        for handler in list(self.keyboard):
            handler(event)

    def click_menu(self, menu: str, name: str) -> None:
        """Choose an entry of the menu bar."""
        entry = next(item for item in self.menus[menu] if item.given["name"] == name)
        entry.given["onclick_fn"]()

    async def _next_update(self, owner: Any) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future

    async def _step_async(
        self,
        owner: Any,
        rt_subframes: int = -1,
        pause_timeline: bool = True,
        delta_time: float | None = None,
        wait_for_render: bool = True,
    ) -> None:
        if self.settings["/omni/replicator/captureOnPlay"]:
            raise AssertionError("capture on play is on: frames would be captured twice")
        self.world.frozen = delta_time == 0.0
        for _ in range(2):
            await self._next_update(None)
        self.world.frozen = False
        if pause_timeline:
            self.world.playing = False
        self.world.render()

    def _sync_step(self, owner: Any, **options: Any) -> None:
        raise RuntimeError("step() cannot be called inside Kit; use step_async()")

    def _register(self, owner: Any, callback: Callable[..., None], event: Any, **options: Any) -> int:
        wanted = {"5.1": "IsaacEvents.PRE_PHYSICS_STEP", "6.0": "SimulationEvent.PHYSICS_PRE_STEP"}[self.version]
        assert str(event).endswith(wanted), event
        number = len(self.callbacks) + 1
        self.callbacks[number] = callback
        return number

    def _run_coroutine(self, owner: Any, coroutine: Any) -> Any:
        task = asyncio.ensure_future(coroutine)
        self.tasks.append(task)
        return task

    def _post(self, owner: Any, text: str, hide: Any = True, duration: Any = 3, status: Any = "", **rest: Any) -> None:
        self.notifications.append((str(status).rpartition(".")[2], text))

    def _attach(self, annotator: Any, product: Any) -> None:
        annotator.__dict__["camera"] = product.__dict__["camera"]
        annotator.__dict__["resolution"] = product.__dict__["resolution"]
        self.attached.append(annotator)

    def _get_annotator(self, owner: Any, name: str, **options: Any) -> Any:
        made = self._class(f"{REP}.Annotator")()
        made.__dict__["pass_name"] = name
        return made

    def _render_product(self, owner: Any, camera: str, resolution: Any, **options: Any) -> Any:
        made = self._class(f"{REP}.HydraTexture")()
        made.__dict__.update(camera=camera, resolution=resolution)
        return made

    def _behaviour(self) -> dict[str, Callable[..., Any]]:
        world = self.world
        prims = "isaacsim.core.experimental.prims"
        manager = "isaacsim.core.simulation_manager.SimulationManager"
        model = "omni.ui.AbstractValueModel"

        def array(values: Any) -> Any:
            made = self._class("warp.array")()
            made.__dict__["values"] = np.array(values, np.float32)
            return made

        def set_value(owner: Any, value: Any) -> None:
            owner.__dict__["value"] = value

        def end_edit(owner: Any, edited: Callable[[Any], None]) -> None:
            owner.__dict__["edited"] = edited

        return {
            "isaacsim.core.version.get_version": lambda owner: (
                ("5.1.0", "", "5", "1", "0", "", "", "")
                if self.version == "5.1"
                else ("6.0.1", "", "6", "0", "1", "", "", "")
            ),
            "omni.usd.UsdContext.get_stage": lambda owner: world.stage,
            "omni.kit.app.IApp.next_update_async": self._next_update,
            "omni.kit.async_engine.run_coroutine": self._run_coroutine,
            "omni.timeline.Timeline.play": lambda owner: world.play(),
            "omni.timeline.Timeline.stop": lambda owner: world.stop(),
            "omni.timeline.Timeline.is_playing": lambda owner: world.playing,
            "omni.timeline.Timeline.is_stopped": lambda owner: world.stopped,
            f"{manager}.register_callback": self._register,
            f"{manager}.deregister_callback": lambda owner, number: self.callbacks.pop(number),
            f"{manager}.get_physics_dt": lambda owner, scene=None: 1 / PHYSICS_HZ,
            f"{prims}.Articulation.dof_names": lambda owner: list(JOINTS),
            f"{prims}.Articulation.get_dof_positions": lambda owner, **_: array([world.joints]),
            f"{prims}.Articulation.get_dof_velocities": lambda owner, **_: array([world.velocities]),
            f"{prims}.Articulation.get_dof_position_targets": lambda owner, **_: array([world.targets]),
            f"{prims}.Articulation.set_dof_position_targets": lambda owner, values, **_: world.set_targets(values),
            f"{prims}.RigidPrim.get_world_poses": lambda owner, **_: tuple(
                array(part) for part in world.physics_poses(owner.given["paths"])
            ),
            "warp.array.numpy": lambda owner: owner.values,
            f"{REP}.orchestrator.step": self._sync_step,
            f"{REP}.orchestrator.step_async": self._step_async,
            f"{REP}.orchestrator.set_capture_on_play": lambda owner, value: self.settings.update(
                {"/omni/replicator/captureOnPlay": value}
            ),
            f"{REP}.create.render_product": self._render_product,
            f"{REP}.HydraTexture.destroy": lambda owner: owner.__dict__.update(destroyed=True),
            f"{REP}.AnnotatorRegistry.get_annotator": self._get_annotator,
            f"{REP}.Annotator.attach": self._attach,
            f"{REP}.Annotator.detach": lambda owner, _=None: self.attached.remove(owner),
            f"{REP}.Annotator.get_data": lambda owner, **_: world.data(owner.camera, owner.resolution, owner.pass_name),
            "carb.settings.ISettings.get": lambda owner, path: self.settings.get(path),
            "carb.settings.ISettings.set": lambda owner, path, value: self.settings.update({path: value}),
            "carb.input.IInput.subscribe_to_keyboard_events": lambda owner, keyboard, handler: (
                self.keyboard.append(handler) or len(self.keyboard)
            ),
            "carb.input.IInput.unsubscribe_to_keyboard_events": lambda owner, keyboard, number: self.keyboard.clear(),
            "omni.kit.notification_manager.post_notification": self._post,
            "omni.kit.menu.utils.add_menu_items": lambda owner, items, name, *_, **__: self.menus.update({name: items}),
            "omni.kit.menu.utils.remove_menu_items": lambda owner, items, name, *_, **__: self.menus.pop(name),
            "omni.ui.Window()": self.windows.append,
            "omni.ui.VStack.clear": lambda owner: owner.children.clear(),
            "omni.ui.Label()": self.widgets.append,
            "omni.ui.Button()": self.widgets.append,
            "omni.ui.Label.text": lambda owner: owner.given["text"],
            "omni.ui.Button.text": lambda owner: owner.given["text"],
            "omni.ui.Image()": self.widgets.append,
            "omni.ui.StringField()": self.widgets.append,
            f"{model}.set_value": set_value,
            f"{model}.get_value_as_string": lambda owner: str(owner.value),
            f"{model}.get_value_as_int": lambda owner: int(owner.value),
            f"{model}.add_end_edit_fn": end_edit,
        }


@dataclass
class World:
    """A stage, what physics makes of it, and what its cameras see."""

    stage: Any
    label_format: str = "paths"
    physics_per_update: int = 1
    playing: bool = False
    stopped: bool = True
    frozen: bool = False
    physics_goes_on_while_rendering: bool = False
    empty_passes: bool = False
    teleoperated: bool = True
    """Whether somebody sets new targets before each physics step."""
    time_steps: int = 0
    joints: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.04]))
    velocities: np.ndarray = field(default_factory=lambda: np.zeros(2))
    targets: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.04]))
    rendered: Any = None
    shown: str = ""

    def play(self) -> None:
        if self.stopped:
            self.time_steps, self.joints = 0, np.array([0.0, 0.04])
        self.playing, self.stopped = True, False

    def stop(self) -> None:
        self.playing, self.stopped = False, True

    def set_targets(self, values: Any) -> None:
        self.targets = np.asarray(values, np.float64).reshape(-1)

    def update(self, before_step: Callable[[], None]) -> None:
        """Make an update of the application: physics steps if the timeline plays and no capture holds it."""
        if not self.playing or (self.frozen and not self.physics_goes_on_while_rendering):
            return
        for _ in range(self.physics_per_update):
            if self.teleoperated:
                self.set_targets([HAND_SPEED_M * (self.time_steps + 1), 0.04 if self.time_steps < 20 else 0.0])
            before_step()
            moved = self.targets - self.joints
            self.joints, self.velocities = self.joints + moved, moved * PHYSICS_HZ
            self.time_steps += 1

    def physics_poses(self, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return where physics has bodies: float (b, 3) and (b, 4)."""
        authored = stage_module.world_poses(self.stage, paths)
        positions = authored.positions.copy()
        for index, path in enumerate(paths):
            if path == "/World/robot/panda_hand":
                positions[index] += [self.joints[0], 0.0, 0.0]
            if path == "/World/Cube":
                positions[index] += [max(0.0, self.joints[0] - 10 * HAND_SPEED_M), 0.0, 0.0]
        return positions, authored.quats_wxyz

    def render(self) -> None:
        """Render what is seen now; after a change between physics and stage the frame before is kept once more."""
        bodies = stage_module.body_paths(self.stage)
        source = "stage" if self.stopped else "physics"
        if self.stopped:
            positions = stage_module.world_poses(self.stage, bodies).positions
        else:
            positions = self.physics_poses(bodies)[0]
        if source != self.shown and self.rendered is not None:
            self.shown = source
            return
        self.shown, self.rendered = source, dict(zip(bodies, positions, strict=True))

    def data(self, camera: str, resolution: tuple[int, int], name: str) -> Any:
        """Return what an annotator has of the last rendered frame."""
        width, height = resolution
        view, focal_px = self._lens(camera, width)
        if name == "camera_params":
            projection = np.zeros((4, 4))
            projection[0, 0], projection[1, 1] = 2 * focal_px / width, 2 * focal_px / height
            projection[2, 3], projection[3, 2] = -1.0, 0.01
            return {
                "cameraModel": "pinhole",
                "cameraViewTransform": view.reshape(-1),
                "cameraProjection": projection.reshape(-1),
                "renderProductResolution": np.array([width, height]),
                "metersPerSceneUnit": 1.0,
            }
        if self.empty_passes:
            return (
                {"data": np.zeros(0, np.uint32), "info": {"idToLabels": {}}} if "seg" in name else np.zeros(0, np.uint8)
            )
        rgb, depth, ids, paths = self._draw(view, focal_px, width, height)
        if name == "rgb":
            return np.concatenate([rgb, np.full((height, width, 1), 255, np.uint8)], axis=2)
        if name == "distance_to_image_plane":
            return depth
        return self._segmentation(ids, paths)

    def _lens(self, camera: str, width: int) -> tuple[np.ndarray, float]:
        from pxr import UsdGeom

        prim = self.stage.GetPrimAtPath(camera)
        matrix = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(prim))
        lens = UsdGeom.Camera(prim)
        focal_px = lens.GetFocalLengthAttr().Get() * width / lens.GetHorizontalApertureAttr().Get()
        return np.linalg.inv(matrix), float(focal_px)

    def _draw(self, view: np.ndarray, focal_px: float, width: int, height: int) -> Any:
        """Draw each body as a square that faces the camera, before a floor plane in the lower half."""
        rgb = np.full((height, width, 3), 40, np.uint8)
        depth = np.full((height, width), np.inf, np.float32)
        ids = np.zeros((height, width), np.uint32)
        paths = ["", "/World/Table/top"]
        depth[height // 2 :], ids[height // 2 :], rgb[height // 2 :] = 4.0, 1, (90, 70, 50)
        # Something for a look to change: stripes in the brightness.
        rgb[height // 2 :: 4] //= 2
        self._cover(rgb, ids == 1, "/World/Table")
        if self.stage.GetPrimAtPath(f"{ROOT}/wall"):
            paths.append(f"{ROOT}/wall")
            behind = np.isinf(depth)
            depth[behind], ids[behind] = 6.0, 2
            self._cover(rgb, behind, f"{ROOT}/wall")
        looks = self.stage.GetPrimAtPath(ROOT)
        added = [str(prim.GetPath()) for prim in looks.GetChildren() if "bystander" in prim.GetName()] if looks else []
        standing = dict(zip(added, stage_module.world_poses(self.stage, added).positions, strict=True))
        for number, (path, position) in enumerate(((self.rendered or {}) | standing).items(), start=len(paths)):
            paths.append(path if path in standing else f"{path}/visuals/mesh")
            x, y, z = ([*position, 1.0] @ view)[:3]
            if z >= 0:
                continue
            centre = np.array([width / 2 + focal_px * x / -z - 0.5, height / 2 - focal_px * y / -z - 0.5])
            half = focal_px * 0.06 / -z
            rows, columns = np.mgrid[:height, :width]
            inside = (abs(columns - centre[0]) <= half) & (abs(rows - centre[1]) <= half) & (depth > -z)
            depth[inside], ids[inside] = -z, number
            rgb[inside] = ((60 * number) % 200 + 40, (110 * number) % 200 + 40, (170 * number) % 200 + 40)
            self._cover(rgb, inside, path)
        return np.clip(rgb * self._light(), 0, 255).astype(np.uint8), depth, ids, paths

    def _cover(self, rgb: np.ndarray, where: np.ndarray, path: str) -> None:
        """Draw a prim's material: its colour, or stripes for a texture; nothing changes where none is bound."""
        from pxr import UsdShade

        prim = self.stage.GetPrimAtPath(path)
        material = prim and UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
        if not material:
            return
        shader = material.ComputeSurfaceSource("mdl")[0]
        if shader.GetInput("diffuse_texture"):
            columns = np.broadcast_to(np.arange(rgb.shape[1]) // 4 % 2 * 200, where.shape)
            rgb[where] = columns[where][:, np.newaxis]
        else:
            rgb[where] = np.array(shader.GetInput("diffuse_color_constant").Get()) * 255

    def _light(self) -> np.ndarray:
        """Return the light's colour, 1 as authored; (3,), or 1 where there is none."""
        from pxr import UsdLux

        prim = self.stage.GetPrimAtPath("/World/Light")
        if not prim:
            return np.ones(3)
        light = UsdLux.LightAPI(prim)
        return np.array(light.GetColorAttr().Get()) * light.GetIntensityAttr().Get() / 1000.0

    def _segmentation(self, ids: np.ndarray, paths: list[str]) -> dict[str, Any]:
        """Return the ids in the form of `label_format`; ids of one frame mean nothing in the next."""
        shift = 3 + self.time_steps % 5
        colors = [(33 + 3 * number, 243 - number, 3, 255) for number in range(len(paths))]
        packed = np.array([int.from_bytes(bytes(color), "little") for color in colors], np.uint32)
        names = {number: path or "BACKGROUND" for number, path in enumerate(paths)}
        if self.label_format == "rgba_packed":
            labels: dict[Any, Any] = {str(colors[number]): name for number, name in names.items()}
            return {"data": packed[ids].view(np.int32), "info": {"idToLabels": labels}}
        if self.label_format == "rgba_pixels":
            labels = {colors[number]: name for number, name in names.items()}
            return {"data": np.array(colors, np.uint8)[ids], "info": {"idToLabels": labels}}
        if self.label_format == "classes":
            classes = {0: "BACKGROUND", 1: "table"} | {
                number: "cube" if "Cube" in path else "robot" for number, path in names.items() if number > 1
            }
            labels = {str(number + shift): {"class": name} for number, name in classes.items()}
        elif self.label_format == "text_ids":
            labels = {str(number + shift): name for number, name in names.items()}
        else:
            labels = {number + shift: name for number, name in names.items()}
        return {"data": (ids + shift).astype(np.uint32), "info": {"idToLabels": labels}}


def small_stage(*, labelled: bool = False) -> Any:
    """Return a stage with a robot, a cube, a table and two cameras, one on the robot's hand."""
    from pxr import Gf, Usd, UsdGeom, UsdLux, UsdPhysics

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdGeom.Xform.Define(stage, "/World")
    UsdLux.DomeLight.Define(stage, "/World/Light").CreateIntensityAttr(1000.0)
    UsdGeom.Cube.Define(stage, "/World/Table")
    robot = UsdGeom.Xform.Define(stage, "/World/robot").GetPrim()
    UsdPhysics.ArticulationRootAPI.Apply(robot)
    for path, position in (
        ("/World/robot/panda_link0", (0.0, 0.0, 0.1)),
        ("/World/robot/panda_hand", (0.1, 0.0, 0.5)),
        ("/World/Cube", (0.4, 0.1, 0.03)),
    ):
        body = UsdGeom.Xform.Define(stage, path)
        body.AddTranslateOp().Set(Gf.Vec3d(*position))
        body.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(1.0))
        body.AddScaleOp().Set(Gf.Vec3f(0.05, 0.05, 0.05) if path.endswith("Cube") else Gf.Vec3f(1.0))
        UsdPhysics.RigidBodyAPI.Apply(body.GetPrim())
        UsdGeom.Cube.Define(stage, f"{path}/visuals")
    cameras = (("/World/front", (2.0, 0.6, 0.9)), ("/World/robot/panda_hand/wrist", (0.0, 0.0, 0.2)))
    for path, position in cameras:
        camera = UsdGeom.Camera.Define(stage, path)
        camera.CreateFocalLengthAttr(18.0)
        camera.CreateHorizontalApertureAttr(20.955)
        if path.endswith("front"):
            look = Gf.Matrix4d().SetLookAt(Gf.Vec3d(*position), Gf.Vec3d(0.3, 0.05, 0.2), Gf.Vec3d(0, 0, 1))
            camera.MakeMatrixXform().Set(look.GetInverse())
        else:
            camera.AddTranslateOp().Set(Gf.Vec3d(*position))
    if labelled:
        for path, label in (("/World/robot", "robot"), ("/World/Cube", "cube"), ("/World/Table", "table")):
            stage_module.set_label(stage, path, label)
        stage_module.set_label(stage, "/World/Cube", "manipulated", stage_module.ROLE_TAXONOMY)
    return stage
