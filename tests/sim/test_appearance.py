"""Appearances: drawn from training looks only, said in few words, kept as JSON."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import (
    LOOK_WORDS,
    Appearance,
    Light,
    Material,
    default_appearance,
    sample_appearance,
)
from cosmos_engine.sim.colors import COLORS, SHADES
from cosmos_engine.sim.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES

OBJECT_COLORS = {"cubeA": "red", "cubeB": "green"}

# Fields as JSON has them: building the values in the test itself keeps type checks out of hypothesis' draws.
colors = st.sampled_from(sorted(COLORS))
shares = st.floats(0, 1)
material_fields = st.fixed_dictionaries(
    {
        "family": st.sampled_from(sorted(FAMILIES)),
        "color": colors,
        "accent": colors,
        "shade": st.sampled_from(sorted(SHADES)),
        "scale": st.floats(0.1, 10),
        "specular": shares,
        "shininess": shares,
        "seed": st.integers(0, 2**63 - 1),
        "hue_turn_deg": st.floats(-180, 180),
    }
)
light_fields = st.fixed_dictionaries(
    {
        "direction": st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda d: max(map(abs, d)) > 1e-3),
        "temperature_k": st.floats(1500, 15000),
        "intensity": st.floats(0, 2),
        "shadows": st.booleans(),
    }
)
appearance_fields = st.fixed_dictionaries(
    dict.fromkeys(("table", "wall", "floor", "robot", "robot_dark"), material_fields)
    | {
        "objects": st.dictionaries(st.text(min_size=1, max_size=8), material_fields, max_size=3),
        "lights": st.lists(light_fields, min_size=1, max_size=3),
        "ambient": shares,
    }
)


def _samples(count, **options):
    return [sample_appearance(np.random.default_rng(seed), OBJECT_COLORS, **options) for seed in range(count)]


@given(appearance_fields)
def test_appearance_survives_json(fields):
    appearance = Appearance.from_json(json.dumps(fields))
    assert json.loads(appearance.to_json()) == fields
    assert Appearance.from_json(appearance.to_json()) == appearance


def test_same_seed_draws_the_same_look():
    assert _samples(5) == _samples(5)


@pytest.mark.parametrize("recolor_objects", [False, True])
def test_training_looks_never_have_a_held_out_family(recolor_objects):
    drawn = {m.family for a in _samples(400, recolor_objects=recolor_objects) for m in a.materials().values()}
    assert drawn == TRAINING_FAMILIES
    assert drawn.isdisjoint(HELD_OUT_FAMILIES)


def test_training_looks_are_wide():
    samples = _samples(400)
    assert {a.table.family for a in samples} == TRAINING_FAMILIES
    assert {a.table.shade for a in samples} == set(SHADES)
    assert {a.wall.color for a in samples} == set(COLORS)
    assert {len(a.lights) for a in samples} == {1, 2, 3}
    assert {a.lights[0].shadows for a in samples} == {True, False}
    said = {word for a in samples for word in a.lighting_words().split()}
    assert said >= {"dim", "bright", "warm", "cool", "hard", "soft", "left", "right", "front", "behind", "above"}


def test_objects_keep_the_colors_that_their_task_names():
    for appearance in _samples(100):
        assert {name: material.color for name, material in appearance.objects.items()} == OBJECT_COLORS
        assert all(material.accent == material.color for material in appearance.objects.values())


def test_recolored_objects_take_other_colors():
    drawn = {appearance.objects["cubeA"].color for appearance in _samples(200, recolor_objects=True)}
    assert drawn == set(COLORS)


@pytest.mark.parametrize("recolor_objects", [False, True])
def test_no_object_has_the_main_color_of_its_table(recolor_objects):
    for appearance in _samples(200, recolor_objects=recolor_objects):
        assert appearance.table.color not in {material.color for material in appearance.objects.values()}


@pytest.mark.parametrize(
    ("material", "words"),
    [
        (Material("wood", "red", "red", "dark"), "dark red wood"),
        (Material("marble", "white", "grey", scale=2.0), "fine white and grey marble"),
        (Material("weave", "green", "green", scale=0.5), "coarse green cloth"),
        (Material("plain", "blue", "red", "light", scale=0.5), "plain light blue"),
        (Material("brushed", "grey", "grey"), "brushed grey metal"),
    ],
)
def test_material_is_said_in_a_short_phrase(material, words):
    assert material.words() == words


@pytest.mark.parametrize(
    ("light", "words"),
    [
        (Light((0.0, 0.0, -1.0), 6500.0, 0.5, shadows=False), "soft light from above"),
        (Light((0.1, 1.0, -1.0), 3000.0, 0.5, shadows=True), "warm hard light from the left"),
        (Light((-1.0, 0.2, -1.0), 9000.0, 0.5, shadows=True), "cool hard light from the front"),
    ],
)
def test_light_is_said_in_a_short_phrase(light, words):
    assert light.words() == words


def test_brightness_is_said_of_the_whole_lighting():
    base = dataclasses.replace(default_appearance({}), lights=(Light((0.0, 0.0, -1.0), 6500.0, 0.3, shadows=False),))
    phrases = [dataclasses.replace(base, ambient=ambient).lighting_words() for ambient in (0.1, 0.5, 0.9)]
    assert phrases == ["dim soft light from above", "soft light from above", "bright soft light from above"]


@pytest.mark.parametrize("recolor_objects", [False, True])
def test_look_words_are_all_that_training_looks_say(recolor_objects):
    said = {
        word
        for appearance in _samples(300, recolor_objects=recolor_objects)
        for phrase in (appearance.lighting_words(), *(m.words() for m in appearance.materials().values()))
        for word in phrase.split()
    }
    assert said <= LOOK_WORDS
    assert len(LOOK_WORDS) < 60


def test_material_colors_are_shades_of_the_named_color():
    for name in ("red", "green", "blue", "yellow"):
        levels = [sum(Material("plain", name, name, shade).colors()[0]) for shade in ("dark", "medium", "light")]
        assert levels == sorted(levels)
    for name in COLORS:
        varied = np.array([Material("plain", name, name, seed=seed).colors()[0] for seed in range(50)])
        np.testing.assert_allclose(varied, np.broadcast_to(COLORS[name], varied.shape), rtol=0.08)


def test_tone_on_tone_accent_is_a_darker_tone_of_the_same_color():
    color, accent = (np.array(rgb) for rgb in Material("wood", "red", "red").colors())
    assert (accent < color).all()
    np.testing.assert_allclose(accent / accent.max(), color / color.max(), atol=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Material("wod"), r"material family: 'wod' is unknown; did you mean 'wood'\?"),
        (lambda: Material(color="greem"), "did you mean 'green'"),
        (lambda: Material(scale=0.0), r"material scale: expected a number in \[0.1, 10\], got 0.0"),
        (lambda: Material(specular=float("nan")), "material specular"),
        (lambda: Light((0.0, 0.0, 0.0)), "light direction"),
        (lambda: Light(intensity=-1.0), "light intensity"),
        (lambda: dataclasses.replace(default_appearance({}), lights=()), "expected 1 to 3, got 0"),
        (lambda: dataclasses.replace(default_appearance({}), ambient=2.0), "appearance ambient"),
        (lambda: default_appearance({"cube": "rde"}), "did you mean 'red'"),
        (lambda: sample_appearance(np.random.default_rng(0), {"cube": "rde"}), "did you mean 'red'"),
    ],
)
def test_value_out_of_range_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def _broken(change):
    fields = json.loads(default_appearance(OBJECT_COLORS).to_json())
    change(fields)
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "appearance: not valid JSON"),
        ("[]", "appearance: expected an object with fields"),
        (_broken(lambda fields: fields.pop("wall")), "appearance: field 'wall' is missing"),
        (_broken(lambda fields: fields.update(wal={})), "did you mean 'wall'"),
        (_broken(lambda fields: fields["table"].pop("seed")), "material: field 'seed' is missing"),
        (_broken(lambda fields: fields.update(table=3)), "material: expected an object with fields, got 3"),
        (_broken(lambda fields: fields.update(ambient="much")), "appearance ambient"),
        (_broken(lambda fields: fields.update(lights={})), "appearance lights"),
        (_broken(lambda fields: fields["lights"][0].update(direction=4)), "light direction"),
        (_broken(lambda fields: fields["lights"][0].update(direction=["a", 0, 1])), "light direction"),
        (_broken(lambda fields: fields["lights"][0].update(shadows="no")), "light shadows"),
        (_broken(lambda fields: fields["table"].update(seed=1.5)), "material seed"),
        (_broken(lambda fields: fields["table"].update(family="wod")), "did you mean 'wood'"),
    ],
)
def test_broken_json_is_one_clear_line(text, message):
    with pytest.raises(InputError, match=message):
        Appearance.from_json(text)
