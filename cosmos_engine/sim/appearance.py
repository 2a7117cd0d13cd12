"""How the table-top looks: materials and lights as values, drawn at random, put into words, kept as JSON."""

from __future__ import annotations

import colorsys
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import numpy as np

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.colors import COLORS, SHADES, Rgb
from cosmos_engine.sim.ranges import TRAINING_LEVEL, TRAINING_MIRED
from cosmos_engine.sim.textures import FAMILIES, TRAINING_FAMILIES

TONE_ON_TONE_SHADE = 0.55
"""Brightness of the second colour of a material whose accent is its own colour."""

FAMILY_PHRASES: dict[str, str] = {
    "plain": "plain {color}",
    "wood": "{color} wood",
    "marble": "{color} marble",
    "weave": "{color} cloth",
    "brushed": "brushed {color} metal",
    "noise": "mottled {color}",
    "tiles": "{color} tiles",
    "checker": "{color} checks",
    "stripes": "{color} stripes",
    "rings": "{color} rings",
}
ONE_COLOR_FAMILIES = frozenset({"plain", "brushed"})
"""Families in which the accent is hardly seen, so that words do not name it."""
USUAL_COLORS: dict[str, tuple[str, ...]] = {
    "plain": ("white", "beige", "grey"),
    "wood": ("brown", "beige"),
    "marble": ("white", "grey", "beige", "black"),
    "brushed": ("grey", "white"),
    "tiles": ("white", "beige", "grey", "brown"),
}
"""Colours that a family often has in real rooms."""
COARSE_BELOW, FINE_ABOVE = 0.75, 1.4
"""Scales under and over which a pattern is called coarse or fine."""

WARM_BELOW_K, COOL_ABOVE_K = 4500.0, 7000.0
DIM_BELOW, BRIGHT_ABOVE = 0.78, 0.97
"""Brightness of a level white surface under and over which the light is called dim or bright."""

MAX_LIGHTS = 3

LOOK_WORDS = frozenset(
    " ".join(
        [
            *(f"{shade} {color}" for shade in SHADES if shade != "medium" for color in COLORS),
            *(FAMILY_PHRASES[family].format(color="and") for family in TRAINING_FAMILIES),
            "coarse fine",
            "dim bright warm cool hard soft light from above behind the left right front",
        ]
    ).split()
)
"""Every word that `Material.words` and `Appearance.lighting_words` can say of a training look."""


@dataclass(frozen=True)
class Material:
    """Describe a surface: a texture family in named colours, and how it shines.

    Attributes:
        family: a name in `textures.FAMILIES`.
        color: main colour, a name in `COLORS`.
        accent: second colour, a name in `COLORS`; the same name as `color` means a darker tone of it.
        shade: "dark", "medium" or "light": of both colours.
        scale: pattern frequency relative to the family's usual one; 2 = twice as fine.
        specular, shininess: of the highlight, in [0, 1].
        seed: of the pattern, and of a slight variation of the colours (brightness 5 %, hue 2 %).
        hue_turn_deg: turn of both colours' hue from red towards yellow, in [-180, 180]; words do not say it.

    Raises:
        InputError: an unknown name, a number out of range.
    """

    family: str = "plain"
    color: str = "grey"
    accent: str = "grey"
    shade: str = "medium"
    scale: float = 1.0
    specular: float = 0.2
    shininess: float = 0.3
    seed: int = 0
    hue_turn_deg: float = 0.0

    def __post_init__(self) -> None:
        for field, known in (("family", FAMILIES), ("color", COLORS), ("accent", COLORS), ("shade", SHADES)):
            _check_name(f"material {field}", getattr(self, field), known)
        _check_range("material scale", self.scale, 0.1, 10)
        _check_range("material specular", self.specular, 0, 1)
        _check_range("material shininess", self.shininess, 0, 1)
        _check_range("material seed", self.seed, 0, 2**63 - 1)
        _check_range("material hue_turn_deg", self.hue_turn_deg, -180, 180)

    def colors(self) -> tuple[Rgb, Rgb]:
        """Return the main and the second colour, sRGB in [0, 1]."""
        rng = np.random.default_rng(self.seed)
        vary = rng.uniform(0.95, 1.05, size=(2, 1)) * rng.uniform(0.98, 1.02, size=(2, 3))
        grey, amount = SHADES[self.shade]
        main, second = (np.array(COLORS[name]) * (1 - amount) + grey * amount for name in (self.color, self.accent))
        if self.accent == self.color:
            second = main * TONE_ON_TONE_SHADE
        first_rgb, second_rgb = (np.clip(rgb, 0, 1).tolist() for rgb in (main * vary[0], second * vary[1]))
        return self._turned(first_rgb), self._turned(second_rgb)

    def words(self) -> str:
        """Return a short phrase, such as "dark red wood", "fine white and grey marble", "plain light blue"."""
        color = self.color if self.shade == "medium" else f"{self.shade} {self.color}"
        if self.accent != self.color and self.family not in ONE_COLOR_FAMILIES:
            color = f"{color} and {self.accent}"
        phrase = FAMILY_PHRASES[self.family].format(color=color)
        if self.family in ONE_COLOR_FAMILIES or COARSE_BELOW <= self.scale <= FINE_ABOVE:
            return phrase
        return f"{'coarse' if self.scale < COARSE_BELOW else 'fine'} {phrase}"

    def _turned(self, rgb: Sequence[float]) -> Rgb:
        red, green, blue = rgb
        if not self.hue_turn_deg:  # the way through HSV and back would change the last bits
            return red, green, blue
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        return colorsys.hsv_to_rgb((hue + self.hue_turn_deg / 360) % 1, saturation, value)


