"""The table-top scene as MJCF: room, table, arm, cameras, lights and the objects of a task.

Names that the appearance relies on: a material and a texture for each of "table", "wall", "floor" (2D), "robot",
"robot_dark" and every object (cube maps); lights "light0" to "light2". World frame: z up, the origin in the middle of
the table's surface, the arm's base at negative x and facing +x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import UInt16

from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.sim.appearance import MAX_LIGHTS
from cosmos_engine.sim.arm import arm_actuators_xml, arm_bodies_xml, finger_coupling_xml
from cosmos_engine.sim.look import Distractor

PHYSICS_STEP_S = 0.005
TABLE_HEIGHT_M = 0.45
"""Height of the table's surface above the floor."""
ARM_BASE_M = (-0.56, 0.0, 0.0)
AGENTVIEW = "agentview"
EYE_IN_HAND = "robot0_eye_in_hand"
CAMERAS = (AGENTVIEW, EYE_IN_HAND)

Shape = Literal["cube", "apple", "bowl"]


@dataclass(frozen=True)
class SceneObject:
    """Describe a free object: its name (also of its material), its shape (also its class), colour and half extent.

    `half_extent_m` is half the edge of a cube, the radius of an apple and the outer radius of a bowl's rim. The colour
    is the one that the task's instruction names; an appearance may use another.
    """

    name: str
    shape: Shape
    color: str
    half_extent_m: float

    @property
    def rest_height_m(self) -> float:
        """Height of the object's frame above the surface it rests on."""
        return 0.0 if self.shape == "bowl" else self.half_extent_m


BOWL_HEIGHT_M = 0.042
"""Height of the rim above the bowl's frame, which is the middle of its underside."""
BOWL_FLOOR_M = 0.006
"""Thickness of the bowl's floor."""
_BOWL_FOOT_FRACTION = 0.6  # radius of the floor relative to the rim
_BOWL_STAVES = 14

TABLE_INSTANCE, WALL_INSTANCE, FLOOR_INSTANCE = 3, 4, 5
_ROBOT_INSTANCE, _GRIPPER_INSTANCE, _FIRST_OBJECT_INSTANCE = 1, 2, 6


def build_model(objects: Sequence[SceneObject]) -> mujoco.MjModel:
    """Compile the scene with `objects`, each free to move, in the given order."""
    return mujoco.MjModel.from_xml_string(_scene_xml(objects))


def instance_labels(objects: Sequence[SceneObject], distractors: Sequence[Distractor] = ()) -> dict[int, InstanceLabel]:
    """Return what each instance id of the scene means; the ids of a task never change, those of distractors follow."""
    labels = {
        _ROBOT_INSTANCE: InstanceLabel("robot", "robot_arm", "robot"),
        _GRIPPER_INSTANCE: InstanceLabel("gripper", "gripper", "robot"),
        TABLE_INSTANCE: InstanceLabel("table", "table", "scene"),
        WALL_INSTANCE: InstanceLabel("wall", "wall", "scene"),
        FLOOR_INSTANCE: InstanceLabel("floor", "floor", "scene"),
    }
    for index, item in enumerate(objects):
        labels[_FIRST_OBJECT_INSTANCE + index] = InstanceLabel(item.name, f"{item.color} {item.shape}", "manipulated")
    for index, seen in enumerate(distractors):
        label = InstanceLabel(f"distractor{index}", f"{seen.color} {seen.shape}", "scene")
        labels[_FIRST_OBJECT_INSTANCE + len(objects) + index] = label
    return labels


