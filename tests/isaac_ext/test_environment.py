"""The environment over Isaac Sim: the engine's side and the simulator's over a real socket; Kit is stood in for."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pxr")

from franka_controller import Controller

from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import Environment
from cosmos_engine.sim.shifts import SHIFTS, SINGLE_SHIFTS
from cosmos_engine.sim.strengths import ShiftStrengths
from isaac_ext import arena as arena_module
from isaac_ext import wire
from isaac_ext.appearance import ROOT
from isaac_ext.arena import FrankaArena, serve
from isaac_ext.franka import CUBE, FRONT, ROBOT, FrankaConfig
from isaac_ext.look import SceneLook
from isaac_ext.outside import environment as environment_module
from isaac_ext.outside.environment import IsaacArena, IsaacEnvironment, as_seen_by
from isaac_ext.outside.isaac_sim import IsaacSim
from policies.benchmark import Arena, BenchmarkConfig, Contestant, run_benchmark
from policies.policy import PolicySpec

STRENGTHS = ShiftStrengths()
CONFIG = FrankaConfig(folder="unused", height=32, width=48, control_hz=20.0)


def flat(stage: Any) -> str:
    """Return all that a renderer and physics see of a stage."""
    return str(stage.Flatten(addSourceFileComment=False).ExportToString())


def shown_on(stage: Any) -> list[str]:
    """Return the shifts whose change is on the stage, in their order."""
    from pxr import UsdGeom, UsdLux, UsdShade

    def is_covered(path: str) -> bool:
        prim = stage.GetPrimAtPath(path)
        return bool(prim and UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0])

    light = UsdLux.LightAPI(stage.GetPrimAtPath("/World/Light"))
    camera = UsdGeom.Xformable(stage.GetPrimAtPath(FRONT))
    found = {
        "light_intensity": light.GetIntensityAttr().Get() != 1000.0,
        "light_color": tuple(light.GetColorAttr().Get()) != (1.0, 1.0, 1.0),
        "background": all(is_covered(f"{ROOT}/{name}") for name in ("wall", "floor")),
        "table_texture": is_covered("/World/Table"),
        "robot_texture": is_covered(f"{ROBOT}/panda_hand/visuals"),
        "object_color": is_covered(f"{CUBE}/visuals"),
        "distractors": bool(stage.GetPrimAtPath(f"{ROOT}/bystander_1")),
        "camera_pose": "cosmos" in camera.GetOrderedXformOps()[0].GetOpName(),
    }
    return [name for name, is_shown in found.items() if is_shown]


@pytest.fixture
def acted(make_kit, monkeypatch) -> Iterator[tuple[Any, IsaacEnvironment]]:
    """A stand-in for Kit that serves in a thread of its own, and the environment that asks it."""
    monkeypatch.setattr(arena_module, "HORIZON_S", 0.5)
    kit = make_kit("6.0", teleoperated=False)
    Controller().add_to(kit)
    ours, theirs = socket.socketpair()

    async def inside() -> None:
        updates = asyncio.ensure_future(kit.run_updates())
        with theirs:
            await serve(FrankaArena(CONFIG), theirs)
        updates.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(inside()), daemon=True)
    thread.start()
    environment = IsaacEnvironment(ours, CONFIG, ExitStack())
    yield kit, environment
    environment.close()
    thread.join(120)
    assert not thread.is_alive()


def test_environment_keeps_the_protocol(acted) -> None:
    _, environment = acted
    assert isinstance(environment, Environment)
    assert environment.camera_names == ("front", "wrist")
    assert (environment.action_dim, environment.horizon, environment.step_hz) == (2, 10, 20.0)
    spec = environment.observation_spec
    assert spec["front_image"] == (32, 48, 3)
    assert spec["object"] == (7,)
    observation = environment.reset(3)
    assert {name: tuple(array.shape) for name, array in observation.items()} == dict(spec)
    assert observation["robot0_joint_pos"].dtype == np.float32
    assert {label.role for label in environment.labels.values()} >= {"robot", "manipulated"}


def test_step_follows_the_targets_for_one_control_step(acted) -> None:
    kit, environment = acted
    environment.reset(0)
    before = kit.world.time_steps
    result = environment.step(np.array([0.2, 0.04], np.float32))
    assert kit.world.time_steps - before == 3  # 60 Hz physics, 20 Hz control
    np.testing.assert_allclose(result.observation["robot0_joint_pos"], [0.2, 0.04], atol=1e-6)
    assert (result.reward, result.terminated, result.truncated) == (0.0, False, False)
    frame = environment.render_passes("front")
    instance = next(number for number, label in environment.labels.items() if label.name == CUBE)
    rows, columns = np.nonzero(frame.instance == instance)
    seen = np.linalg.inv(frame.world_from_camera) @ [*result.observation["object"][:3], 1.0]
    drawn = frame.intrinsics_px @ seen[:3] / seen[2]
    assert np.hypot(columns.mean() - drawn[0], rows.mean() - drawn[1]) < 1.0
    state = environment.get_state()
    assert state.shape == (2 * 2 + 7 * 3,)
    environment.set_state(state)


@pytest.mark.parametrize("shift", SINGLE_SHIFTS)
def test_each_shift_changes_what_it_names_and_vanilla_gives_it_back(acted, shift: str) -> None:
    kit, environment = acted
    stage = kit.world.stage
    environment.reset(0)
    authored, before = flat(stage), environment.render_passes("front")
    environment.look(shift, 5, STRENGTHS)
    shown = shown_on(stage)
    environment.reset(0)
    after = environment.render_passes("front")
    assert not np.array_equal(after.rgb, before.rgb)
    if shift == "camera_noise":
        assert shown == []
        np.testing.assert_array_equal(after.depth_m, before.depth_m)
    else:
        assert shown == [shift]
        assert np.allclose(after.world_from_camera, before.world_from_camera) == (shift != "camera_pose")
    environment.look("vanilla", 5, STRENGTHS)
    environment.reset(0)
    assert flat(stage) == authored
    np.testing.assert_array_equal(environment.render_passes("front").rgb, before.rgb)


def test_everything_shows_all_of_it_and_physics_is_as_it_was(acted) -> None:
    kit, environment = acted
    environment.reset(0)
    plain = environment.step(np.array([0.2, 0.04], np.float32)).observation
    environment.look("everything", 5, STRENGTHS)
    assert shown_on(kit.world.stage) == [shift for shift in SINGLE_SHIFTS if shift != "camera_noise"]
    environment.reset(0)
    shifted = environment.step(np.array([0.2, 0.04], np.float32)).observation
    for name, array in plain.items():
        assert np.array_equal(shifted[name], array) == (not name.endswith("_image")), name


def test_sensor_noise_is_new_in_every_frame_and_the_same_when_a_trial_is_repeated(acted) -> None:
    _, environment = acted
    environment.look("camera_noise", 5, STRENGTHS)
    still = np.array([0.0, 0.04], np.float32)
    runs = []
    for _ in range(2):
        first = environment.reset(0)
        runs.append((first, environment.step(still).observation))
        np.testing.assert_array_equal(environment.observe()["front_image"], environment.render_passes("front").rgb)
    for camera in ("front_image", "wrist_image"):
        assert not np.array_equal(runs[0][0][camera], runs[0][1][camera])
        for one, other in zip(*runs, strict=True):
            np.testing.assert_array_equal(one[camera], other[camera])


def test_wrong_questions_are_answered_with_a_line_and_nothing_else_breaks(acted) -> None:
    kit, environment = acted
    with pytest.raises(InputError, match="action: expected 2 finite position targets"):
        environment.step(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="action: expected 2 finite"):
        environment.step(np.array([np.nan, 0.0], np.float32))
    with pytest.raises(InputError, match="camera 'frnt': unknown; did you mean 'front'"):
        environment.render_passes("frnt")
    with pytest.raises(InputError, match="'dance' is nothing that can be asked"):
        environment._ask({"ask": "dance"})
    kit.world.stage.RemovePrim("/World/Light")
    with pytest.raises(InputError, match="lights: the stage has none"):
        environment.look("everything", 0, STRENGTHS)
    assert "CosmosEngineLook" not in flat(kit.world.stage)
    with pytest.raises(InputError, match="look: 'ceiling' is none of table"):
        environment._ask({"ask": "look", "look": asdict(SceneLook()) | {"surfaces": {"ceiling": {}}}})
    kit.world.stage.RemovePrim("/World/Table")
    with pytest.raises(InputError, match="look: the stage has no table"):
        environment.look("table_texture", 0, STRENGTHS)
    with pytest.raises(InputError, match="shift 'light_colour': unknown; did you mean 'light_color'"):
        environment.look("light_colour", 0, STRENGTHS)
    assert environment.step(np.zeros(2, np.float32)).reward == 0.0


def test_success_is_the_cube_at_the_target(acted) -> None:
    from pxr import Gf, UsdGeom

    kit, environment = acted
    assert not environment.success()
    op = UsdGeom.Xformable(kit.world.stage.GetPrimAtPath(CUBE)).GetOrderedXformOps()[0]
    op.Set(Gf.Vec3d(0.02, 0.47, 0.03))
    result = environment.step(np.zeros(2, np.float32))
    assert (result.reward, result.terminated, environment.success()) == (1.0, True, True)


class Still:
    """A policy that asks for the joints to stay where they are."""

    spec = PolicySpec(
        observation_shapes={"robot0_joint_pos": [2], "front_image": [32, 48, 3]},
        action_dim=2,
        step_hz=20.0,
        observation_frames=1,
        action_chunk=100,
    )

    def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        joints = observations["robot0_joint_pos"][:, -1:]
        return np.repeat(joints, self.spec.action_chunk, axis=1).astype(np.float32)


def test_benchmark_runs_policies_in_isaac_sim_under_its_shifts(acted, tmp_path: Path, monkeypatch) -> None:
    _, environment = acted
    arena = IsaacArena(IsaacSim(tmp_path, tmp_path, (6, 0)), CONFIG, STRENGTHS)
    assert isinstance(arena, Arena)
    assert arena.shifts == tuple(SHIFTS)
    monkeypatch.setattr(IsaacArena, "make", lambda self: environment)
    looks: list[str] = []
    monkeypatch.setattr(IsaacEnvironment, "look", lambda self, shift, *_: looks.append(shift))
    contestant = Contestant("still", Still(), "none", "0" * 64, frozenset())
    config = BenchmarkConfig(trials=2, environments=1, camera="front", videos=1)
    result = run_benchmark([contestant], arena, ["vanilla", "light_color"], config, tmp_path / "out")
    assert [(cell["shift"], cell["trials"], cell["successes"], cell["crashes"]) for cell in result["cells"]] == [
        ("vanilla", 2, 0, 0),
        ("light_color", 2, 0, 0),
    ]
    assert looks == ["vanilla"] * 2 + ["light_color"] * 2


def test_scene_gives_what_the_policy_was_trained_on() -> None:
    made = as_seen_by(replace(Still.spec, step_hz=10.0), FrankaConfig(folder="unused", task="push"))
    assert (made.height, made.width, made.control_hz, made.task) == (32, 48, 10.0, "push")
    blind = replace(Still.spec, observation_shapes={"robot0_joint_pos": [2]})
    assert as_seen_by(blind, CONFIG) == CONFIG


def test_simulator_that_went_away_is_no_users_mistake() -> None:
    """A benchmark counts it as a crash and starts another, which it does not do for an InputError."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(ConnectionError), ours:
        IsaacEnvironment(ours, CONFIG, ExitStack())