@dataclass(frozen=True)
class Light:
    """Describe a far light.

    Attributes:
        direction: the way the light travels, any length but zero. World frame: x from the robot to the table, z up.
        temperature_k: colour temperature, 1,500 to 15,000 kelvin.
        intensity: diffuse intensity on a surface that faces it, in [0, 2].
        shadows: whether it casts hard shadows.

    Raises:
        InputError: a number out of range.
    """

    direction: tuple[float, float, float] = (0.0, 0.0, -1.0)
    temperature_k: float = 6500.0
    intensity: float = 0.6
    shadows: bool = True

    def __post_init__(self) -> None:
        if not 1e-6 < float(np.linalg.norm(self.direction)) < np.inf:
            raise InputError(f"light direction: expected three finite numbers, not all zero, got {self.direction}")
        _check_range("light temperature_k", self.temperature_k, 1500, 15000)
        _check_range("light intensity", self.intensity, 0, 2)

    def cosine(self) -> float:
        """Return the share of the intensity that reaches a level surface."""
        return max(0.0, -self.direction[2] / float(np.linalg.norm(self.direction)))

    def side(self) -> str:
        """Return where the light comes from: "above", or a side as the camera that faces the robot sees it."""
        x, y, z = -np.array(self.direction) / np.linalg.norm(self.direction)
        if z > 0.85:
            return "above"
        if abs(y) >= abs(x):
            return "the left" if y < 0 else "the right"
        return "the front" if x > 0 else "behind"

    def words(self) -> str:
        """Return a short phrase, such as "warm hard light from the left"."""
        kind = "hard" if self.shadows else "soft"
        if self.temperature_k < WARM_BELOW_K:
            return f"warm {kind} light from {self.side()}"
        if self.temperature_k > COOL_ABOVE_K:
            return f"cool {kind} light from {self.side()}"
        return f"{kind} light from {self.side()}"


