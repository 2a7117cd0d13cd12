"""The table-top is an Environment: seeded, replayable bit for bit, and the same under every appearance."""

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import sample_appearance
from cosmos_engine.sim.environment import Environment
from cosmos_engine.sim.experts import Expert
from cosmos_engine.sim.scene import CAMERAS
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.tasks import TASKS

IMAGE_SIZE = 64


@pytest.fixture(params=sorted(TASKS), scope="module")
def environment(request):
    made = TabletopEnvironment(request.param, image_size=IMAGE_SIZE, render=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def lift():
    made = TabletopEnvironment("lift", image_size=IMAGE_SIZE)
    yield made
    made.close()


def _expert_states(environment, seed, steps=60):
    """Return states 0..steps and the actions between them, with contacts: the expert grasps."""
    environment.reset(seed)
    expert = Expert(environment.task)
    states, actions = [environment.get_state()], []
    for _ in range(steps):
        actions.append(expert.act(environment))
        environment.step(actions[-1])
        states.append(environment.get_state())
    return states, actions


def _random_actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(count, 7)).astype(np.float32)


def test_replay_from_any_state_is_bitwise(environment):
    states, actions = _expert_states(environment, seed=5)
    for start in (0, 17, 33, 50):
        environment.set_state(states[start])
        for step in range(start, len(actions)):
            environment.step(actions[step])
            np.testing.assert_array_equal(environment.get_state(), states[step + 1])


def test_replay_in_another_instance_is_bitwise(environment):
    states, actions = _expert_states(environment, seed=6, steps=30)
    other = TabletopEnvironment(environment.task, render=False)
    other.set_state(states[10])
    for step in range(10, 30):
        other.step(actions[step])
        np.testing.assert_array_equal(other.get_state(), states[step + 1])


