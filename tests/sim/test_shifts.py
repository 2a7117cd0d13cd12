"""Shifts: seeded, each of one thing, and outside of what training looks have."""

import colorsys
import dataclasses
import itertools

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import default_appearance, sample_appearance
from cosmos_engine.sim.colors import COLORS
from cosmos_engine.sim.look import Look
from cosmos_engine.sim.ranges import TRAINING_HUE_TURN_DEG
from cosmos_engine.sim.sensor import SensorModel, sample_training_sensor
from cosmos_engine.sim.shifts import KEEP_OUT_M, SHIFTS, SINGLE_SHIFTS, STAND_X_M, STAND_Y_M, shifted
from cosmos_engine.sim.strengths import ShiftStrengths
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES

OBJECT_COLORS = {"cubeA": "red", "cubeB": "green", "bowl": "blue"}
BASE = Look(default_appearance(OBJECT_COLORS))
STRENGTHS = ShiftStrengths()
TRAINING_LOOKS = 800  # with 6,400 materials and 1,600 lights
TRIALS = 150


def _shifted(name, seed, look=BASE, strengths=STRENGTHS):
    return shifted(name, look, strengths, seed=seed)


def _hue_deg(rgb):
    return 360 * colorsys.rgb_to_hsv(*rgb)[0]


def _turn_deg(one, other):
    return abs((one - other + 180) % 360 - 180)


def _is_colored(rgb):
    return colorsys.rgb_to_hsv(*rgb)[1] > 0.3


def _object_turns_deg(look):
    """Return how far the hue of every coloured object is from that of its colour's name."""
    return [
        _turn_deg(_hue_deg(material.colors()[0]), _hue_deg(COLORS[material.color]))
        for material in look.appearance.objects.values()
        if _is_colored(material.colors()[0])
    ]


def _sensor(look):
    return look.sensor or SensorModel()


# What each shift changes, as numbers or names that no training look may share.
MEASURES = {
    "light_intensity": [lambda look: [look.appearance.level()]],
    "light_color": [lambda look: [1e6 / light.temperature_k for light in look.appearance.lights]],
    "background": [lambda look: [look.appearance.wall.family, look.appearance.floor.family]],
    "table_texture": [lambda look: [look.appearance.table.family]],
    "robot_texture": [lambda look: [look.appearance.robot.family]],
    "object_color": [_object_turns_deg],
    "distractors": [lambda look: [float(len(look.distractors))]],
    "camera_pose": [
        lambda look: [float(np.linalg.norm(look.camera_offset.move_m))],
        lambda look: [float(np.linalg.norm(look.camera_offset.turn_rad))],
    ],
    "camera_noise": [
        lambda look: [_sensor(look).blur_px],
        lambda look: [abs(_sensor(look).exposure_stops)],
        lambda look: [float(np.abs(np.log2(_sensor(look).white_balance)).max())],
        lambda look: [_sensor(look).noise_levels],
    ],
}


@pytest.fixture(scope="module")
def trained():
    """Return what looks as generator and policies are trained on give for every measure, through training's cameras."""
    looks = []
    for seed in range(TRAINING_LOOKS):
        rng = np.random.default_rng(seed)
        appearance = sample_appearance(rng, OBJECT_COLORS, recolor_objects=seed % 2 == 1)
        looks.append(Look(appearance, sensor=sample_training_sensor(rng)))
    return {name: [_values(measure, looks) for measure in measures] for name, measures in MEASURES.items()}


def _values(measure, looks):
    return {value for look in looks for value in measure(look)}


def test_every_shift_is_measured():
    assert list(MEASURES) == list(SINGLE_SHIFTS)
    assert list(SHIFTS) == ["vanilla", *SINGLE_SHIFTS, "everything"]


@pytest.mark.parametrize("name", [*SINGLE_SHIFTS, "everything"])
def test_no_shift_draws_what_training_draws(name, trained):
    trials = [_shifted(name, seed) for seed in range(TRIALS)]
    for measured in SINGLE_SHIFTS if name == "everything" else [name]:
        for measure, shown in zip(MEASURES[measured], trained[measured], strict=True):
            drawn = _values(measure, trials)
            if isinstance(next(iter(drawn)), str):
                assert drawn == HELD_OUT_FAMILIES
                assert drawn.isdisjoint(shown)
            else:
                assert not [value for value in drawn if min(shown) - 1e-3 <= value <= max(shown) + 1e-3]


def test_vanilla_changes_nothing():
    assert _shifted("vanilla", 5) is BASE


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("light_intensity", {"lights", "ambient"}),
        ("light_color", {"lights"}),
        ("background", {"wall", "floor"}),
        ("table_texture", {"table"}),
        ("robot_texture", {"robot"}),
        ("object_color", {"objects"}),
        ("distractors", {"distractors"}),
        ("camera_pose", {"camera_offset"}),
        ("camera_noise", {"sensor"}),
        (
            "everything",
            {
                "lights",
                "ambient",
                "wall",
                "floor",
                "table",
                "robot",
                "objects",
                "distractors",
                "camera_offset",
                "sensor",
            },
        ),
    ],
)
def test_a_shift_changes_its_part_and_nothing_else(name, changed):
    before, after = (
        {
            field.name: getattr(part, field.name)
            for part in (look.appearance, look)
            for field in dataclasses.fields(part)
        }
        for look in (BASE, _shifted(name, 1))
    )
    assert {part for part in before if after[part] != before[part]} - {"appearance"} == changed


