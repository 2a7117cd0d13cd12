import numpy as np
import pytest

from cosmos_engine.augment.part_materials import MaterialWords, check_prompt, part_materials, part_of, said_of_parts
from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import sample_appearance
from cosmos_engine.sim.textures import TRAINING_FAMILIES
from cosmos_engine.transfer.prompt import PHRASINGS

LABELS = {
    1: InstanceLabel("robot", "robot_arm", "robot"),
    2: InstanceLabel("gripper", "gripper", "robot"),
    3: InstanceLabel("table", "table", "scene"),
    4: InstanceLabel("wall", "wall", "scene"),
    5: InstanceLabel("floor", "floor", "scene"),
    6: InstanceLabel("cube", "red cube", "manipulated"),
}
PARTS = ("table", "wall", "floor", "robot")


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_every_part_is_as_a_prompt_of_any_phrasing_says(phrasing):
    for seed in range(100):
        look = sample_appearance(np.random.default_rng(seed), {})
        words = {part: getattr(look, part).words() for part in PARTS}
        prompt = phrasing.format(**words, light=look.lighting_words(), objects="red cube and green cube")
        materials = part_materials(prompt, seed + 1, LABELS)
        assert {part: materials[part].words() for part in PARTS} == words


def test_sentences_of_users_are_read_where_they_can_be():
    assert said_of_parts("A robot at a red oak table, in front of a brick wall.") == {
        "table": MaterialWords(color="red")
    }
    assert said_of_parts("red cube and green table") == {"table": MaterialWords(color="green")}
    assert said_of_parts("the gray robot on a wooden desk") == {
        "robot": MaterialWords(color="grey"),
        "table": MaterialWords(family="wood"),
    }
    assert said_of_parts("Table: an old dark blue table; ground: green tiles") == {
        "table": MaterialWords(color="blue", shade="dark"),
        "floor": MaterialWords(family="tiles", color="green"),
    }
    assert said_of_parts("") == {}


def test_what_is_not_said_is_drawn_from_the_seed():
    first, again, other = (part_materials("a blue table", seed, LABELS) for seed in (1, 1, 2))
    assert first == again
    assert first["table"].color == other["table"].color == "blue"
    assert first["wall"] != other["wall"]
    assert len({part_materials("a blue table", seed, LABELS)["table"].family for seed in range(30)}) > 4


def test_a_part_does_not_depend_on_what_is_said_of_the_others():
    assert part_materials("red wood table", 3, LABELS)["wall"] == part_materials("", 3, LABELS)["wall"]


def test_only_families_of_training_are_drawn_and_no_table_hides_an_object():
    for seed in range(100):
        materials = part_materials("", seed, LABELS)
        assert {material.family for material in materials.values()} <= TRAINING_FAMILIES
        assert materials["table"].color != "red"


@pytest.mark.parametrize("prompt", ["a red checks table", "wall: blue stripes.", "robot: grey rings"])
def test_a_texture_of_the_benchmark_is_one_line(prompt):
    for act in (lambda: check_prompt(prompt), lambda: part_materials(prompt, 0, LABELS)):
        with pytest.raises(InputError, match="kept for the benchmark"):
            act()
    check_prompt("put the rings beside the checks")


def test_scene_parts_beyond_the_known_have_materials_of_their_own():
    labels = {**LABELS, 7: InstanceLabel("bin", "storage_bin", "scene"), 8: InstanceLabel("shelf_2", "shelf", "scene")}
    materials = part_materials("a dark green wood bin", 5, labels)
    assert materials["bin"].words() == "dark green wood"
    assert materials["shelf"] != materials["table"]
    with pytest.raises(InputError, match="bin: 'stripes'"):
        part_materials("a red stripes bin", 0, labels)


@pytest.mark.parametrize(
    ("name", "class_name", "role", "part"),
    [
        ("panda", "robot_arm", "robot", "robot"),
        ("/World/Table_01", "prop", "scene", "table"),
        ("GroundPlane", "ground", "scene", "floor"),
        ("robot_stand", "robot_stand", "scene", "stand"),
        ("7", "", "scene", "7"),
    ],
)
def test_an_instance_belongs_to_the_part_that_its_names_say(name, class_name, role, part):
    assert part_of(InstanceLabel(name, class_name, role)) == part


def test_the_background_is_as_it_is_said_or_like_the_wall():
    materials = part_materials("a plain pink wall", 4, LABELS)
    assert materials["background"] == materials["wall"]
    assert part_materials("plain pink wall, plain blue background", 4, LABELS)["background"].color == "blue"
