"""Prompts: words for the parts of a scene, put into sentences.

The same phrasings are used to train the tiny checkpoint and to prompt it, so what a user reads in a variant's
provenance is what the text encoder was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SceneWords:
    """What a prompt says of a scene: a phrase for each part, such as "brown wood" for the table.

    Attributes:
        table, wall, floor, robot: material phrases.
        light: a phrase for the light.
        objects: phrase by object, such as {"cubeA": "red cube"}; these also say what must not change.
    """

    table: str
    wall: str
    floor: str
    robot: str
    light: str
    objects: Mapping[str, str]


PHRASINGS = (
    "table: {table}. wall: {wall}. floor: {floor}. robot: {robot}. objects: {objects}. light: {light}.",
    "a {robot} robot arm at a {table} table with {objects}, in front of a {wall} wall, on a {floor} floor, {light}.",
    "{light}. {table} table, {wall} wall, {floor} floor, {robot} robot, {objects}.",
)


def scene_prompt(words: SceneWords, rng: np.random.Generator) -> str:
    """Return `words` in one of the phrasings, chosen by `rng`."""
    phrasing = PHRASINGS[rng.integers(len(PHRASINGS))]
    return phrasing.format(
        table=words.table,
        wall=words.wall,
        floor=words.floor,
        robot=words.robot,
        light=words.light,
        objects=" and ".join(words.objects.values()) or "nothing",
    )
