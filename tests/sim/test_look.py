"""Looks on the table-top: they change what is seen, and neither the physics nor what a vanilla recording holds."""

import dataclasses

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.experts import Expert
from cosmos_engine.sim.look import MAX_DISTRACTORS, CameraOffset, Distractor, Look
from cosmos_engine.sim.scene import CAMERAS
from cosmos_engine.sim.sensor import SensorModel
from cosmos_engine.sim.shifts import KEEP_OUT_M, SHIFTS, STAND_X_M, shifted
from cosmos_engine.sim.strengths import LIMITS, ShiftStrengths
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.tasks import TASKS

STRENGTHS = ShiftStrengths()
IMAGE_SIZE = 64
PASSES = ("rgb", "depth_m", "instance", "intrinsics_px", "world_from_camera")


@pytest.fixture(scope="module", params=sorted(TASKS))
def environment(request):
    made = TabletopEnvironment(request.param, image_size=IMAGE_SIZE, render=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack():
    made = TabletopEnvironment("stack", image_size=IMAGE_SIZE)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _vanilla_again(request):
    """Give shared environments back in the look that they came with."""
    shared = [
        request.getfixturevalue(name) for name in ("environment", "stack", "blind") if name in request.fixturenames
    ]
    looks = [made.look for made in shared]
    yield
    for made, look in zip(shared, looks, strict=True):
        made.look = look


def _shift(environment, name, seed=0):
    environment.look = shifted(name, environment.look, STRENGTHS, seed=seed)


def _frames(environment):
    return {camera: environment.render_passes(camera) for camera in CAMERAS}


def _objects_seen(environment, frame):
    named = {label.name: instance for instance, label in environment.labels.items()}
    return {name: frame.instance == named[name] for name in environment.objects}


@pytest.fixture(scope="module")
def blind():
    """Return an environment whose observations hold no images; it renders when asked."""
    made = TabletopEnvironment("stack", image_size=IMAGE_SIZE, render=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def grasp(blind):
    """Return the actions of an expert that grasps and lifts, and the states that they lead to in the vanilla look."""
    blind.reset(11)
    expert, actions, states = Expert("stack"), [], [blind.get_state()]
    for _ in range(40):
        actions.append(expert.act(blind))
        blind.step(actions[-1])
        states.append(blind.get_state())
    return actions, states


@pytest.mark.parametrize("name", list(SHIFTS))
def test_states_under_every_shift_are_those_of_vanilla(blind, grasp, name):
    actions, states = grasp
    _shift(blind, name)
    blind.reset(11)
    np.testing.assert_array_equal(blind.get_state(), states[0])
    for step, action in enumerate(actions):
        if step % 10 == 0:
            _frames(blind)  # looks are written into the model when it is rendered
        blind.step(action)
        np.testing.assert_array_equal(blind.get_state(), states[step + 1])


@pytest.mark.parametrize("name", [name for name in SHIFTS if name != "vanilla"])
def test_every_shift_is_seen_and_leaves_no_trace(stack, name):
    stack.reset(3)
    vanilla = stack.look
    before = _frames(stack)
    _shift(stack, name)
    during = _frames(stack)
    assert max((during[camera].rgb != before[camera].rgb).mean() for camera in CAMERAS) > 0.01
    if name not in ("distractors", "camera_pose", "everything"):
        for camera in CAMERAS:
            for what in PASSES[1:]:
                np.testing.assert_array_equal(getattr(during[camera], what), getattr(before[camera], what))
    stack.look = vanilla
    after = _frames(stack)
    for camera in CAMERAS:
        for what in PASSES:
            np.testing.assert_array_equal(getattr(after[camera], what), getattr(before[camera], what))


def test_appearance_is_a_part_of_the_look(stack):
    _shift(stack, "everything")
    look = stack.look
    other = dataclasses.replace(look.appearance, ambient=0.1)
    stack.appearance = other
    assert stack.look == dataclasses.replace(look, appearance=other)
    assert stack.appearance is other


def test_distractors_are_scene_instances_that_depth_and_labels_know(environment):
    environment.reset(0)
    plain = dict(environment.labels)
    environment.look = dataclasses.replace(
        environment.look, distractors=(Distractor("box", "yellow", (-0.28, 0.2), 0.4, (0.08, 0.06, 0.05)),)
    )
    (instance,) = set(environment.labels) - set(plain)
    label = environment.labels[instance]
    assert (label.name, label.class_name, label.role) == ("distractor0", "yellow box", "scene")
    frame = environment.render_passes("agentview")
    rows, columns = np.nonzero(frame.instance == instance)
    assert len(rows) > 15
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(frame.intrinsics_px).T
    points_m = rays * frame.depth_m[rows, columns][:, None] @ frame.world_from_camera[:3, :3].T
    local_m = points_m + frame.world_from_camera[:3, 3] - (-0.28, 0.2, 0.025)
    turn = np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]])
    outside_m = (np.abs(local_m @ turn) - (0.04, 0.03, 0.025)).max(axis=-1)
    np.testing.assert_allclose(outside_m, 0, atol=1e-3)  # every pixel lies on the box's surface