@dataclass(frozen=True)
class Appearance:
    """Describe everything about the looks of a table-top, and nothing about its geometry.

    Attributes:
        table, wall, floor, robot: materials by place; `robot_dark` is that of the joints and the hand.
        objects: material of each object of the task, by name.
        lights: one to three; the first is the main light.
        ambient: light from everywhere, in [0, 1], of the main light's colour.

    Raises:
        InputError: no light or too many, ambient out of range.
    """

    table: Material
    wall: Material
    floor: Material
    robot: Material
    robot_dark: Material
    objects: Mapping[str, Material]
    lights: tuple[Light, ...]
    ambient: float

    def __post_init__(self) -> None:
        if not 1 <= len(self.lights) <= MAX_LIGHTS:
            raise InputError(f"appearance lights: expected 1 to {MAX_LIGHTS}, got {len(self.lights)}")
        _check_range("appearance ambient", self.ambient, 0, 1)

    def materials(self) -> dict[str, Material]:
        """Return the materials by the name that they have in the scene."""
        places = ("table", "wall", "floor", "robot", "robot_dark")
        return {place: getattr(self, place) for place in places} | dict(self.objects)

    def level(self) -> float:
        """Return the brightness of a level white surface, highlights and shadows apart; 1 is the texture's own."""
        return self.ambient + sum(light.intensity * light.cosine() for light in self.lights)

    def lighting_words(self) -> str:
        """Return a short phrase, such as "dim warm hard light from the left"."""
        level = self.level()
        phrase = self.lights[0].words()
        if DIM_BELOW <= level <= BRIGHT_ABOVE:
            return phrase
        return f"{'dim' if level < DIM_BELOW else 'bright'} {phrase}"

    def to_json(self) -> str:
        """Return JSON that `from_json` reads back to an equal appearance."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Appearance:
        """Read what `to_json` wrote.

        Raises:
            InputError: not JSON, or a field that is unknown, missing, of the wrong type or out of range.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"appearance: not valid JSON: {error}") from error
        values = _check_fields(cls, fields)
        objects, lights = values.pop("objects"), values.pop("lights")
        ambient = _typed("appearance ambient", values.pop("ambient"), float)
        if not isinstance(objects, dict):
            raise InputError(f"appearance objects: expected materials by name, got {objects!r}")
        if not isinstance(lights, list):
            raise InputError(f"appearance lights: expected a list, got {lights!r}")
        return cls(
            **{place: _material(material) for place, material in values.items()},
            objects={name: _material(material) for name, material in objects.items()},
            lights=tuple(_light(light) for light in lights),
            ambient=ambient,
        )


def default_appearance(object_colors: Mapping[str, str]) -> Appearance:
    """Return the plain look that recordings have unless asked otherwise.

    Args:
        object_colors: the colour of each object of the task, by the object's name: a name in `COLORS`.

    Raises:
        InputError: unknown colour.
    """
    return Appearance(
        table=Material("wood", "beige", "brown", specular=0.1, shininess=0.2, seed=3),
        wall=Material("plain", "beige", "beige", "light", specular=0.0),
        floor=Material("tiles", "grey", "grey", specular=0.1, seed=1),
        robot=Material("plain", "white", "white", specular=0.4, shininess=0.5),
        robot_dark=Material("plain", "black", "black", specular=0.3, shininess=0.4),
        objects={name: Material("plain", color, color, specular=0.3) for name, color in object_colors.items()},
        lights=(Light((-0.35, -0.45, -0.8), 5500.0, 0.5, shadows=True), Light((-0.5, 0.3, -0.7), 6500.0, 0.15, False)),
        ambient=0.42,
    )


def sample_appearance(
    rng: np.random.Generator, object_colors: Mapping[str, str], *, recolor_objects: bool = False
) -> Appearance:
    """Draw a look from the wide family that training uses; never a held-out texture family.

    Args:
        rng: the only source of randomness.
        object_colors: as for `default_appearance`.
        recolor_objects: draw the objects' colours and families too. Otherwise each keeps its named colour, because
            the task's instruction names it, and varies in shade and in a tone-on-tone pattern only. Either way the
            table's main colour is none of the objects' main colours, so that every object can be seen.

    Raises:
        InputError: unknown colour.
    """
    objects = {
        name: _sample_material(rng) if recolor_objects else _sample_object(rng, color)
        for name, color in object_colors.items()
    }
    robot_families = ("plain", "plain", "brushed", "noise", "weave")
    lights, ambient = _sample_lights(rng)
    return Appearance(
        table=_sample_material(rng, avoid={material.color for material in objects.values()}),
        wall=_sample_material(rng),
        floor=_sample_material(rng),
        robot=_sample_material(rng, families=robot_families),
        robot_dark=Material("plain", "black", "black", specular=0.3, shininess=0.4, seed=_seed(rng)),
        objects=objects,
        lights=lights,
        ambient=ambient,
    )


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _sample_material(
    rng: np.random.Generator,
    *,
    families: Sequence[str] = tuple(sorted(TRAINING_FAMILIES)),
    avoid: Collection[str] = (),
) -> Material:
    """Draw a material; its main colour is none of `avoid`, half the time one that the family has in real rooms."""
    family = str(rng.choice(families))
    usual = [name for name in USUAL_COLORS.get(family, ()) if name not in avoid]
    known = usual if usual and rng.random() < 0.5 else [name for name in sorted(COLORS) if name not in avoid]
    color = str(rng.choice(known))
    tone_on_tone = family in ONE_COLOR_FAMILIES or rng.random() < 0.35
    return Material(
        family,
        color,
        color if tone_on_tone else str(rng.choice(sorted(COLORS))),
        shade=_sample_shade(rng, color),
        scale=round(float(np.exp(rng.uniform(np.log(0.5), np.log(2)))), 3),
        specular=round(rng.uniform(0, 0.6), 3),
        shininess=round(rng.uniform(0.1, 0.9), 3),
        seed=_seed(rng),
    )


