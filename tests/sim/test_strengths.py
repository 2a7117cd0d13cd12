"""Strengths: a config that ships apart from training's ranges, and says so where a user brings them together."""

import dataclasses
import re

import pytest

from cosmos_engine.config import as_yaml, config_folder, load_config
from cosmos_engine.errors import InputError
from cosmos_engine.sim.shifts import SINGLE_SHIFTS
from cosmos_engine.sim.strengths import LIMITS, TRAINING_RANGES, ShiftStrengths, overlaps


def test_every_shift_but_vanilla_has_strengths():
    assert [field.name for field in dataclasses.fields(ShiftStrengths)] == list(SINGLE_SHIFTS)


def test_default_config_is_the_default():
    assert load_config(ShiftStrengths, "shifts/default") == ShiftStrengths()


@pytest.mark.parametrize("file", sorted(config_folder().glob("shifts/*.yaml")), ids=lambda file: file.stem)
def test_shipped_strengths_keep_clear_of_training(file):
    assert overlaps(load_config(ShiftStrengths, file)) == []


def test_every_range_has_limits_and_all_but_sizes_are_compared_with_training():
    ranges = {
        f"{shift.name}.{key}"
        for shift in dataclasses.fields(ShiftStrengths)
        for key in dataclasses.asdict(getattr(ShiftStrengths(), shift.name))
        if key != "families"
    }
    assert set(LIMITS) == ranges
    # A pattern is held out by its family and a distractor by being there, whatever the scale and the size.
    sizes = {key for key in ranges if key.endswith((".scale", ".size_cm", ".height_cm"))}
    assert set(TRAINING_RANGES) == ranges - sizes


def test_strengths_survive_yaml(tmp_path):
    strengths = load_config(ShiftStrengths, None, ["camera_pose.turn_deg=[1,2]", "distractors.count=[1,1]"])
    (tmp_path / "mine.yaml").write_text(as_yaml(strengths))
    assert load_config(ShiftStrengths, tmp_path / "mine.yaml") == strengths


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("light_intensity.dim_level=[0.5,0.7]", r"light_intensity.dim_level \[0.5, 0.7\] overlaps \[0.65, 1.1\]"),
        ("camera_noise.noise_levels=[1,30]", "camera_noise.noise_levels"),
        ("table_texture.families=[wood,rings]", "table_texture.families: training draws from wood too"),
    ],
)
def test_strength_that_training_has_is_named(override, line):
    (said,) = overlaps(load_config(ShiftStrengths, None, [override]))
    assert re.search(line, said)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("camera_pose.turn=[1,2]", "unknown key 'camera_pose.turn'; did you mean 'camera_pose.turn_deg'"),
        (
            "camera_pose.turn_deg=[3,2]",
            r"camera_pose.turn_deg: expected two numbers in \[0, 45\], the lower first",
        ),
        ("camera_pose.turn_deg=[3]", "camera_pose.turn_deg: expected two numbers"),
        ("distractors.height_cm=[3,9]", r"distractors.height_cm: expected two numbers in \[1, 5.5\]"),
        ("background.families=[wod]", "background.families: 'wod' is unknown; did you mean 'wood'"),
        ("background.families=[]", "background.families: expected at least one"),
        ("distractors.count=[a,b]", "distractors.count"),
    ],
)
def test_bad_strength_is_one_line(override, message):
    with pytest.raises(InputError, match=message) as error:
        load_config(ShiftStrengths, None, [override])
    assert "\n" not in str(error.value)


def test_everything_depends_on_all_strengths_and_vanilla_on_none():
    strengths = ShiftStrengths()
    assert set(strengths.of("everything")) == set(SINGLE_SHIFTS)
    assert strengths.of("camera_pose") == {"turn_deg": [2.0, 5.0], "move_cm": [2.0, 5.0]}
    assert strengths.of("vanilla") == {}
