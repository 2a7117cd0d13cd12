"""robosuite as an `Environment`; runs where the extra `robosuite` is installed (docs/robosuite.md says how)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import h5py
import mujoco
import numpy as np
import pytest

from cosmos_engine.data import Recording
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import Environment
from cosmos_engine.sim.robosuite_environment import ROBOSUITE_TASKS, RobosuiteEnvironment
from cosmos_engine.sim.robosuite_rerender import RerenderConfig, rerender
from cosmos_engine.sim.robosuite_shifts import show_shift
from cosmos_engine.sim.strengths import ShiftStrengths
from policies.benchmark import BenchmarkConfig, Contestant, run_benchmark
from policies.policy import PolicySpec
from policies.robosuite_arena import RobosuiteArena

pytest.importorskip("robosuite")
PIXELS = 64


@pytest.fixture(scope="module", params=sorted(ROBOSUITE_TASKS))
def environment(request: pytest.FixtureRequest) -> Iterator[RobosuiteEnvironment]:
    """Return the environment of each task in turn."""
    made = RobosuiteEnvironment(request.param, image_size=PIXELS, horizon=50)
    yield made
    made.close()


@pytest.fixture(scope="module")
def lift() -> Iterator[RobosuiteEnvironment]:
    """Return lift."""
    made = RobosuiteEnvironment("lift", image_size=PIXELS, horizon=50)
    yield made
    made.close()


def _actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7)).astype(np.float32)


def _same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_is_an_environment_whose_observations_have_their_spec(environment: RobosuiteEnvironment) -> None:
    assert isinstance(environment, Environment)
    observation = environment.reset(3)
    assert {name: value.shape for name, value in observation.items()} == dict(environment.observation_spec)
    assert observation["robot0_eef_pos"].dtype == np.float32
    assert observation["agentview_image"].dtype == np.uint8
    assert {label.role for label in environment.labels.values()} == {"robot", "manipulated", "scene"}


@pytest.mark.parametrize("steps", [0, 2])
def test_states_and_images_after_a_restored_state_are_the_same_bits(
    environment: RobosuiteEnvironment, steps: int
) -> None:
    environment.reset(5)
    for action in _actions(steps):
        environment.step(action)
    state, seen = environment.get_state(), dict(environment.observe())
    first = []
    for action in _actions(3, seed=1):
        result = environment.step(action)
        first.append((environment.get_state(), dict(result.observation), result.reward))
    environment.reset(77)
    environment.step(_actions(1, seed=2)[0])
    environment.set_state(state)
    assert _same(dict(environment.observe()), seen)
    for action, (after, observed, reward) in zip(_actions(3, seed=1), first, strict=True):
        result = environment.step(action)
        assert np.array_equal(environment.get_state(), after)
        assert _same(dict(result.observation), observed)
        assert result.reward == reward


def test_building_it_says_nothing() -> None:
    code = (
        "from cosmos_engine.sim.robosuite_environment import RobosuiteEnvironment as Environment; "
        "Environment('lift', cameras=(), render=False).close()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_seed_alone_decides_the_start(environment: RobosuiteEnvironment) -> None:
    environment.reset(5)
    start = environment.get_state()
    environment.reset(6)
    assert not np.array_equal(environment.get_state(), start)
    environment.step(_actions(1)[0])
    environment.reset(5)
    assert np.array_equal(environment.get_state(), start)


def test_looking_changes_nothing_and_shows_the_state_it_was_taken_in(lift: RobosuiteEnvironment) -> None:
    late = lift.reset(1)
    before = lift.get_state()
    for action in _actions(3):
        lift.step(action)
    now = lift.get_state()
    image = late["agentview_image"]
    assert np.array_equal(lift.get_state(), now)
    lift.set_state(before)
    assert np.array_equal(lift.render_passes("agentview").rgb, image)


def test_depth_is_metres_and_the_camera_is_where_it_says(lift: RobosuiteEnvironment) -> None:
    """The cube's pixels, lifted into space by depth, intrinsics and pose, lie on the cube that robosuite reports."""
    observation = lift.reset(2)
    frame = lift.render_passes("agentview")
    (cube,) = [index for index, label in lift.labels.items() if label.name == "cube"]
    rows, columns = np.nonzero(frame.instance == cube)
    assert len(rows) > 4
    rays = np.linalg.inv(frame.intrinsics_px) @ np.stack([columns, rows, np.ones(len(rows))])
    camera_points = rays * frame.depth_m[rows, columns]
    world = frame.world_from_camera[:3, :3] @ camera_points + frame.world_from_camera[:3, 3:]
    assert np.linalg.norm(world.T - observation["object"][:3], axis=1).max() < 0.021 * np.sqrt(3) + 0.005