def test_distractors_hide_nothing_of_the_objects_at_the_start(environment):
    for seed in range(4):
        environment.reset(seed)
        vanilla = environment.look
        before = _frames(environment)
        _shift(environment, "distractors", seed)
        for camera, frame in _frames(environment).items():
            for name, mask in _objects_seen(environment, frame).items():
                np.testing.assert_array_equal(mask, _objects_seen(environment, before[camera])[name])
        environment.look = vanilla


def test_most_distractors_are_seen_from_outside(environment):
    seen, placed = 0, 0
    for seed in range(10):
        environment.look = dataclasses.replace(environment.look, distractors=())
        environment.reset(seed)
        _shift(environment, "distractors", seed)
        instance = environment.render_passes("agentview").instance
        ids = [key for key, label in environment.labels.items() if label.name.startswith("distractor")]
        seen += sum((instance == key).sum() >= 4 for key in ids)
        placed += len(ids)
    assert seen >= 0.7 * placed


def test_nothing_that_an_expert_moves_comes_where_distractors_stand(environment):
    highest_m = LIMITS["distractors.height_cm"][1] / 100
    model, data = environment._model, environment._data
    moving = [
        geom
        for geom in range(model.ngeom)
        if model.body(int(model.geom_bodyid[geom])).name not in ("table", "wall", "floor")
    ]
    signs = np.stack(np.meshgrid(*[(-1, 1)] * 3), axis=-1).reshape(-1, 1, 3)
    centre_m, half_m = model.geom_aabb[moving, :3], model.geom_aabb[moving, 3:]
    for seed in range(2):
        environment.reset(seed)
        expert = Expert(environment.task)
        for _ in range(environment.horizon):
            done = environment.step(expert.act(environment)).terminated
            corners_m = (
                np.einsum("gij,cgj->cgi", data.geom_xmat[moving].reshape(-1, 3, 3), centre_m + signs * half_m)
                + data.geom_xpos[moving]
            )
            low = corners_m[corners_m[..., 2] < highest_m]
            at_work = (np.abs(low[:, 0]) < KEEP_OUT_M[0]) & (np.abs(low[:, 1]) < KEEP_OUT_M[1])
            assert (at_work | (low[:, 0] < STAND_X_M[0])).all()  # the rest is the robot's base
            if done:
                break


