"""Framing: how a camera's frames are brought to a size that the generator knows, and how its frames are brought back.

A framing shows a window of the camera's pixel grid at the generator's size. The window has the generator's aspect in
whole camera pixels, so both axes have one scale and nothing is stretched. A letterbox's window holds the whole frame
and what sticks out of it is mirrored; a crop's window lies inside the frame.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError

Fit = Literal["letterbox", "crop"]
Interpolation = Literal["cubic", "linear", "nearest"]

# (width, height) by resolution and aspect; cosmos-transfer2.5, VIDEO_RES_SIZE_INFO. All are multiples of 16, the pixels
# under one token. Its published inference takes "720" by default, and any of these. Not here: "480p" and "720p", which
# are sizes of Wan 2.1, and "720robocasa", which is that of one dataset.
RESOLUTIONS: dict[str, dict[str, tuple[int, int]]] = {
    "1080": {"16,9": (1920, 1056), "4,3": (1440, 1056), "1,1": (1024, 1024), "3,4": (1056, 1440), "9,16": (1056, 1920)},
    "1024": {"16,9": (1280, 768), "4,3": (1280, 1024), "1,1": (1024, 1024), "3,4": (1024, 1280), "9,16": (768, 1280)},
    "720": {"16,9": (1280, 704), "4,3": (960, 704), "1,1": (960, 960), "3,4": (704, 960), "9,16": (704, 1280)},
    "512": {"16,9": (640, 384), "4,3": (640, 512), "1,1": (512, 512), "3,4": (512, 640), "9,16": (384, 640)},
    "480": {"16,9": (768, 432), "4,3": (640, 480), "1,1": (480, 480), "3,4": (480, 640), "9,16": (432, 768)},
    "256": {"16,9": (320, 192), "4,3": (320, 256), "1,1": (256, 256), "3,4": (256, 320), "9,16": (192, 320)},
}
ENLARGING = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR}


@dataclass(frozen=True)
class Framing:
    """A window of a camera's frames, shown at the generator's size; made by `frame_for` or `identity_framing`.

    Attributes:
        source: height and width of the camera's frames.
        size: height and width of the generator's frames.
        window: height and width of the window in camera pixels; of the same aspect as `size`.
        corner: row and column of the window's first pixel in the camera's frames; negative where it sticks out.
    """

    source: tuple[int, int]
    size: tuple[int, int]
    window: tuple[int, int]
    corner: tuple[int, int]

    def __post_init__(self) -> None:
        if min(*self.source, *self.size, *self.window) < 1:
            raise ValueError(f"a framing needs sizes of at least one pixel, got {self}")
        if self.window[0] * self.size[1] != self.window[1] * self.size[0]:
            raise ValueError(f"a window {self.window} cannot be shown at {self.size} without stretching it")

    @property
    def is_identity(self) -> bool:
        """Whether the generator's frames are the camera's, pixel by pixel."""
        return self.size == self.window == self.source and self.corner == (0, 0)

    @property
    def scale(self) -> Fraction:
        """Generator pixels along one camera pixel, the same for both axes."""
        return Fraction(self.size[0], self.window[0])

    def fitted(
        self, frames: Shaped[np.ndarray, "t h w *channels"], interpolation: Interpolation = "cubic"
    ) -> Shaped[np.ndarray, "t h_out w_out *channels"]:
        """Bring frames of the camera to the generator's size; the identity returns the array that came.

        Args:
            frames: of the size `source`; uint8 with 3 channels or none, or anything where `interpolation` is nearest.
            interpolation: how to enlarge. `nearest` makes no new values and is for ids and masks, also when shrinking;
                the others average over areas when shrinking.

        Raises:
            ValueError: frames of another size.
        """
        self._check(frames, frames.shape[1:3], self.source)
        if self.is_identity:
            return frames
        if interpolation == "nearest":
            rows, columns = (
                _mirrored(self.corner[axis] + _centres(self.size[axis], self.window[axis]), self.source[axis])
                for axis in (0, 1)
            )
            return frames[:, rows[:, None], columns]
        if self.window != self.source or self.corner != (0, 0):
            for axis in (0, 1):
                seen = _mirrored(self.corner[axis] + np.arange(self.window[axis]), self.source[axis])
                frames = frames.take(seen, axis=1 + axis)
        return _resized(frames, self.size, interpolation)

    def restored(
        self,
        frames: UInt8[np.ndarray, "*variants t h_out w_out 3"],
        source: UInt8[np.ndarray, "_ h w 3"] | None = None,
    ) -> UInt8[np.ndarray, "*variants t h w 3"]:
        """Bring frames of the generator back to the camera: every pixel lies where it lay in the camera's frames.

        This undoes `fitted`. A whole enlargement by `nearest` comes back bit by bit; any other enlargement comes back
        blurred by less than a camera pixel (a smooth picture within two grey levels); a reduction has lost detail. A
        constant always comes back as it was.

        Args:
            frames: of the size `size`.
            source: the camera's frames, needed by a crop: pixels outside its window are the source's, unchanged.

        Raises:
            ValueError: frames of another size, or a crop without its source.
        """
        self._check(frames, frames.shape[-3:-1], self.size)
        if self.is_identity:
            return frames
        flat = frames.reshape(-1, *frames.shape[-3:])
        shown = _resized(flat, self.window, "cubic").reshape(*frames.shape[:-3], *self.window, 3)
        # Where the window and the camera's frame overlap, in the pixels of the window and of the camera.
        (row, column), (height, width) = self.corner, self.window
        overlap = shown[..., max(0, -row) : self.source[0] - row, max(0, -column) : self.source[1] - column, :]
        if overlap.shape[-3:-1] == self.source:
            return np.ascontiguousarray(overlap)
        if source is None:
            raise ValueError("a crop is pasted into the camera's frames: expected `source`, got none")
        self._check(source, source.shape[1:3], self.source)
        if len(source) != frames.shape[-4]:
            raise ValueError(f"a crop expected as many source frames as frames, {frames.shape[-4]}, got {len(source)}")
        pasted = np.broadcast_to(source, (*frames.shape[:-4], *source.shape)).copy()
        pasted[..., max(0, row) : max(0, row + height), max(0, column) : max(0, column + width), :] = overlap
        return pasted

    def _check(self, frames: np.ndarray, size: tuple[int, ...], expected: tuple[int, int]) -> None:
        if size != expected:
            raise ValueError(f"a framing expected frames of (height, width) {expected}, got an array {frames.shape}")


def identity_framing(height: int, width: int) -> Framing:
    """Return the framing of a generator that takes a camera's frames as they are."""
    size = (height, width)
    return Framing(source=size, size=size, window=size, corner=(0, 0))