def test_pictures_are_robosuites_own_the_right_way_up(lift: RobosuiteEnvironment) -> None:
    """Against robosuite's off-screen renderer, whose rows run upwards; shadows and smoothing differ."""
    import robosuite

    theirs = robosuite.make(
        "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=True, use_camera_obs=False, hard_reset=False,
        seed=0,
    )  # fmt: skip
    lift.reset(4)
    state = lift.get_state()
    data = theirs.sim.data._data
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(theirs.sim.model._model, data, state[: mujoco.mj_stateSize(theirs.sim.model._model, kind)], kind)
    theirs.sim.forward()
    their_picture = theirs.sim.render(width=PIXELS, height=PIXELS, camera_name="agentview")[::-1]
    theirs.close()
    our_picture = lift.render_passes("agentview").rgb
    blurred = [cv2.GaussianBlur(picture, (7, 7), 0).astype(float) for picture in (our_picture, their_picture)]
    assert np.abs(blurred[0] - blurred[1]).mean() < 12
    assert np.abs(blurred[0] - blurred[1][::-1]).mean() > 24


def test_success_is_robosuites_and_horizon_truncates(lift: RobosuiteEnvironment) -> None:
    lift.reset(0)
    assert not lift.success()
    state = lift.get_state()
    raised = state.copy()
    cube = 1 + lift._model.joint("cube_joint0").qposadr[0]  # time comes first
    raised[cube + 2] += 0.2
    lift.set_state(raised)
    assert lift.success()
    result = lift.step(np.zeros(7, np.float32))
    assert result.terminated
    assert result.reward == 1.0
    short = RobosuiteEnvironment("lift", cameras=(), render=False, horizon=2)
    assert not short.step(np.zeros(7, np.float32)).truncated
    assert short.step(np.zeros(7, np.float32)).truncated
    short.close()