def test_moved_camera_is_off_by_its_offset_and_its_passes_know(stack):
    stack.reset(2)
    usual = stack.render_passes("agentview").world_from_camera
    hand = stack.render_passes("robot0_eye_in_hand").world_from_camera
    offset = CameraOffset(move_m=(0.01, -0.02, 0.03), turn_rad=(0.0, 0.0, 0.1))
    stack.look = dataclasses.replace(stack.look, camera_offset=offset)
    moved = stack.render_passes("agentview").world_from_camera
    np.testing.assert_allclose(moved[:3, 3] - usual[:3, 3], offset.move_m, atol=1e-12)
    turn = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    np.testing.assert_allclose(moved[:3, :3], turn @ usual[:3, :3], atol=1e-12)
    np.testing.assert_array_equal(stack.render_passes("robot0_eye_in_hand").world_from_camera, hand)


def test_every_object_stays_in_view_of_the_moved_camera(environment):
    for seed in range(8):
        environment.look = dataclasses.replace(environment.look, camera_offset=CameraOffset())
        environment.reset(seed)
        before = _objects_seen(environment, environment.render_passes("agentview"))
        _shift(environment, "camera_pose", seed)
        frame = environment.render_passes("agentview")
        for name, mask in _objects_seen(environment, frame).items():
            assert mask.sum() >= 0.4 * before[name].sum(), (name, seed)
            v, u = np.argwhere(mask).mean(axis=0).round().astype(int)
            point = np.linalg.inv(frame.intrinsics_px) @ (u, v, 1) * frame.depth_m[v, u]
            reach_m = 2 * environment.objects[name].half_extent_m
            point_m = (frame.world_from_camera @ (*point, 1))[:3]
            assert np.linalg.norm(point_m - environment.object_position_m(name)) < reach_m


def test_camera_comes_back_when_the_context_is_opened_again(stack):
    stack.reset(0)
    before = stack.render_passes("agentview")
    vanilla = stack.look
    _shift(stack, "camera_pose")
    stack.render_passes("agentview")
    stack.close()
    stack.look = vanilla
    after = stack.render_passes("agentview")
    np.testing.assert_array_equal(after.world_from_camera, before.world_from_camera)
    np.testing.assert_array_equal(after.rgb, before.rgb)


def test_noise_follows_from_the_state(stack):
    _shift(stack, "camera_noise")
    observation, start = stack.reset(4), stack.get_state()
    still = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
    later = stack.step(still).observation
    noise = observation["agentview_image"].astype(int) - later["agentview_image"]
    assert noise.std() > STRENGTHS.camera_noise.noise_levels[0]  # the scene is still: the difference is fresh noise
    stack.set_state(start)
    for camera in CAMERAS:
        np.testing.assert_array_equal(stack.observe()[f"{camera}_image"], observation[f"{camera}_image"])
        np.testing.assert_array_equal(stack.render_passes(camera).rgb, observation[f"{camera}_image"])


def test_sensor_touches_color_only(stack):
    stack.reset(5)
    before = stack.render_passes("agentview")
    stack.look = dataclasses.replace(stack.look, sensor=SensorModel(blur_px=3.0, noise_levels=20.0))
    after = stack.render_passes("agentview")
    for what in PASSES[1:]:
        np.testing.assert_array_equal(getattr(after, what), getattr(before, what))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distractor("can", "rde", (0.0, 0.0), 0.0, (0.05, 0.05, 0.05)), "did you mean 'red'"),
        (lambda: Distractor("can", "red", (0.0, 0.0), 0.0, (0.05, 0.04, 0.05)), "that suit a can"),
        (lambda: Distractor("ball", "red", (0.0, 0.0), 0.0, (0.05, 0.05, 0.04)), "that suit a ball"),
        (lambda: Distractor("box", "red", (0.0, 0.0), 0.0, (0.05, 0.0, 0.04)), "lengths above 0"),
    ],
)
def test_bad_distractor_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_too_many_distractors_are_refused(stack):
    ball = Distractor("ball", "teal", (-0.3, 0.2), 0.0, (0.05, 0.05, 0.05))
    with pytest.raises(InputError, match=f"expected at most {MAX_DISTRACTORS}, got {MAX_DISTRACTORS + 1}"):
        Look(stack.appearance, distractors=(ball,) * (MAX_DISTRACTORS + 1))