def frame_for(height: int, width: int, resolution: str = "480", fit: Fit = "letterbox") -> Framing:
    """Return the framing that brings a camera's frames to a size of NVIDIA's table without stretching them.

    The aspect is chosen from NVIDIA's five as its inference does, which then stretches the frames. With the chosen
    size reduced to a : b, the window is the smallest (letterbox) or largest (crop) of k a x k b camera pixels that
    holds the frame or that it holds, in the middle of it.

    Args:
        height, width: of the camera's frames.
        resolution: a key of `RESOLUTIONS`.
        fit: `letterbox` or `crop`.

    Raises:
        InputError: an unknown resolution or fit, or a camera too small to be cropped to the aspect.
    """
    if resolution not in RESOLUTIONS:
        raise InputError(f"resolution {resolution!r}: not in the generator's table{nearest(resolution, RESOLUTIONS)}")
    if fit not in get_args(Fit):
        raise InputError(f"fit {fit!r}: expected one of {', '.join(get_args(Fit))}")
    out_width, out_height = RESOLUTIONS[resolution][nearest_aspect(height, width)]
    divisor = math.gcd(out_height, out_width)
    unit_height, unit_width = out_height // divisor, out_width // divisor
    if fit == "letterbox":
        units = max(-(-height // unit_height), -(-width // unit_width))
    else:
        units = min(height // unit_height, width // unit_width)
    if units == 0:
        raise InputError(
            f"camera of {width}x{height} pixels: too small to crop to {unit_width}:{unit_height}; use fit letterbox"
        )
    window = (units * unit_height, units * unit_width)
    corner = ((height - window[0]) // 2, (width - window[1]) // 2)
    return Framing(source=(height, width), size=(out_height, out_width), window=window, corner=corner)


def nearest_aspect(height: int, width: int) -> str:
    """Return the key of the nearest aspect by |width / height - aspect|, as NVIDIA's inference chooses it."""
    aspects = {"16,9": Fraction(16, 9), "4,3": Fraction(4, 3), "1,1": Fraction(1), "3,4": Fraction(3, 4)}
    aspects["9,16"] = Fraction(9, 16)
    return min(aspects, key=lambda key: abs(aspects[key] - Fraction(width, height)))


def _centres(out: int, pixels: int) -> np.ndarray:
    """Return which of `pixels` lies under the centre of each of `out` pixels along the same line."""
    return (2 * np.arange(out) + 1) * pixels // (2 * out)


def _mirrored(positions: np.ndarray, length: int) -> np.ndarray:
    """Fold positions outside [0, length) back into it; the first and the last pixel are not repeated."""
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = positions % period
    return np.minimum(folded, period - folded)


def _resized(frames: np.ndarray, size: tuple[int, int], interpolation: Literal["cubic", "linear"]) -> np.ndarray:
    height, width = frames.shape[1:3]
    if (height, width) == size:
        return frames
    method = cv2.INTER_AREA if size < (height, width) else ENLARGING[interpolation]
    resized = np.empty((len(frames), *size, *frames.shape[3:]), frames.dtype)
    for index, frame in enumerate(frames):
        resized[index] = cv2.resize(np.ascontiguousarray(frame), (size[1], size[0]), interpolation=method)
    return resized
