"""Prompts for variants: coherent looks drawn from slots, with the task's objects named as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import sample_appearance
from cosmos_engine.transfer.prompt import SceneWords, scene_prompt


def variant_prompt(labels: Mapping[int, InstanceLabel], rng: np.random.Generator) -> str:
    """Return a prompt for one variant: new table, wall, floor, robot and light; the manipulated objects stay.

    The words come from the looks that the embedded simulator can render, which are the looks that the tiny checkpoint
    was trained on; a look is drawn whole, so its slots never contradict each other.
    """
    look = sample_appearance(rng, {})
    kept = {label.name: label.class_name for _, label in sorted(labels.items()) if label.role == "manipulated"}
    words = SceneWords(
        table=look.table.words(),
        wall=look.wall.words(),
        floor=look.floor.words(),
        robot=look.robot.words(),
        light=look.lighting_words(),
        objects=kept,
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