@pytest.mark.parametrize("name", list(SHIFTS))
def test_trial_seed_decides_the_look(name):
    assert _shifted(name, 7) == _shifted(name, 7)


@pytest.mark.parametrize("name", [*SINGLE_SHIFTS, "everything"])
def test_trials_differ(name):
    drawn = [_shifted(name, seed) for seed in range(30)]
    assert all(one != other for one, other in itertools.combinations(drawn, 2))


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("light_intensity", lambda look: look.appearance.level() > 1),
        ("light_color", lambda look: look.appearance.lights[0].temperature_k > 6000),
        ("object_color", lambda look: look.appearance.objects["cubeA"].hue_turn_deg > 0),
        ("camera_noise", lambda look: _sensor(look).exposure_stops > 0),
        ("camera_noise", lambda look: _sensor(look).white_balance[0] > 1),
    ],
)
def test_both_ways_are_about_as_frequent(name, sign):
    assert 0.3 < np.mean([sign(_shifted(name, seed)) for seed in range(TRIALS)]) < 0.7


def test_light_intensity_keeps_directions_colors_and_proportions():
    before, after = BASE.appearance, _shifted("light_intensity", 3).appearance
    factor = after.level() / before.level()
    for one, other in zip(before.lights, after.lights, strict=True):
        assert dataclasses.replace(one, intensity=other.intensity) == other
        assert other.intensity == pytest.approx(factor * one.intensity)
    assert after.ambient == pytest.approx(factor * before.ambient)


@pytest.mark.parametrize("name", ["table_texture", "robot_texture", "background"])
def test_textures_are_none_of_the_objects_colors(name):
    for seed in range(100):
        appearance = _shifted(name, seed).appearance
        part = {"table_texture": "table", "robot_texture": "robot", "background": "wall"}[name]
        material = getattr(appearance, part)
        assert len({material.color, material.accent, *OBJECT_COLORS.values()}) == 5


def test_turned_colors_are_still_nearest_to_the_name_that_the_instruction_says():
    for seed in range(TRIALS):
        for material in _shifted("object_color", seed).appearance.objects.values():
            rgb = np.array(material.colors()[0])
            assert min(COLORS, key=lambda name: np.linalg.norm(rgb - COLORS[name])) == material.color


def test_turned_hues_are_those_of_no_named_color():
    """A generator trained on recoloured objects has seen every named colour, orange and pink beside red too."""
    named = np.array([_hue_deg(rgb) for rgb in COLORS.values() if _is_colored(rgb)])
    for seed in range(TRIALS):
        for material in _shifted("object_color", seed).appearance.objects.values():
            assert _turn_deg(_hue_deg(material.colors()[0]), named).min() > TRAINING_HUE_TURN_DEG[1]


def test_distractors_stand_clear_of_the_work_and_of_each_other():
    for seed in range(TRIALS):
        placed = _shifted("distractors", seed).distractors
        for one in placed:
            (x_m, y_m), reach_m = one.position_m, one.radius_m
            assert abs(x_m) - reach_m >= KEEP_OUT_M[0] - 1e-9 or abs(y_m) - reach_m >= KEEP_OUT_M[1] - 1e-9
            assert STAND_X_M[0] - 1e-9 <= x_m - reach_m
            assert x_m + reach_m <= STAND_X_M[1] + 1e-9
            assert abs(y_m) + reach_m <= STAND_Y_M[1] + 1e-9
        for one, other in itertools.combinations(placed, 2):
            assert np.hypot(*np.subtract(one.position_m, other.position_m)) > one.radius_m + other.radius_m


@pytest.mark.parametrize("task", sorted(TASKS))
def test_no_distractor_could_be_the_object_that_the_instruction_names(task):
    colors = {item.name: item.color for item in TASKS[task].objects}
    look = Look(default_appearance(colors))
    for seed in range(100):
        for distractor in _shifted("distractors", seed, look).distractors:
            for color in colors.values():
                assert np.linalg.norm(np.subtract(COLORS[distractor.color], COLORS[color])) > 0.4


def test_most_distractors_that_a_config_may_ask_for_find_room():
    crowd = dataclasses.replace(STRENGTHS.distractors, count=[6, 6], size_cm=[8.0, 8.0], height_cm=[5.5, 5.5])
    strengths = dataclasses.replace(STRENGTHS, distractors=crowd)
    for seed in range(10):
        assert len(_shifted("distractors", seed, strengths=strengths).distractors) == 6


def test_exposure_errs_against_light_beyond_training():
    for seed in range(30):
        look = _shifted("everything", seed)
        assert (look.appearance.level() < 1) == (_sensor(look).exposure_stops > 0)


def test_unknown_shift_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"'table_textur'.*did you mean 'table_texture'"):
        _shifted("table_textur", 0)