def _sample_object(rng: np.random.Generator, color: str) -> Material:
    family = str(rng.choice(["plain", "plain", "plain", "noise", "brushed"]))
    shade = _sample_shade(rng, color) if rng.random() < 0.5 else "medium"
    shine = {"specular": round(rng.uniform(0, 0.6), 3), "shininess": round(rng.uniform(0.1, 0.9), 3)}
    return Material(family, color, color, shade=shade, seed=_seed(rng), **shine)


def _sample_shade(rng: np.random.Generator, color: str) -> str:
    """Draw a shade; white and black stay as they are, for a dark white is grey."""
    return "medium" if color in ("white", "black") else str(rng.choice(sorted(SHADES)))


def _sample_lights(rng: np.random.Generator) -> tuple[tuple[Light, ...], float]:
    """Draw lights and ambient such that a level white surface's brightness is in `TRAINING_LEVEL`.

    Not more: OpenGL's fixed lighting cuts the sum of shadowless lights off at 1, before it multiplies the texture.
    """
    level = rng.uniform(*TRAINING_LEVEL)
    ambient = level * rng.uniform(0.45, 0.75)
    count = int(rng.integers(1, MAX_LIGHTS + 1))
    shares = np.array([3.0, *rng.uniform(0.1, 1, size=count - 1)])
    lights = []
    for index, share in enumerate(shares / shares.sum()):
        shadows = bool(index == 0 and rng.random() < 0.6)
        azimuth = rng.uniform(-np.pi, np.pi)
        # The wall stands behind the robot: a low light from there would put all of the table into its shadow.
        lowest = 0.5 if shadows and np.cos(azimuth) > 0 else 1.0
        tilt = rng.uniform(0.1, lowest)
        x, y, z = np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), -np.cos(tilt)
        mired = rng.uniform(*TRAINING_MIRED)
        lights.append(
            Light(
                direction=(round(x, 3), round(y, 3), round(z, 3)),
                temperature_k=float(round(1e6 / mired)),
                intensity=round(float(share * (level - ambient) / np.cos(tilt)), 3),
                shadows=shadows,
            )
        )
    return tuple(lights), round(ambient, 3)


def _check_name(what: str, name: object, known: Collection[str]) -> None:
    if not isinstance(name, str) or name not in known:
        raise InputError(f"{what}: {name!r} is unknown{nearest(str(name), known)}")


def _check_range(what: str, value: int | float, low: int | float, high: int | float) -> None:
    if not low <= value <= high:
        raise InputError(f"{what}: expected a number in [{low}, {high}], got {value!r}")


def _check_fields(kind: type, fields: object) -> dict[str, Any]:
    what = kind.__name__.lower()
    if not isinstance(fields, dict):
        raise InputError(f"{what}: expected an object with fields, got {fields!r}")
    known = [field.name for field in dataclasses.fields(kind)]
    for name in fields:
        _check_name(f"{what} field", name, known)
    for name in known:
        if name not in fields:
            raise InputError(f"{what}: field {name!r} is missing")
    return fields


ValueT = TypeVar("ValueT", str, int, float, bool)


def _typed(what: str, value: object, kind: type[ValueT]) -> ValueT:
    if kind is float and type(value) is int:
        return kind(value)
    if type(value) is not kind:
        raise InputError(f"{what}: expected {kind.__name__}, got {value!r}")
    return value


def _material(fields: object) -> Material:
    values = _check_fields(Material, fields)
    hints = get_type_hints(Material)
    return Material(**{name: _typed(f"material {name}", value, hints[name]) for name, value in values.items()})


def _light(fields: object) -> Light:
    values = _check_fields(Light, fields)
    direction = values["direction"]
    if not isinstance(direction, list) or len(direction) != 3:
        raise InputError(f"light direction: expected three numbers, got {direction!r}")
    x, y, z = (_typed("light direction", component, float) for component in direction)
    return Light(
        direction=(x, y, z),
        temperature_k=_typed("light temperature_k", values["temperature_k"], float),
        intensity=_typed("light intensity", values["intensity"], float),
        shadows=_typed("light shadows", values["shadows"], bool),
    )