def test_set_state_restores_observation_success_and_passes(environment):
    states, _ = _expert_states(environment, seed=7, steps=40)
    live = environment.observe(), environment.success(), [environment.render_passes(camera) for camera in CAMERAS]
    environment.set_state(states[3])
    environment.render_passes(CAMERAS[0])
    environment.set_state(states[40])
    again = environment.observe(), environment.success(), [environment.render_passes(camera) for camera in CAMERAS]
    for name, value in live[0].items():
        np.testing.assert_array_equal(again[0][name], value)
    assert again[1] == live[1]
    for before, after in zip(live[2], again[2], strict=True):
        for name in ("rgb", "depth_m", "instance", "intrinsics_px", "world_from_camera"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_a_seed_gives_the_same_start_and_another_seed_another(environment):
    environment.reset(1)
    first = environment.get_state()
    environment.step(_random_actions(1)[0])
    environment.reset(2)
    other = environment.get_state()
    environment.reset(1)
    np.testing.assert_array_equal(environment.get_state(), first)
    assert not np.array_equal(first, other)


def test_appearance_changes_pixels_and_nothing_else(lift):
    default = lift.appearance
    runs = []
    for appearance in (default, sample_appearance(np.random.default_rng(3), lift.object_colors)):
        lift.appearance = appearance
        lift.reset(4)
        for action in _random_actions(10):
            lift.step(action)
        runs.append((lift.get_state(), lift.render_passes("agentview")))
    lift.appearance = default
    (state, frame), (other_state, other_frame) = runs
    np.testing.assert_array_equal(other_state, state)
    np.testing.assert_array_equal(other_frame.depth_m, frame.depth_m)
    np.testing.assert_array_equal(other_frame.instance, frame.instance)
    assert (other_frame.rgb != frame.rgb).mean() > 0.5


def test_objects_lie_still_at_the_start(environment):
    for seed in range(5):
        before = environment.reset(seed)["object"].reshape(-1, 10)
        stay = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
        for _ in range(10):
            after = environment.step(stay).observation["object"].reshape(-1, 10)
        np.testing.assert_allclose(after[:, :7], before[:, :7], atol=1e-3)
        assert not environment.success()


def test_observations_match_their_spec(lift):
    observation = lift.reset(0)
    assert {name: value.shape for name, value in observation.items()} == dict(lift.observation_spec)
    for name, value in observation.items():
        assert value.dtype == (np.uint8 if name.endswith("_image") else np.float32)


def test_observed_image_is_the_rgb_pass(lift):
    observation = lift.reset(2)
    for camera in lift.camera_names:
        np.testing.assert_array_equal(observation[f"{camera}_image"], lift.render_passes(camera).rgb)


def test_object_observation_holds_pose_and_place_relative_to_the_hand(environment):
    observation = environment.reset(8)
    rows = observation["object"].reshape(-1, 10)
    for name, row in zip(environment.objects, rows, strict=True):
        np.testing.assert_allclose(row[:3], environment.object_position_m(name), atol=1e-6)
        np.testing.assert_allclose(row[7:], row[:3] - observation["robot0_eef_pos"], atol=1e-6)
        assert np.linalg.norm(row[3:7]) == pytest.approx(1, abs=1e-5)


def test_both_cameras_see_the_objects_and_the_gripper_at_the_start(environment):
    names = {label.name: instance for instance, label in environment.labels.items()}
    for seed in range(5):
        environment.reset(seed)
        in_front = environment.render_passes("agentview").instance
        for name in (*environment.objects, "robot", "gripper", "table", "wall", "floor"):
            assert (in_front == names[name]).sum() >= 9, name
        assert (environment.render_passes("robot0_eye_in_hand").instance == names["gripper"]).sum() > 100


def test_depth_of_an_object_is_the_distance_to_its_surface(environment):
    """The point that a pixel's depth unprojects to lies on the object that the instance pass names."""
    environment.reset(9)
    frame = environment.render_passes("agentview")
    for instance, label in environment.labels.items():
        if label.role != "manipulated":
            continue
        v, u = np.argwhere(frame.instance == instance).mean(axis=0).round().astype(int)
        ray = np.linalg.inv(frame.intrinsics_px) @ (u, v, 1)
        point_m = frame.world_from_camera @ (*(ray * frame.depth_m[v, u]), 1)
        reach_m = 1.8 * environment.objects[label.name].half_extent_m
        assert np.linalg.norm(point_m[:3] - environment.object_position_m(label.name)) < reach_m


def test_horizon_truncates_and_does_not_terminate():
    environment = TabletopEnvironment("stack", horizon=3, render=False)
    environment.reset(0)
    results = [environment.step(action) for action in _random_actions(3)]
    assert [result.truncated for result in results] == [False, False, True]
    assert not any(result.terminated for result in results)


def test_success_terminates_with_reward_one(environment):
    environment.reset(0)
    expert = Expert(environment.task)
    for _ in range(environment.horizon):
        result = environment.step(expert.act(environment))
        assert result.terminated == environment.success() == (result.reward == 1)
        if result.terminated:
            break
    assert result.terminated
    assert not result.truncated


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused(lift, value):
    state = lift.get_state()
    action = np.zeros(7, dtype=np.float32)
    action[2] = value
    with pytest.raises(InputError, match="finite"):
        lift.step(action)
    np.testing.assert_array_equal(lift.get_state(), state)


def test_actions_beyond_the_range_act_like_the_range(lift):
    ends = []
    for scale in (1, 50):
        lift.reset(0)
        lift.step(np.full(7, -scale, dtype=np.float32))
        ends.append(lift.get_state())
    np.testing.assert_array_equal(ends[0], ends[1])


def test_wrong_names_and_sizes_are_one_line(lift):
    with pytest.raises(InputError, match="did you mean 'lift'"):
        TabletopEnvironment("lit")
    with pytest.raises(InputError, match="did you mean 'agentview'"):
        TabletopEnvironment("lift", cameras=("agent_view",))
    with pytest.raises(InputError, match="image_size"):
        TabletopEnvironment("lift", image_size=0)
    with pytest.raises(InputError, match="horizon"):
        TabletopEnvironment("lift", horizon=0)
    with pytest.raises(InputError, match="not in this environment"):
        TabletopEnvironment("lift", cameras=("agentview",), render=False).render_passes("robot0_eye_in_hand")
    with pytest.raises(InputError, match="state: expected"):
        lift.set_state(np.zeros(5))


def test_the_table_top_is_an_environment(lift):
    environment: Environment = lift
    assert environment.task == "lift"
    assert environment.action_dim == 7
    assert environment.step_hz == 20
    assert environment.horizon == TASKS["lift"].horizon
    assert environment.instruction == "lift the red cube"


def test_an_observation_shows_the_state_and_look_that_it_was_taken_in(lift):
    """Looked at late, after the world has moved on and changed its look, it gives the pixels of its own moment."""
    start = lift.reset(4)
    seen = {name: np.array(value) for name, value in lift.observe().items()}
    look = lift.look
    try:
        lift.appearance = sample_appearance(np.random.default_rng(0), lift.object_colors)
        for action in _random_actions(6):
            lift.step(action)
        state = lift.get_state()
        for name, value in start.items():
            np.testing.assert_array_equal(value, seen[name])
        np.testing.assert_array_equal(lift.get_state(), state)
        now = lift.observe()
        np.testing.assert_array_equal(now["agentview_image"], lift.render_passes("agentview").rgb)
        assert not np.array_equal(now["agentview_image"], seen["agentview_image"])
    finally:
        lift.look = look


def test_looking_at_images_changes_no_future(lift):
    ends = []
    for look_back in (False, True):
        lift.reset(6)
        observations = []
        for action in _random_actions(12, seed=2):
            observations.append(lift.step(action).observation)
            if look_back and len(observations) % 3 == 0:
                assert observations[-3]["agentview_image"].any()
        ends.append(lift.get_state())
    np.testing.assert_array_equal(*ends)
