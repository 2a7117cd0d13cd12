"""Part materials: what a prompt says of the parts of a scene, as materials that can be painted.

A part is a table, a wall, a floor, the robot, or whatever class else a scene instance has. What the prompt says of a
part is obeyed; what it does not say is drawn from the seed.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import (
    COARSE_BELOW,
    FAMILY_PHRASES,
    FINE_ABOVE,
    ONE_COLOR_FAMILIES,
    Appearance,
    Material,
    sample_appearance,
)
from cosmos_engine.sim.colors import COLORS, SHADES
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES

ROBOT, BACKGROUND = "robot", "background"
KNOWN_PARTS = ("table", "wall", "floor", ROBOT, BACKGROUND)
SAME_PART = {"tabletop": "table", "desk": "table", "ground": "floor", "backdrop": BACKGROUND}
SAME_WORD = {"gray": "grey", "wooden": "wood", "tiled": "tiles", "fabric": "cloth", "metallic": "metal"}
FAMILY_OF_WORD = {
    word: family for family, phrase in FAMILY_PHRASES.items() for word in phrase.replace("{color}", "").split()
}
SCALES = {"coarse": (0.5, COARSE_BELOW), "": (COARSE_BELOW, FINE_ABOVE), "fine": (FINE_ABOVE, 2.0)}
"""Pattern scales by word; the ends are those of `sample_appearance`."""
ENDS_PHRASE = frozenset(
    ["a", "an", "the", "its", "on", "at", "in", "with", "of", "to", "by", "from", "behind", "under", "beside", "near"]
)
"""Words that stand before a phrase and belong to none."""
TOKEN = re.compile(r"[a-z]+|[.,:;]")


@dataclasses.dataclass(frozen=True)
class MaterialWords:
    """What a phrase says of a material; "" where it says nothing."""

    family: str = ""
    color: str = ""
    accent: str = ""
    shade: str = ""
    scale: str = ""


def part_of(label: InstanceLabel) -> str:
    """Return the part that an instance belongs to: robot, or what its class or else its name calls it."""
    if label.role == "robot":
        return ROBOT
    words = [SAME_PART.get(word, word) for word in re.findall(r"[a-z]+", f"{label.name} {label.class_name}".lower())]
    words = [word for word in words if word != ROBOT] or [label.name]
    return next((word for word in reversed(words) if word in KNOWN_PARTS), words[-1])


def said_of_parts(prompt: str, parts: Collection[str] = KNOWN_PARTS) -> dict[str, MaterialWords]:
    """Return what a prompt says of each part, in the phrasings of `transfer.prompt` and in sentences like them.

    A phrase stands before its part ("a dark red wood table") or after it and a colon ("table: dark red wood"). Unknown
    words within a phrase are passed over.
    """
    known = {*KNOWN_PARTS, *parts}
    tokens = [SAME_WORD.get(token, token) for token in TOKEN.findall(prompt.lower())]
    tokens = [SAME_PART.get(token, token) for token in tokens]
    said: dict[str, MaterialWords] = {}
    for index, token in enumerate(tokens):
        if token not in known:
            continue
        words = _before(tokens, index, known)
        if tokens[index + 1 : index + 2] == [":"]:
            words = _after(tokens, index + 2, known)
        phrase = _material_words(words)
        if phrase != MaterialWords():
            said.setdefault(token, phrase)
    return said


def check_prompt(prompt: str, parts: Collection[str] = KNOWN_PARTS) -> None:
    """Raise InputError if a prompt asks for a texture family that belongs to the benchmark."""
    for part, words in said_of_parts(prompt, parts).items():
        if words.family in HELD_OUT_FAMILIES:
            phrase = FAMILY_PHRASES[words.family].replace("{color}", "").strip()
            raise InputError(f"prompt {prompt[:60]!r}: {part}: {phrase!r} is a texture kept for the benchmark")


def part_materials(prompt: str, seed: int, labels: Mapping[int, InstanceLabel]) -> dict[str, Material]:
    """Return a material for each part that `labels` has, and for the background.

    Drawn looks are those of `sample_appearance`: training families only, and a drawn table has no object's main colour.
    The background is as the prompt says, or like the wall.

    Raises:
        InputError: the prompt asks for a texture family that belongs to the benchmark.
    """
    object_colors = {
        label.name: color
        for label in labels.values()
        if label.role == "manipulated" and (color := _first(label.class_name.lower().split(), COLORS))
    }
    parts = {part_of(label) for label in labels.values() if label.role != "manipulated"}
    check_prompt(prompt, parts)
    said = said_of_parts(prompt, parts)
    drawn = sample_appearance(np.random.default_rng(seed), object_colors)
    materials = {}
    for part in sorted(parts | {"wall"}):
        rng = np.random.default_rng((seed, zlib.crc32(part.encode())))
        materials[part] = obeying(said.get(part, MaterialWords()), _drawn(drawn, part, object_colors, rng), rng)
    rng = np.random.default_rng((seed, zlib.crc32(BACKGROUND.encode())))
    materials[BACKGROUND] = obeying(said.get(BACKGROUND, MaterialWords()), materials["wall"], rng)
    return materials


def obeying(words: MaterialWords, drawn: Material, rng: np.random.Generator) -> Material:
    """Return a drawn material changed so that it is what the words say."""
    if words == MaterialWords():
        return drawn
    family = words.family or drawn.family
    if words.color:
        color, shade = words.color, words.shade or "medium"
        accent = words.accent or color
    else:
        color, accent, shade = drawn.color, drawn.accent, words.shade or drawn.shade
    scale = drawn.scale
    if words.scale or words.family:
        low, high = SCALES[words.scale]
        scale = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 3)
    if family in ONE_COLOR_FAMILIES:
        accent = color
    return dataclasses.replace(drawn, family=family, color=color, accent=accent, shade=shade, scale=scale)


def _drawn(look: Appearance, part: str, object_colors: Mapping[str, str], rng: np.random.Generator) -> Material:
    """Return a part's drawn material; one that no look knows is like a table of its own."""
    if part in ("table", "wall", "floor", ROBOT):
        material: Material = getattr(look, part)
        return material
    return sample_appearance(rng, object_colors).table


