"""What of the robosuite adapter needs no robosuite: instance ids, shifts, files that are none of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest

from cosmos_engine.commands.rerender import add_rerender_command
from cosmos_engine.errors import InputError
from cosmos_engine.sim.robosuite_environment import RobosuiteEnvironment
from cosmos_engine.sim.robosuite_instances import geom_instances, instance_labels
from cosmos_engine.sim.robosuite_rerender import RerenderConfig, rerender
from cosmos_engine.sim.robosuite_shifts import ROBOSUITE_SHIFTS, check_robosuite_shift
from cosmos_engine.sim.shifts import SHIFTS

XML = """
<mujoco><worldbody>
  <geom name="floor" type="plane" size="1 1 1"/>
  <body name="table"><geom name="top" size="1"/></body>
  <body name="robot0_base"><geom name="base" size="1"/>
    <body name="robot0_link1"><geom name="link" size="1"/>
      <body name="gripper0_right_hand"><geom name="hand" size="1"/></body></body></body>
  <body name="cubeA_main"><geom name="cube" size="1"/><body name="cubeA_lid"><geom name="lid" size="1"/></body></body>
  <body name="VisualCan_main"><geom name="marker" size="1"/></body>
</worldbody></mujoco>
"""


def test_every_geom_has_the_instance_that_its_body_hangs_from() -> None:
    model = mujoco.MjModel.from_xml_string(XML)
    instances = instance_labels(model, {"cubeA": "cubeA_main", "VisualCan": "VisualCan_main"}, ("cubeA",))
    of_geom = dict(
        zip((model.geom(i).name for i in range(model.ngeom)), geom_instances(model, instances).tolist(), strict=True)
    )
    shown = {name: (instances.labels[of_geom[name]].name, instances.labels[of_geom[name]].role) for name in of_geom}
    assert shown == {
        "floor": ("room", "scene"),
        "top": ("table", "scene"),
        "base": ("robot", "robot"),
        "link": ("robot", "robot"),
        "hand": ("gripper", "robot"),
        "cube": ("cubeA", "manipulated"),
        "lid": ("cubeA", "manipulated"),
        "marker": ("VisualCan", "scene"),
    }


@pytest.mark.parametrize("name", sorted(set(SHIFTS) - set(ROBOSUITE_SHIFTS)))
def test_shift_that_robosuite_cannot_show_says_so(name: str) -> None:
    with pytest.raises(InputError, match=f"shift '{name}': not available in robosuite.*available: vanilla"):
        check_robosuite_shift(name)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError, match="task 'squares': unknown; did you mean 'square'"):
        RobosuiteEnvironment("squares")


def _file(path: Path, env_args: object, *, states: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args)
        demo = data.create_group("demo_0")
        demo["actions"] = np.zeros((2, 7))
        if states:
            demo["states"] = np.zeros((2, 3))
    return path


@pytest.mark.parametrize(
    ("env_args", "message"),
    [
        ({"env_name": "Door"}, "env_name 'Door' is none of Lift, Stack, PickPlaceCan, NutAssemblySquare"),
        ({"env_name": "Lift", "env_kwargs": {"control_freq": 10}}, "control_freq 10, expected 20"),
    ],
)
def test_file_of_another_task_is_one_line(tmp_path: Path, env_args: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rerender(_file(tmp_path / "a.hdf5", env_args), tmp_path / "out", RerenderConfig())
    assert not (tmp_path / "out").exists()


def test_file_without_states_and_truncated_files_are_one_line(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.hdf5", {"env_name": "Lift"}, states=False)
    with pytest.raises(InputError, match="demo_0: holds no states"):
        rerender(file, tmp_path / "out", RerenderConfig())
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match="not a robomimic file that can be read"):
        rerender(file, tmp_path / "out", RerenderConfig())


@pytest.mark.parametrize(("override", "message"), [("episodes=0", "episodes: expected"), ("cameras=[]", "cameras")])
def test_command_line_checks_its_config(tmp_path: Path, override: str, message: str) -> None:
    parser = argparse.ArgumentParser()
    add_rerender_command(parser.add_subparsers())
    args = parser.parse_args(["rerender", "a.hdf5", override, "--out", str(tmp_path)])
    with pytest.raises(InputError, match=message):
        args.run(args)
