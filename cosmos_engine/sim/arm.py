"""A 7-DoF arm of primitive geometry on the Franka Emika Panda's published kinematics, with its two-finger hand.

Kinematics and limits: Franka Control Interface documentation, "Robot and interface specifications" (modified
Denavit-Hartenberg parameters, joint limits, torque limits). Shapes and masses are our own: capsules, cylinders and
boxes that stand for the links. Only hand and fingers collide; the links are visual.
"""

from __future__ import annotations

import math

JOINT_COUNT = 7

# (a m, d m, alpha rad) of modified DH (Craig): T = RotX(alpha) TransX(a) RotZ(q) TransZ(d).
MODIFIED_DH: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
FLANGE_M = 0.107
"""Distance from frame 7 to the flange, along z."""
HAND_YAW_RAD = -math.pi / 4
"""Rotation of the hand on the flange, about z."""
TCP_M = 0.1034
"""Distance from the hand frame to the tool centre point between the fingertips, along z."""
FINGER_TRAVEL_M = 0.04
"""Travel of each finger; the hand opens to twice that."""

JOINT_LIMITS_RAD: tuple[tuple[float, float], ...] = (
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
)
TORQUE_LIMITS_NM = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)

HOME_RAD = (0.0, 0.1963, 0.0, -2.3562, 0.0, 2.5525, 0.7854)
"""Rest posture: hand pointing straight down (q2 - q4 - q6 = 0), fingers spread along the world's y axis."""

# Position servos. Reflected rotor inertia makes the effective inertia of every joint of one order, so that one pair of
# gains a group answers in about 60 ms; much stiffer servos jerk a grasped object out of the fingers, because their
# targets jump once a control step.
_ARMATURE_KG_M2 = (0.4, 0.4, 0.4, 0.4, 0.05, 0.05, 0.05)
_STIFFNESS_NM_RAD = (1200.0, 1200.0, 1200.0, 1200.0, 170.0, 170.0, 170.0)
_DAMPING_NM_S_RAD = (75.0, 75.0, 65.0, 60.0, 8.0, 8.0, 7.0)
_FINGER_STIFFNESS_N_M = 1200.0
_FINGER_DAMPING_N_S_M = 100.0
_FINGER_FORCE_N = 15.0

# Visual shapes of each link in its own DH frame; lengths in metres, masses in kg. "robot" is the white shell,
# "robot_dark" the joints. The capsules run along the links, the cylinders along the joint axes (z).
_LINK_SHAPES: tuple[str, ...] = (
    """
    <geom type="capsule" fromto="0 0 -0.19 0 0 -0.03" size="0.058" material="robot" mass="3.0"/>
    <geom type="cylinder" fromto="0 0 -0.207 0 0 -0.192" size="0.064" material="robot_dark" mass="0.2"/>
    """,
    """
    <geom type="cylinder" fromto="0 0 -0.062 0 0 0.062" size="0.062" material="robot" mass="2.2"/>
    <geom type="cylinder" fromto="0 0 -0.074 0 0 -0.062" size="0.05" material="robot_dark" mass="0.2"/>
    <geom type="cylinder" fromto="0 0 0.062 0 0 0.074" size="0.05" material="robot_dark" mass="0.2"/>
    <geom type="capsule" fromto="0 0 0 0 -0.12 0" size="0.056" material="robot" mass="0.8"/>
    """,
    """
    <geom type="cylinder" fromto="0 0 -0.184 0 0 -0.168" size="0.06" material="robot_dark" mass="0.2"/>
    <geom type="capsule" fromto="0 0 -0.14 0 0 -0.06" size="0.054" material="robot" mass="2.0"/>
    <geom type="capsule" fromto="0.005 0 -0.055 0.0825 0 0" size="0.05" material="robot" mass="0.8"/>
    """,
    """
    <geom type="cylinder" fromto="0 0 -0.058 0 0 0.058" size="0.056" material="robot" mass="2.0"/>
    <geom type="cylinder" fromto="0 0 -0.07 0 0 -0.058" size="0.045" material="robot_dark" mass="0.2"/>
    <geom type="cylinder" fromto="0 0 0.058 0 0 0.07" size="0.045" material="robot_dark" mass="0.2"/>
    <geom type="capsule" fromto="0 0 0 -0.0825 0.08 0" size="0.05" material="robot" mass="0.8"/>
    """,
    """
    <geom type="cylinder" fromto="0 0 -0.262 0 0 -0.246" size="0.054" material="robot_dark" mass="0.2"/>
    <geom type="capsule" fromto="0 0 -0.235 0 0.02 -0.06" size="0.048" material="robot" mass="2.2"/>
    <geom type="capsule" fromto="0 0.02 -0.06 0 0 0" size="0.046" material="robot" mass="0.4"/>
    """,
    """
    <geom type="cylinder" fromto="0 0 -0.05 0 0 0.05" size="0.048" material="robot" mass="1.2"/>
    <geom type="cylinder" fromto="0 0 -0.061 0 0 -0.05" size="0.038" material="robot_dark" mass="0.1"/>
    <geom type="cylinder" fromto="0 0 0.05 0 0 0.061" size="0.038" material="robot_dark" mass="0.1"/>
    <geom type="capsule" fromto="0 0 0 0.088 0 0" size="0.044" material="robot" mass="0.4"/>
    """,
    """
    <geom type="cylinder" fromto="0 0 -0.03 0 0 0.07" size="0.045" material="robot" mass="0.6"/>
    <geom type="cylinder" fromto="0 0 0.07 0 0 0.082" size="0.04" material="robot_dark" mass="0.1"/>
    <geom type="cylinder" fromto="0 0 0.082 0 0 0.107" size="0.034" material="robot" mass="0.1"/>
    """,
)