def _before(tokens: Sequence[str], end: int, parts: Collection[str]) -> list[str]:
    """Return the words of the phrase that ends before `end`: back to a mark, a preposition, another part, or a word
    that is unknown and stands before a colour."""
    words: list[str] = []
    for token in reversed(tokens[:end]):
        known = token in COLORS or token in SHADES or token in FAMILY_OF_WORD or token in SCALES or token == "and"
        if token in parts or token in ENDS_PHRASE or not token.isalpha():
            break
        if not known and any(word in COLORS for word in words):
            break
        words.insert(0, token)
    while words and words[0] == "and":
        words.pop(0)
    return words


def _after(tokens: Sequence[str], start: int, parts: Collection[str]) -> list[str]:
    """Return the words from `start` to the next mark or part."""
    words: list[str] = []
    for token in tokens[start:]:
        if token in parts or not token.isalpha():
            break
        words.append(token)
    return words


def _material_words(words: Sequence[str]) -> MaterialWords:
    colors = [word for word in words if word in COLORS]
    # A second colour is an accent only if "and" joins it: "dark red and blue wood".
    is_joined = len(colors) > 1 and words[words.index(colors[0]) + 1] == "and"
    return MaterialWords(
        family=next((FAMILY_OF_WORD[word] for word in words if word in FAMILY_OF_WORD), ""),
        color=colors[0] if colors else "",
        accent=colors[1] if is_joined else "",
        shade=_first(words, [shade for shade in SHADES if shade != "medium"]),
        scale=_first(words, [scale for scale in SCALES if scale]),
    )


def _first(words: Sequence[str], known: Collection[str]) -> str:
    """Return the first known word, or ""."""
    return next((word for word in words if word in known), "")
