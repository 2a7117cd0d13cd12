import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from cosmos_engine.augment.prompt_template import TemplateConfig, TemplatePrompts, contradictory
from cosmos_engine.augment.prompts import PromptRequest
from cosmos_engine.config import config_folder, load_config
from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError

from .conftest import LABELS

SMALL = TemplateConfig(
    sentences={"any": ["{instruction} at {table}. {light}"], "stack": ["a tower of {objects} on {table}. {light}"]},
    scenes={
        "home": {"table": ["a red table", "a green table"], "light": ["Night.", "Sunlight."]},
        "work": {"table": ["a bench at night"], "light": ["Sunlight.", "Lamps."]},
    },
    contradictions=[["night", "sunlight"]],
    unlike_objects=["table"],
)


def request(seed: int, task: str = "lift") -> PromptRequest:
    return PromptRequest(0, 1, 0, task, "lift the red cube", LABELS, np.random.default_rng(seed))


def written(config: TemplateConfig, task: str = "lift", count: int = 60) -> list[str]:
    writer = TemplatePrompts(config, "small")
    return [writer.write(request(seed, task)) for seed in range(count)]


def test_a_prompt_is_filled_from_one_scene_without_contradictions():
    said = {prompt.split(" The red cube")[0] for prompt in written(SMALL)}
    assert said == {
        "lift the red cube at a green table. Night.",
        "lift the red cube at a green table. Sunlight.",
        "lift the red cube at a bench at night. Lamps.",
    }


def test_a_task_has_its_own_captions_and_every_prompt_says_what_must_not_change():
    prompts = written(SMALL, "stack")
    assert all(prompt.startswith("a tower of the red cube on ") for prompt in prompts)
    keep = "The red cube and the robot arm keep their shape, colour, place and motion in every frame."
    assert all(prompt.endswith(keep) for prompt in prompts)
    assert not any("keep" in prompt for prompt in written(replace(SMALL, keep=False)))


def test_the_same_seed_writes_the_same_prompt():
    assert written(SMALL) == written(SMALL)


def test_words_contradict_only_as_whole_words_of_one_group():
    groups = [["night", "sunlight"], ["wet", "dry"]]
    assert contradictory({"a": "at Night", "b": "bright sunlight"}, groups)
    assert not contradictory({"a": "tonight", "b": "sunlight"}, groups)
    assert not contradictory({"a": "night", "b": "night, dry"}, groups)


def test_contradictions_that_leave_nothing_are_one_line():
    scenes = {"home": {"table": ["a green table"], "light": ["Night in sunlight."]}}
    with pytest.raises(InputError, match="scene 'home': contradictions leave no choice"):
        written(replace(SMALL, scenes=scenes))


def test_a_task_without_a_caption_is_one_line():
    with pytest.raises(InputError, match="no caption for task 'lift' nor 'any'; there are stack"):
        written(replace(SMALL, sentences={"stack": SMALL.sentences["stack"]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": {}}, "sentences"),
        ({"sentences": {"any": []}}, "sentences"),
        ({"scenes": {}}, "scenes"),
        ({"sentences": {"any": ["a {tabel}"]}}, "scene 'home' has no slot 'tabel'; did you mean 'table'"),
        ({"sentences": {"any": ["a {table.__class__}"]}}, "expected slots like {table}"),
        ({"sentences": {"any": ["a {table!r}"]}}, "expected slots like {table}"),
        ({"sentences": {"any": ["a {table"]}}, "sentences.any"),
        ({"sentences": {"any": ["a {}"]}}, "expected slots like {table}"),
        ({"scenes": {"home": {"table": [], "light": ["x"]}}}, "scenes.home.table"),
        ({"scenes": {"home": {"table": [" "], "light": ["x"]}}}, "scenes.home.table"),
        ({"unlike_objects": ["tabel"]}, "unlike_objects"),
        ({"contradictions": [["night"]]}, "contradictions"),
    ],
)  # fmt: skip
def test_a_bad_template_names_the_key(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        replace(SMALL, **change)


def test_the_shipped_rooms_are_varied_coherent_and_name_what_stays():
    config = load_config(TemplateConfig, "prompts/rooms")
    labels = {**LABELS, 5: InstanceLabel("bowl", "white bowl", "manipulated")}
    writer = TemplatePrompts(config, "rooms")
    prompts = [
        writer.write(
            PromptRequest(0, 1, 0, task, "put the cube in the bowl", labels, np.random.default_rng((seed, len(task))))
        )
        for seed in range(100)
        for task in ("lift", "stack", "apple_in_bowl")
    ]
    assert len(set(prompts)) > 290
    for prompt in prompts:
        assert "The red cube, the white bowl and the robot arm keep" in prompt
        assert "put the cube in the bowl" in prompt
        assert "{" not in prompt
        assert 30 <= len(prompt.split()) <= 120
        assert not re.search(r"\b(white|red)\b[^.,;]*\b(worktop|bench|desk)\b", prompt.split("wall")[0])
        assert not ("night" in prompt and "sunlight" in prompt)


def test_every_shipped_template_can_be_read():
    files = sorted((config_folder() / "prompts").glob("*.yaml"))
    assert files
    for file in files:
        assert yaml.safe_load(file.read_text())
        load_config(TemplateConfig, file)