@pytest.mark.parametrize("shift", ["light_intensity", "light_color", "camera_pose"])
def test_shift_changes_the_picture_and_nothing_else(lift: RobosuiteEnvironment, shift: str) -> None:
    lift.reset(0)
    state, usual = lift.get_state(), lift.render_passes("agentview")
    show_shift(lift, shift, ShiftStrengths(), seed=7)
    shown = lift.render_passes("agentview")
    assert np.abs(shown.rgb.astype(int) - usual.rgb).mean() > 3
    assert np.array_equal(shown.instance, usual.instance) == (shift != "camera_pose")
    assert np.array_equal(lift.get_state(), state)
    show_shift(lift, "vanilla", ShiftStrengths(), seed=7)
    assert np.array_equal(lift.render_passes("agentview").rgb, usual.rgb)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda environment: environment.step(np.zeros(6, np.float32)), "action: expected 7 numbers"),
        (
            lambda environment: environment.set_state(np.zeros(3)),
            "state: expected .* numbers for task 'robosuite",
        ),
        (lambda environment: environment.set_robomimic_state(np.zeros(3)), "state: expected 32 numbers"),
        (lambda environment: environment.render_passes("agentviw"), "camera 'agentviw': unknown; did you mean 'agentv"),
        (lambda environment: environment.load_model("<mujoco><asset/></mujoco"), "model_file: robosuite cannot"),
    ],
)
def test_mistakes_are_one_line(lift: RobosuiteEnvironment, mistake: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mistake(lift)  # type: ignore[operator]


class _Still:
    """A policy that does nothing."""

    spec = PolicySpec({"robot0_eef_pos": [3]}, action_dim=7, step_hz=20.0, observation_frames=1, action_chunk=4)

    def act(self, observations: dict[str, np.ndarray], rngs: list[np.random.Generator]) -> np.ndarray:
        return np.zeros((len(rngs), 4, 7), np.float32)


class _ShortArena(RobosuiteArena):
    def make(self) -> Environment:
        return RobosuiteEnvironment("lift", cameras=("agentview",), image_size=PIXELS, horizon=3)


def test_benchmark_runs_there(tmp_path: Path) -> None:
    arena = _ShortArena("lift", ("agentview",), PIXELS, ShiftStrengths())
    config = BenchmarkConfig(trials=2, environments=1, videos=1)
    result = run_benchmark(
        [Contestant("still", _Still(), "none", "0", frozenset())], arena, ["vanilla", "light_color"], config, tmp_path
    )
    assert result["task"] == "robosuite_lift"
    assert [(cell["shift"], cell["successes"], cell["crashes"]) for cell in result["cells"]] == [
        ("vanilla", 0, 0),
        ("light_color", 0, 0),
    ]


@pytest.fixture(scope="module")
def demos(lift: RobosuiteEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a robomimic file of two episodes of lift, as robosuite's own tools write it."""
    path = tmp_path_factory.mktemp("robomimic") / "low_dim.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        for index in range(2):
            lift.reset(index)
            demo = data.create_group(f"demo_{index}")
            demo.attrs["model_file"] = lift._robosuite.sim.model.get_xml()
            states, actions = [], _actions(3, seed=index)
            for action in actions:
                states.append(np.concatenate([[lift._data.time], lift._data.qpos, lift._data.qvel]))
                lift.step(action)
            demo["states"], demo["actions"], demo["rewards"] = np.stack(states), actions.astype(float), np.zeros(3)
    return path


@pytest.mark.parametrize("own_model", [False, True])
def test_rerendered_demos_show_the_states_of_the_file(
    lift: RobosuiteEnvironment, demos: Path, tmp_path: Path, own_model: bool
) -> None:
    assert rerender(demos, tmp_path / "demos", RerenderConfig(image_size=PIXELS, own_model=own_model)) == 2
    recording = Recording(tmp_path / "demos")
    episode = recording.episode(1)
    with h5py.File(demos) as file:
        assert np.array_equal(episode.states, file["data/demo_1/states"][:])
        assert np.array_equal(episode.actions, file["data/demo_1/actions"][:].astype(np.float32))
    lift.reset(1)
    lift.step(_actions(3, seed=1)[0])
    frame = lift.render_passes("agentview")
    shown = episode.cameras["agentview"]
    assert np.abs(shown.rgb[1].astype(int) - frame.rgb).mean() < 0.5
    assert np.allclose(shown.depth_m[1], frame.depth_m, atol=1e-3)
    assert np.array_equal(shown.intrinsics_px, frame.intrinsics_px)
    np.testing.assert_allclose(episode.observations["robot0_eef_pos"][1], lift.observe()["robot0_eef_pos"], atol=1e-5)
    assert {label.role for label in episode.labels.values()} == {"robot", "manipulated", "scene"}


def test_rerendering_goes_on_after_a_stop_with_the_same_bytes(demos: Path, tmp_path: Path) -> None:
    config = RerenderConfig(image_size=PIXELS, cameras=["agentview"], own_model=True)
    rerender(demos, tmp_path / "whole", config)
    rerender(demos, tmp_path / "parts", RerenderConfig(PIXELS, ["agentview"], episodes=2, own_model=True))
    last = tmp_path / "parts" / "episodes" / "episode_000001.hdf5"
    written = last.read_bytes()
    last.unlink()  # as if it had been killed before
    assert rerender(demos, tmp_path / "parts", config) == 2
    assert last.read_bytes() == written
    assert last.read_bytes() == (tmp_path / "whole" / "episodes" / "episode_000001.hdf5").read_bytes()
