"""Prompts for variants: looks drawn from the simulator's words, or the user's own, in turn.

`prompt_template.py` writes captions from slots of rooms; `prompt_command.py` asks a program, such as a language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import sample_appearance
from cosmos_engine.sim.colors import COLORS
from cosmos_engine.transfer.prompt import SceneWords, scene_prompt


@dataclass(frozen=True)
class PromptRequest:
    """What a prompt is wanted for.

    Attributes:
        demo: index in the recording.
        variant: number of the variant, from 1.
        place: how many variants come before it in the job, had none been left out.
        task: name of the task.
        instruction: what the task is, in words.
        labels: what each instance id is.
        rng: the only source of randomness; follows from the job's seed, the demo and the variant.
    """

    demo: int
    variant: int
    place: int
    task: str
    instruction: str
    labels: Mapping[int, InstanceLabel]
    rng: np.random.Generator


@runtime_checkable
class PromptWriter(Protocol):
    """Write the prompt of each variant; the same requests give the same prompts."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What the prompts follow from: JSON values."""
        ...

    def write(self, request: PromptRequest) -> str:
        """Return the prompt of one variant.

        Raises:
            InputError: there is none.
        """
        ...


class LookPrompts:
    """Prompts in the words of the looks that the embedded simulator renders, which the tiny checkpoint was trained on.

    What must not change is said by naming the objects as they are: that is what this vocabulary has for it.
    """

    @property
    def provenance(self) -> dict[str, Any]:
        """The name of this writer."""
        return {"writer": "looks"}

    def write(self, request: PromptRequest) -> str:
        """Return `variant_prompt` of the request's labels."""
        return variant_prompt(request.labels, request.rng)


class OwnPrompts:
    """The user's own prompts, in turn.

    Args:
        prompts: at least one.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._prompts = tuple(prompts)

    @property
    def provenance(self) -> dict[str, Any]:
        """The prompts."""
        return {"writer": "own", "prompts": list(self._prompts)}

    def write(self, request: PromptRequest) -> str:
        """Return the next prompt."""
        return self._prompts[request.place % len(self._prompts)]


def kept_objects(labels: Mapping[int, InstanceLabel]) -> dict[str, str]:
    """Return what must not change beside the robot: the manipulated objects, phrase by name, as in "red cube"."""
    return {label.name: label.class_name for _, label in sorted(labels.items()) if label.role == "manipulated"}


def object_colors(labels: Mapping[int, InstanceLabel]) -> dict[str, str]:
    """Return the colour word of each manipulated object whose phrase has one, by the object's name."""
    colors = {
        name: next((word for word in phrase.lower().split() if word in COLORS), "")
        for name, phrase in kept_objects(labels).items()
    }
    return {name: color for name, color in colors.items() if color}


def listed(phrases: Sequence[str]) -> str:
    """Return phrases as words are listed: "the red cube, the apple and the bowl"; "nothing else" for none."""
    named = [f"the {phrase}" for phrase in phrases]
    if len(named) < 2:
        return named[0] if named else "nothing else"
    return f"{', '.join(named[:-1])} and {named[-1]}"


def keep_clause(labels: Mapping[int, InstanceLabel]) -> str:
    """Return a sentence that names what must not change: the objects of the task, the robot, and every motion."""
    objects = list(kept_objects(labels).values())
    kept = listed([*objects, "robot arm"])
    return f"{kept[0].upper()}{kept[1:]} keep their shape, colour, place and motion in every frame."


def variant_prompt(labels: Mapping[int, InstanceLabel], rng: np.random.Generator) -> str:
    """Return a prompt for one variant: new table, wall, floor, robot and light; the manipulated objects stay.

    The words come from the looks that the embedded simulator can render, which are the looks that the tiny checkpoint
    was trained on; a look is drawn whole, so its slots never contradict each other, and the table is none of the
    objects' colours, so that they can be seen on it.
    """
    look = sample_appearance(rng, object_colors(labels))
    words = SceneWords(
        table=look.table.words(),
        wall=look.wall.words(),
        floor=look.floor.words(),
        robot=look.robot.words(),
        light=look.lighting_words(),
        objects=kept_objects(labels),
    )
    return scene_prompt(words, rng)


def read_prompts(file: Path) -> Sequence[str]:
    """Return the prompts of a text file, one a line; blank lines and lines that start with # are skipped.

    Raises:
        InputError: the file cannot be read or holds no prompt.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: prompts cannot be read: {error}") from error
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise InputError(f"{file}: expected one prompt a line, found none")
    return prompts
