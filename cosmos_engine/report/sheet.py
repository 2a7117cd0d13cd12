"""Frames of a clip beside each other, and clips below each other."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

GAP_PX = 3
LABEL_WIDTH_PX = 120
LABEL_SIZE_PX = 14
INK = (28, 30, 34)
PAPER = (255, 255, 255)


def frame_indices(length: int, count: int) -> list[int]:
    """Return at most `count` different frame indices spread evenly from the first to the last of `length` frames.

    Raises:
        ValueError: `length` or `count` below 1.
    """
    if length < 1 or count < 1:
        raise ValueError(f"frame_indices: expected length >= 1 and count >= 1, got {length} and {count}")
    return [round(index) for index in np.linspace(0, length - 1, min(count, length))]


def film_strip(clip: UInt8[np.ndarray, "t h w 3"], count: int) -> UInt8[np.ndarray, "h W 4"]:
    """Return `count` frames of a clip from left to right as RGBA, with transparent gaps of `GAP_PX`."""
    frames = [clip[index] for index in frame_indices(len(clip), count)]
    height, width = clip.shape[1:3]
    strip = np.zeros((height, len(frames) * (width + GAP_PX) - GAP_PX, 4), np.uint8)
    for column, frame in enumerate(frames):
        left = column * (width + GAP_PX)
        strip[:, left : left + width, :3] = frame
        strip[:, left : left + width, 3] = 255
    return strip


def contact_sheet(rows: Mapping[str, UInt8[np.ndarray, "t h w 3"]], count: int) -> bytes:
    """Return a PNG with one labelled row of `count` frames for each clip, in the order of `rows`.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("contact_sheet: expected at least one row, got none")
    strips = {label: film_strip(clip, count) for label, clip in rows.items()}
    width = LABEL_WIDTH_PX + max(strip.shape[1] for strip in strips.values()) + GAP_PX
    height = sum(strip.shape[0] + GAP_PX for strip in strips.values()) + GAP_PX
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LABEL_SIZE_PX)
    top = GAP_PX
    for label, strip in strips.items():
        picture = Image.fromarray(strip)
        sheet.paste(picture, (LABEL_WIDTH_PX, top), picture)
        middle = top + strip.shape[0] // 2
        draw.text((LABEL_WIDTH_PX - 2 * GAP_PX, middle), label, font=font, fill=INK, anchor="rm")
        top += strip.shape[0] + GAP_PX
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def webp(rgba: UInt8[np.ndarray, "h w 4"], *, lossless: bool) -> bytes:
    """Encode an RGBA picture as WebP; `lossless` for ids and edges, where new colours would be new claims."""
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "WEBP", lossless=lossless, quality=88, method=4)
    return buffer.getvalue()