def arm_bodies_xml(base_pos_m: tuple[float, float, float]) -> str:
    """Return MJCF of the arm, hand and fingers as one body tree whose base stands at `base_pos_m`, facing +x.

    Joints are `joint1..7`, `finger_joint1|2`; the site `tcp` is the tool centre point; the camera
    `robot0_eye_in_hand` sits on the hand. Bodies of the gripper start with `gripper_`.
    """
    return f"""
    <body name="robot_base" pos="{_numbers(base_pos_m)}" childclass="robot">
      <geom type="cylinder" fromto="0 0 0 0 0 0.02" size="0.1" material="robot_dark" mass="1"/>
      <geom type="cylinder" fromto="0 0 0.02 0 0 0.125" size="0.068" material="robot" mass="2"/>
      <geom type="box" pos="-0.07 0 0.05" size="0.06 0.055 0.05" material="robot" mass="1"/>
      {_link_xml(0)}
    </body>"""


def arm_actuators_xml() -> str:
    """Return MJCF of the position servos: seven joints with the Franka's torque limits, then two fingers."""
    servos = [
        f'<position name="servo{i + 1}" joint="joint{i + 1}" kp="{_STIFFNESS_NM_RAD[i]}" kv="{_DAMPING_NM_S_RAD[i]}"'
        f' ctrlrange="{_numbers(JOINT_LIMITS_RAD[i])}" forcerange="-{TORQUE_LIMITS_NM[i]} {TORQUE_LIMITS_NM[i]}"/>'
        for i in range(JOINT_COUNT)
    ]
    for finger, travel in ((1, f"0 {FINGER_TRAVEL_M}"), (2, f"-{FINGER_TRAVEL_M} 0")):
        servos.append(
            f'<position name="finger_servo{finger}" joint="finger_joint{finger}" kp="{_FINGER_STIFFNESS_N_M}"'
            f' ctrlrange="{travel}" forcerange="-{_FINGER_FORCE_N} {_FINGER_FORCE_N}"/>'
        )
    return "\n".join(servos)


def finger_coupling_xml() -> str:
    """Return MJCF of the gear that moves both fingers alike, as in the real hand.

    Without it two fingers that press with bounded forces hold nothing along their own axis.
    """
    return (
        '<joint joint1="finger_joint2" joint2="finger_joint1" polycoef="0 -1 0 0 0" solref="0.01 1"'
        ' solimp="0.95 0.99 0.001"/>'
    )


def _link_xml(index: int) -> str:
    if index == JOINT_COUNT:
        return _hand_xml()
    length_m, offset_m, twist_rad = MODIFIED_DH[index]
    position = (length_m, -offset_m * math.sin(twist_rad), offset_m * math.cos(twist_rad))
    quat_wxyz = (math.cos(twist_rad / 2), math.sin(twist_rad / 2), 0.0, 0.0)
    return f"""
    <body name="link{index + 1}" pos="{_numbers(position)}" quat="{_numbers(quat_wxyz)}" gravcomp="1">
      <joint name="joint{index + 1}" axis="0 0 1" range="{_numbers(JOINT_LIMITS_RAD[index])}"
        armature="{_ARMATURE_KG_M2[index]}"/>
      {_LINK_SHAPES[index]}
      {_link_xml(index + 1)}
    </body>"""


def _hand_xml() -> str:
    hand_quat_wxyz = (math.cos(HAND_YAW_RAD / 2), 0.0, 0.0, math.sin(HAND_YAW_RAD / 2))
    # The camera hangs before the hand and looks past the fingertips, tilted towards them.
    return f"""
    <body name="gripper_hand" pos="0 0 {FLANGE_M}" quat="{_numbers(hand_quat_wxyz)}" gravcomp="1">
      <geom class="gripper" type="box" pos="0 0 0.02" size="0.027 0.085 0.02" material="robot" mass="0.4"/>
      <geom class="gripper" type="box" pos="0 0 0.05" size="0.022 0.1 0.01" material="robot_dark" mass="0.2"/>
      <geom type="box" pos="0.045 0 0.0" size="0.018 0.03 0.012" material="robot_dark" mass="0.05"/>
      <site name="tcp" pos="0 0 {TCP_M}" size="0.004" group="4"/>
      <camera name="robot0_eye_in_hand" pos="0.08 0 0.036" xyaxes="0 -1 0 -0.906 0 -0.423" fovy="80"/>
      {_finger_xml(1, side=1)}
      {_finger_xml(2, side=-1)}
    </body>"""


def _finger_xml(number: int, side: int) -> str:
    travel = f"0 {FINGER_TRAVEL_M}" if side > 0 else f"-{FINGER_TRAVEL_M} 0"
    # The pad's inner face is the plane y = 0 of the finger's frame: both pads meet when the fingers are closed.
    return f"""
    <body name="gripper_finger{number}" pos="0 0 0.0584" gravcomp="1">
      <joint name="finger_joint{number}" type="slide" axis="0 1 0" range="{travel}" armature="0.1"
        damping="{_FINGER_DAMPING_N_S_M}"/>
      <geom class="gripper" type="box" pos="0 {side * 0.014} 0.014" size="0.01 0.008 0.014" material="robot"
        mass="0.02"/>
      <geom class="pad" type="box" pos="0 {side * 0.006} 0.0395" size="0.0105 0.006 0.0145" material="robot_dark"
        mass="0.01"/>
    </body>"""


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.10g}" for value in values)