def geom_instances(
    model: mujoco.MjModel, objects: Sequence[SceneObject], distractors: Sequence[Distractor] = ()
) -> UInt16[np.ndarray, " geom"]:
    """Return the instance id of every geom of a model that `build_model` compiled from `objects`.

    Those of the distractors, which are no geoms of the model, come after.
    """
    static = {"table": TABLE_INSTANCE, "wall": WALL_INSTANCE, "floor": FLOOR_INSTANCE}
    by_name = {item.name: _FIRST_OBJECT_INSTANCE + index for index, item in enumerate(objects)}
    instances = np.zeros(model.ngeom, dtype=np.uint16)
    for geom in range(model.ngeom):
        body_name = model.body(int(model.geom_bodyid[geom])).name
        if body_name in by_name:
            instances[geom] = by_name[body_name]
        elif body_name in static:
            instances[geom] = static[body_name]
        else:
            instances[geom] = _GRIPPER_INSTANCE if body_name.startswith("gripper_") else _ROBOT_INSTANCE
    after = _FIRST_OBJECT_INSTANCE + len(objects)
    return np.concatenate([instances, np.arange(after, after + len(distractors), dtype=np.uint16)])


def _scene_xml(objects: Sequence[SceneObject]) -> str:
    return f"""
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <!-- Measured on `lift`: pyramidal cones with three no-slip iterations let a held cube creep by less than 0.1 mm in
       10 s and keep it while the hand is shaken; without them it creeps by 9 mm. -->
  <option timestep="{PHYSICS_STEP_S}" integrator="implicitfast" cone="pyramidal" noslip_iterations="3"/>
  <!-- userdata: the commanded pose of the tool centre point (position, quaternion wxyz). -->
  <size nuserdata="7"/>
  <statistic center="0 0 0" extent="1"/>
  <visual>
    <map znear="0.01" zfar="20"/>
  </visual>
  <!-- Collision bits: 1 = bodies that rest on the table; 2 = the bowl's staves, which only meet what goes in. -->
  <default>
    <default class="robot">
      <geom contype="0" conaffinity="0"/>
      <joint damping="1"/>
      <default class="gripper">
        <geom contype="3" conaffinity="3" friction="0.6 0.005 0.0001"/>
      </default>
      <default class="pad">
        <geom contype="3" conaffinity="3" friction="1.6 0.02 0.0002" condim="4" priority="1" solref="0.01 1"
          solimp="0.95 0.99 0.001"/>
      </default>
    </default>
    <default class="object">
      <geom friction="0.9 0.005 0.0005" condim="4"/>
    </default>
  </default>
  <asset>
    {_materials_xml(objects)}
  </asset>
  <worldbody>
    {_room_xml()}
    {arm_bodies_xml(ARM_BASE_M)}
    {"".join(_object_xml(item) for item in objects)}
  </worldbody>
  <actuator>
    {arm_actuators_xml()}
  </actuator>
  <equality>
    {finger_coupling_xml()}
  </equality>
</mujoco>"""


def _materials_xml(objects: Sequence[SceneObject]) -> str:
    """Return the blank materials and textures that an appearance fills."""
    textures = [(name, "2d", 256) for name in ("table", "wall", "floor")]
    textures += [(name, "cube", 128) for name in ("robot", "robot_dark")]
    textures += [(item.name, "cube", 64) for item in objects]
    return "".join(
        f'<texture name="{name}" type="{kind}" builtin="flat" width="{size_px}" height="{size_px}" rgb1="1 1 1"/>'
        f'<material name="{name}" texture="{name}"/>'
        for name, kind, size_px in textures
    )


def _room_xml() -> str:
    """Return table, floor, wall, lights and the front camera; the camera of the hand is the arm's."""
    leg_m = (TABLE_HEIGHT_M - 0.06) / 2
    legs = "".join(
        f'<geom type="box" pos="{x} {y} {-0.03 - leg_m}" size="0.025 0.025 {leg_m}" material="table" contype="0"'
        f' conaffinity="0"/>'
        for x in (-0.5, 0.5)
        for y in (-0.34, 0.34)
    )
    # Direction, colour and strength are the appearance's.
    lights = "".join(f'<light name="light{i}" directional="true" pos="0 0 3"/>' for i in range(MAX_LIGHTS))
    return f"""
    {lights}
    <camera name="{AGENTVIEW}" pos="0.66 0.12 0.5" xyaxes="-0.15 0.989 0 -0.465 -0.07 0.883" fovy="43"/>
    <body name="floor" pos="0 0 -{TABLE_HEIGHT_M}"><geom type="plane" size="3 3 0.1" material="floor"/></body>
    <body name="wall" pos="-1.9 0 1.0">
      <geom type="plane" size="1.6 3 0.1" zaxis="1 0 0" material="wall" contype="0" conaffinity="0"/>
    </body>
    <body name="table" pos="-0.16 0 -0.03">
      <geom type="box" size="0.54 0.38 0.03" material="table" friction="0.9 0.005 0.0005"/>
      {legs}
    </body>"""


