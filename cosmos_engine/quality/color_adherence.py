"""Prompt adherence: does a named region have the named colour?

Shapes: t frames, h rows, w columns, n colours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16

from cosmos_engine.sim.colors import COLORS, SHADES, light_rgb

MARGIN = 4.0
"""In CIELAB units: a colour word also fits that is this much farther than the nearest one.

Set on 1,260 regions of 300 true renders of random looks: 94 % have a colour of their own phrase, 18 % that of another
region's. Without the correction for light and two-colour blends it is 72 % and 18 %.
"""
LIGHTNESS_WEIGHT = 0.4
"""Of lightness against the two axes of colour: how bright a surface is, the light decides as much as the material."""
BRIGHTNESS = (0.35, 0.5, 0.65, 0.8, 0.95, 1.1)
"""Of a surface relative to its material, in shade and light."""
LIGHT_TEMPERATURE_K = {"warm": 3900.0, "cool": 8000.0}
USUAL_TEMPERATURE_K = 5500.0
BLENDS = (0.25, 0.5, 0.75)
SMALLEST_PX = 40
"""Regions of fewer pixels in all frames together are not judged."""


def named_colors(phrase: str) -> tuple[str, ...]:
    """Return the colour words of a phrase in their order: "dark red and white marble" -> ("red", "white")."""
    return tuple(word for word in re.findall(r"[a-z]+", phrase.lower()) if word in COLORS)


def color_adherence(
    rgb: UInt8[np.ndarray, "t h w 3"],
    instance: UInt16[np.ndarray, "t h w"],
    phrases: Mapping[int, str],
    light: str = "",
) -> dict[int, bool]:
    """Return for each region whether its colour is one that its phrase names.

    The region's colour is its median over the clip, divided by the colour of the light. It must be as near to a named
    colour, dark or light, in any brightness, or to a blend of two named ones, as to the nearest of all `COLORS`, within
    `MARGIN`. Distances are Euclidean in CIELAB (CIE 1976) with lightness weighted by `LIGHTNESS_WEIGHT`.

    Args:
        phrases: what the prompt says of each region, by instance id.
        light: what the prompt says of the light; "warm" and "cool" are heeded.

    Returns:
        By instance id; without regions that are not in view or whose phrase names no colour.
    """
    white = np.array(light_rgb(_temperature_k(light)))
    judged = {}
    for instance_id, phrase in phrases.items():
        named = named_colors(phrase)
        mask = instance == instance_id
        if not named or int(mask.sum()) < SMALLEST_PX:
            continue
        color = np.clip(np.median(rgb[mask], axis=0) / 255.0 / white, 0, 1)
        distance = {name: _distance(color, _shades(name)) for name in COLORS}
        own = min(distance[name] for name in named)
        if len(named) > 1:
            own = min(own, _distance(color, _blends(named[0], named[1])))
        judged[instance_id] = own <= min(distance.values()) + MARGIN
    return judged


def cielab(srgb: Float[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n 3"]:
    """Return CIELAB (D65; lightness 0 to 100) of sRGB colours in [0, 1]."""
    flat = np.ascontiguousarray(srgb, np.float32).reshape(-1, 1, 3)
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(srgb.shape)


def _temperature_k(light: str) -> float:
    words = light.lower().split()
    return next((kelvin for word, kelvin in LIGHT_TEMPERATURE_K.items() if word in words), USUAL_TEMPERATURE_K)


def _shades(name: str) -> Float[np.ndarray, "n 3"]:
    shades = [(1 - amount) * np.array(COLORS[name]) + amount * grey for grey, amount in SHADES.values()]
    return _in_all_brightness(np.stack(shades))


def _blends(first: str, second: str) -> Float[np.ndarray, "n 3"]:
    return _in_all_brightness(
        np.stack([share * np.array(COLORS[first]) + (1 - share) * np.array(COLORS[second]) for share in BLENDS])
    )


def _in_all_brightness(colors: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, "n 3"]:
    return np.clip(np.array(BRIGHTNESS)[:, None, None] * colors, 0, 1).reshape(-1, 3)


def _distance(color: Float[np.ndarray, " 3"], others: Float[np.ndarray, "n 3"]) -> float:
    difference = (cielab(others) - cielab(color[None])) * (LIGHTNESS_WEIGHT, 1.0, 1.0)
    return float(np.linalg.norm(difference, axis=1).min())