def test_simulator_that_ends_before_it_answers_is_one_line(tmp_path: Path) -> None:
    launcher = tmp_path / "python.sh"
    launcher.write_text('#!/bin/sh\n[ "$2" = isaac_ext.headless ] && exit 3\necho 3.11.0\n')
    launcher.chmod(0o755)
    with pytest.raises(InputError, match="Isaac Sim ended with exit code 3 before it answered"):
        IsaacEnvironment.start(IsaacSim(tmp_path, launcher, (5, 1)), CONFIG)


STRANGER = """
import json, socket, sys
from isaac_ext import wire
options = json.load(open(sys.argv[1]))
with socket.create_connection(("127.0.0.1", options["port"])) as connection:
    wire.send(connection, {"token": "guessed"})
"""


def test_only_the_process_that_was_started_is_answered(tmp_path: Path, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        file = tmp_path / "options.json"
        file.write_text(json.dumps({"port": server.getsockname()[1]}))
        process = subprocess.Popen([sys.executable, "-c", STRANGER, str(file)], cwd=Path(__file__).parents[2])
        with pytest.raises(InputError, match="ended with exit code 0 before it answered"):
            environment_module._accepted(server, process, "secret")


numbers = st.sampled_from(["|u1", "<f4", "<f8", "<i8", "<u2", "|b1"])


@given(shape=st.lists(st.integers(0, 4), max_size=3), dtype=numbers, head=st.dictionaries(st.text(), st.integers()))
def test_messages_come_as_they_were_sent(shape: list[int], dtype: str, head: dict[str, int]) -> None:
    head.pop("arrays", None)
    array = (np.arange(np.prod(shape, dtype=int)) % 7).astype(dtype).reshape(shape)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, head, {"a": array, "b": array[..., :1] if shape else array})
        got, arrays = wire.receive(theirs)
    assert got == head
    assert arrays["a"].dtype == array.dtype
    np.testing.assert_array_equal(arrays["a"], array)


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 8, b"\x02" + bytes(7) + b"{}", b"\x02" + bytes(7) + b"[[", None],
    ids=["too long", "no arrays", "no JSON", "an object"],
)
def test_what_is_no_message_is_refused(content: bytes | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if content is None:
            text = json.dumps({"arrays": [["a", "|O", [1]]]}).encode()
            content = len(text).to_bytes(8, "little") + text + bytes(8)
        ours.sendall(content)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(InputError, match="Isaac Sim bridge"):
            wire.receive(theirs)