def _object_xml(item: SceneObject) -> str:
    geoms = {"cube": _cube_geoms_xml, "apple": _apple_geoms_xml, "bowl": _bowl_geoms_xml}[item.shape](item)
    return f"""
    <body name="{item.name}" childclass="object">
      <joint name="{item.name}" type="free"/>
      {geoms}
    </body>"""


def _cube_geoms_xml(item: SceneObject) -> str:
    half = item.half_extent_m
    return f'<geom type="box" size="{half} {half} {half}" material="{item.name}" mass="0.1"/>'


def _apple_geoms_xml(item: SceneObject) -> str:
    radius = item.half_extent_m
    # Rolling friction (condim 6) lets the apple come to rest; the stem is only seen.
    return f"""
      <geom type="sphere" size="{radius}" material="{item.name}" mass="0.08" condim="6" friction="0.9 0.01 0.002"
        contype="3" conaffinity="3"/>
      <geom type="capsule" fromto="0 0 {0.9 * radius} 0.004 0 {1.25 * radius}" size="0.003" material="{item.name}"
        mass="0" contype="0" conaffinity="0"/>"""


def _bowl_geoms_xml(item: SceneObject) -> str:
    foot_m = _BOWL_FOOT_FRACTION * item.half_extent_m
    inscribed_m = foot_m / math.sqrt(2)
    # The floor is seen as a disc and collides, unseen, as a square: MuJoCo is much faster at box against box.
    geoms = [
        f'<geom type="cylinder" fromto="0 0 0 0 0 {BOWL_FLOOR_M}" size="{foot_m}" material="{item.name}" mass="0"'
        f' contype="0" conaffinity="0"/><geom type="box" pos="0 0 {BOWL_FLOOR_M / 2}" mass="0.15" group="3"'
        f' size="{inscribed_m:.6f} {inscribed_m:.6f} {BOWL_FLOOR_M / 2}" contype="3" conaffinity="3"/>'
    ]
    lean_rad = math.atan2(item.half_extent_m - foot_m, BOWL_HEIGHT_M)
    middle_m = (item.half_extent_m + foot_m) / 2
    half_height_m = math.hypot(item.half_extent_m - foot_m, BOWL_HEIGHT_M) / 2
    # Wide enough for neighbours to meet at the rim.
    half_width_m = item.half_extent_m * math.tan(math.pi / _BOWL_STAVES)
    for stave in range(_BOWL_STAVES):
        angle = 2 * math.pi * stave / _BOWL_STAVES
        position = (middle_m * math.cos(angle), middle_m * math.sin(angle), BOWL_HEIGHT_M / 2)
        tangent = (-math.sin(angle), math.cos(angle), 0.0)
        upwards = (math.sin(lean_rad) * math.cos(angle), math.sin(lean_rad) * math.sin(angle), math.cos(lean_rad))
        geoms.append(
            f'<geom type="box" pos="{_numbers(position)}" xyaxes="{_numbers(tangent)} {_numbers(upwards)}"'
            f' size="{half_width_m:.6f} {half_height_m:.6f} 0.003" material="{item.name}" mass="0.008" contype="2"'
            f' conaffinity="2"/>'
        )
    return "\n".join(geoms)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.8f}" for value in values)
