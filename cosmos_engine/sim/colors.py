"""Colours that words can name: of surfaces and of light."""

from __future__ import annotations

import numpy as np

Rgb = tuple[float, float, float]
"""sRGB in [0, 1]."""

COLORS: dict[str, Rgb] = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.93, 0.50, 0.12),
    "yellow": (0.92, 0.82, 0.18),
    "lime": (0.62, 0.84, 0.22),
    "green": (0.13, 0.58, 0.22),
    "olive": (0.48, 0.50, 0.16),
    "teal": (0.08, 0.50, 0.48),
    "cyan": (0.25, 0.80, 0.88),
    "blue": (0.14, 0.32, 0.78),
    "purple": (0.45, 0.18, 0.62),
    "pink": (0.93, 0.52, 0.68),
    "brown": (0.43, 0.25, 0.13),
    "beige": (0.84, 0.74, 0.58),
    "white": (0.94, 0.94, 0.92),
    "grey": (0.52, 0.53, 0.54),
    "black": (0.09, 0.09, 0.10),
}

SHADES: dict[str, tuple[float, float]] = {"dark": (0.0, 0.4), "medium": (0.0, 0.0), "light": (1.0, 0.4)}
"""Shade name -> (grey that is mixed in: 0 black, 1 white; how much of it). "medium" is never said."""


def light_rgb(temperature_k: float) -> Rgb:
    """Return the colour of a black body, brightest channel 1, from 1,000 to 40,000 kelvin.

    Helland's fit to CIE 1964 data ("How to convert temperature to RGB", 2012), relative to 6,600 K = white.
    """
    hundreds = temperature_k / 100
    red = 255.0 if hundreds <= 66 else 329.698727446 * (hundreds - 60) ** -0.1332047592
    if hundreds <= 66:
        green = 99.4708025861 * np.log(hundreds) - 161.1195681661
    else:
        green = 288.1221695283 * (hundreds - 60) ** -0.0755148492
    if hundreds >= 66:
        blue = 255.0
    elif hundreds <= 19:
        blue = 0.0
    else:
        blue = 138.5177312231 * np.log(hundreds - 10) - 305.0447927307
    rgb = np.clip([red, green, blue], 0, 255) / 255
    red, green, blue = (rgb / rgb.max()).tolist()
    return red, green, blue
