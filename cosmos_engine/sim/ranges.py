"""Where training looks end and the benchmark's shifts begin: both ranges of every quantity, side by side.

`TRAINING_*` bound what training may show: `sample_appearance` for materials and lights, `sample_training_sensor` for
cameras. `SHIFT_*` are the strengths that the shifts have by default. No pair overlaps, and a test draws thousands of
looks to see that they keep to it. Texture families are held out likewise (`textures.HELD_OUT_FAMILIES`).
"""

from __future__ import annotations

Range = tuple[float, float]
"""Least and greatest value."""

# Brightness of a level white surface: ambient plus every light's intensity times its cosine.
TRAINING_LEVEL: Range = (0.65, 1.1)
SHIFT_DIM_LEVEL: Range = (0.35, 0.5)
SHIFT_BRIGHT_LEVEL: Range = (1.4, 1.8)

# Colour of a light in mired, 1e6 / kelvin, in steps that look even.
TRAINING_MIRED: Range = (110.0, 290.0)  # 9,100 to 3,450 K
SHIFT_COOL_MIRED: Range = (68.0, 85.0)  # 14,700 to 11,800 K
SHIFT_WARM_MIRED: Range = (340.0, 420.0)  # 2,940 to 2,380 K

# Degrees between an object's hue and that of its named colour, either way. Training's come from the slight variation
# of a material's colours; the objects of the tasks are red, green and blue, and stay nearest to those names.
TRAINING_HUE_TURN_DEG: Range = (0.0, 3.0)
SHIFT_HUE_TURN_DEG: Range = (10.0, 16.0)

# Objects on the table that the task does not name.
TRAINING_DISTRACTORS: tuple[int, int] = (0, 0)
SHIFT_DISTRACTORS: tuple[int, int] = (2, 4)

# Turn and way of the external camera.
TRAINING_CAMERA_TURN_DEG: Range = (0.0, 0.0)
SHIFT_CAMERA_TURN_DEG: Range = (2.0, 5.0)
TRAINING_CAMERA_MOVE_CM: Range = (0.0, 0.0)
SHIFT_CAMERA_MOVE_CM: Range = (2.0, 5.0)

# The sensor: magnitudes. Exposure in stops, either way; white balance in stops that red gains and blue loses, or the
# other way round; blur as the Gaussian's standard deviation in pixels of an image 128 high; noise as the standard
# deviation in levels of 255.
TRAINING_EXPOSURE_STOPS: Range = (0.0, 0.35)
SHIFT_EXPOSURE_STOPS: Range = (0.6, 1.0)
TRAINING_WHITE_BALANCE_STOPS: Range = (0.0, 0.12)
SHIFT_WHITE_BALANCE_STOPS: Range = (0.25, 0.4)
TRAINING_BLUR_PX: Range = (0.0, 0.5)
SHIFT_BLUR_PX: Range = (0.8, 1.2)
TRAINING_NOISE_LEVELS: Range = (0.0, 5.0)
SHIFT_NOISE_LEVELS: Range = (10.0, 18.0)
