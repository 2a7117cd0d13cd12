"""Prompt templates: captions with slots, filled from one scene at a time so that what they say belongs together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

from cosmos_engine.augment.prompts import PromptRequest, keep_clause, kept_objects, listed, object_colors
from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError

ANY_TASK = "any"
GIVEN_SLOTS = ("objects", "instruction", "task")
"""Slots that the episode fills."""
DRAWS = 200
"""Draws of one scene before its contradictions are said to leave nothing; half of all combinations may be ruled out."""


@dataclass(frozen=True)
class TemplateConfig:
    """Captions with slots, and what may fill them.

    Attributes:
        sentences: captions by task, `any` for the tasks that are not named. `{slot}` stands for a choice of the scene,
            `{objects}`, `{instruction}` and `{task}` for what the episode says.
        keep: whether a clause that names what must not change ends every prompt.
        scenes: by scene, choices by slot. A prompt is filled from one scene.
        contradictions: groups of words; choices with two words of a group never stand in one prompt.
        unlike_objects: slots whose choice may not have the colour word of an object of the task, so that the object can
            be seen on it.

    Raises:
        InputError: no caption, a slot that a scene has no choice for, a choice or a group that is empty; names the key.
    """

    sentences: dict[str, list[str]] = field(default_factory=dict)
    keep: bool = True
    scenes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    contradictions: list[list[str]] = field(default_factory=list)
    unlike_objects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.sentences or not all(self.sentences.values()):
            raise InputError("prompts key 'sentences': expected at least one caption for each task that is named")
        if not self.scenes:
            raise InputError("prompts key 'scenes': expected at least one scene")
        for task, sentences in self.sentences.items():
            for sentence in sentences:
                for slot in _slots(f"sentences.{task}", sentence):
                    self._check_slot(f"sentences.{task}", slot)
        for scene, slots in self.scenes.items():
            for slot, choices in slots.items():
                if not choices or not all(isinstance(choice, str) and choice.strip() for choice in choices):
                    raise InputError(f"prompts key 'scenes.{scene}.{slot}': expected at least one choice, none blank")
        for slot in self.unlike_objects:
            self._check_slot("unlike_objects", slot)
        for group in self.contradictions:
            if len(group) < 2:
                raise InputError(f"prompts key 'contradictions': expected two words or more in a group, got {group}")

    def _check_slot(self, key: str, slot: str) -> None:
        if slot in GIVEN_SLOTS:
            return
        for scene, slots in self.scenes.items():
            if slot not in slots:
                known = [*GIVEN_SLOTS, *slots]
                raise InputError(f"prompts key {key!r}: scene {scene!r} has no slot {slot!r}{nearest(slot, known)}")


class TemplatePrompts:
    """Captions drawn from a `TemplateConfig`.

    Args:
        config: captions and scenes.
        name: what provenance calls them.
    """

    def __init__(self, config: TemplateConfig, name: str) -> None:
        self._config = config
        self._name = name

    @property
    def provenance(self) -> dict[str, Any]:
        """The name and the whole config."""
        return {"writer": "template", "name": self._name, **dataclasses.asdict(self._config)}

    def write(self, request: PromptRequest) -> str:
        """Return a caption of the task, filled from one scene, with the clause of what must not change.

        Raises:
            InputError: no caption for the task, or contradictions that leave nothing of a scene.
        """
        config, rng = self._config, request.rng
        sentences = config.sentences.get(request.task, config.sentences.get(ANY_TASK))
        if sentences is None:
            known = ", ".join(config.sentences)
            raise InputError(f"prompts {self._name}: no caption for task {request.task!r} nor 'any'; there are {known}")
        sentence = sentences[int(rng.integers(len(sentences)))]
        scene = sorted(config.scenes)[int(rng.integers(len(config.scenes)))]
        given = {
            "objects": listed(list(kept_objects(request.labels).values())),
            "instruction": request.instruction,
            "task": request.task.replace("_", " "),
        }
        filled = sentence.format(**self._drawn(scene, request), **given)
        return f"{filled} {keep_clause(request.labels)}" if config.keep else filled

    def _drawn(self, scene: str, request: PromptRequest) -> dict[str, str]:
        """Draw every slot of a scene until no two choices contradict each other or hide an object."""
        config, rng = self._config, request.rng
        slots = {slot: choices for slot, choices in config.scenes[scene].items() if slot not in GIVEN_SLOTS}
        colors = set(object_colors(request.labels).values())
        for _ in range(DRAWS):
            drawn = {slot: slots[slot][int(rng.integers(len(slots[slot])))] for slot in sorted(slots)}
            hidden = any(_has(drawn.get(slot, ""), color) for slot in config.unlike_objects for color in colors)
            if not hidden and not contradictory(drawn, config.contradictions):
                return drawn
        raise InputError(f"prompts {self._name}: scene {scene!r}: contradictions leave no choice in {DRAWS} draws")


def contradictory(choices: Mapping[str, str], groups: Sequence[Sequence[str]]) -> bool:
    """Say whether two different words of one group stand in the choices."""
    said = " / ".join(choices.values())
    return any(sum(_has(said, word) for word in group) > 1 for group in groups)


def _has(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _slots(key: str, sentence: str) -> list[str]:
    """Return the slots of a caption; only plain names are slots."""
    try:
        parts = list(Formatter().parse(sentence))
    except ValueError as error:
        raise InputError(f"prompts key {key!r}: {sentence[:60]!r}: {error}") from error
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise InputError(f"prompts key {key!r}: {sentence[:60]!r}: expected slots like {{table}}, got {{{name}}}")
    return names
