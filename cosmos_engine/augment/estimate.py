"""The estimate of a job before it is run: hours, GPUs, storage and cost, from what one segment was measured to take."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.segments import plan_segments

TOKEN_PIXELS = 16 * 16  # under one token of the 2B network, after the codec's 8x8 and patches of 2x2
FRAMES_A_LATENT = 4
EVEN_TOKENS = 16_990
"""Tokens of a segment at which attention, which grows with their square, costs the 2B network as much as all else.

From counted operations with one control (35 steps, guidance): 84,480 tokens 156 PFLOP, 28,800 tokens 24 PFLOP; it gives
3.4 PFLOP for 7,680 tokens, which is what was counted there too.
"""
BASE_BLOCKS, BLOCKS_A_CONTROL = 28, 4  # of the 2B network


@dataclass(frozen=True)
class SegmentFigure:
    """What one segment of one camera took.

    Attributes:
        generator: as `--generator` names it.
        device: what it ran on; hours and GPUs are of this device.
        height: pixels of the generated frames.
        width: pixels of the generated frames.
        segment_frames: frames generated at once.
        conditional_frames: how many of them repeat the segment before.
        controls: how many conditioned it.
        seconds: for one segment.
        source: who measured it, and how.
    """

    generator: str = ""
    device: str = ""
    height: int = 0
    width: int = 0
    segment_frames: int = 0
    conditional_frames: int = 0
    controls: int = 1
    seconds: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class BytesPerPixel:
    """What a pixel of one frame of one camera takes on the disk."""

    recording: float = 2.68
    dataset: float = 0.63
    source: str = ""


@dataclass(frozen=True)
class Figures:
    """Measured figures, by name; the content of a figures file."""

    segments: dict[str, SegmentFigure] = field(default_factory=dict)
    bytes_per_pixel: BytesPerPixel = field(default_factory=BytesPerPixel)


@dataclass(frozen=True)
class JobSize:
    """How large the job is, and what is assumed of it.

    Attributes:
        demos: that are recorded.
        variants: of each demo, beside the original.
        control_steps: frames of a demo.
        cameras: of each demo.
        height: pixels of a camera.
        width: pixels of a camera.
        generated_height: pixels of a generated frame; none: the camera's.
        generated_width: pixels of a generated frame; none: the camera's.
        controls: that condition the generator.
        tries: of a variant until it is accepted or given up, in the mean; 1 where no gate rejects any.
        accepted: share of variants that end in the dataset.
        overhead: what loading, codec, gate and writing add to the segments' time, as a share of it.
        gpus: devices at work at the same time.
        hours: none, or how long the job may take; then it is told how many devices that needs.
        price: none, or what a device costs an hour.
        training_pixels: height and width at which training keeps decoded frames.
    """

    demos: int = 100
    variants: int = 5
    control_steps: int = 100
    cameras: int = 2
    height: int = 480
    width: int = 640
    generated_height: int | None = None
    generated_width: int | None = None
    controls: int = 1
    tries: float = 1.25
    accepted: float = 0.95
    overhead: float = 0.1
    gpus: int = 1
    hours: float | None = None
    price: float | None = None
    training_pixels: int = 84

    def __post_init__(self) -> None:
        for key in ("demos", "control_steps", "cameras", "height", "width", "controls", "gpus", "training_pixels"):
            _at_least(key, getattr(self, key), 1)
        for key, least in {"variants": 0, "tries": 1, "accepted": 0, "overhead": 0}.items():
            _at_least(key, getattr(self, key), least)
        for key in ("generated_height", "generated_width"):
            if getattr(self, key) is not None:
                _at_least(key, getattr(self, key), 1)
        if self.accepted > 1:
            raise InputError(f"accepted: expected a share, 0 to 1, got {self.accepted:g}")
        if self.hours is not None and not 0 < self.hours < math.inf:
            raise InputError(f"hours: expected more than 0, got {self.hours:g}")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise InputError(f"price: expected 0 or more, got {self.price:g}")

    @property
    def generated(self) -> tuple[int, int]:
        """Height and width of a generated frame."""
        return self.generated_height or self.height, self.generated_width or self.width


@dataclass(frozen=True)
class Estimate:
    """What a job will take.

    Attributes:
        segments_per_clip: of one camera of one variant.
        segments: of the whole job, with the tries that are rejected.
        seconds_per_segment: on one device.
        gpu_hours: of all devices together, overhead included.
        gpus: devices at work at the same time.
        hours: from beginning to end; no shorter than one variant takes.
        cost: in the price's currency; None where no price was said.
        recording_bytes: of the demos with all passes.
        dataset_bytes: of originals and accepted variants.
        frames_bytes: of the decoded frames that training keeps.
    """

    segments_per_clip: int
    segments: int
    seconds_per_segment: float
    gpu_hours: float
    gpus: int
    hours: float
    cost: float | None
    recording_bytes: float
    dataset_bytes: float
    frames_bytes: int


def estimate(size: JobSize, figure: SegmentFigure, stored: BytesPerPixel) -> Estimate:
    """Return what a job takes.

    A variant is made by one device, so more devices than variants do not help.

    Raises:
        InputError: a figure that is no measurement, or more than the hours allow with a device for each variant.
    """
    _check(figure)
    clip = plan_segments(
        size.control_steps, segment_frames=figure.segment_frames, conditional_frames=figure.conditional_frames
    )
    variants = size.demos * size.variants
    segments = math.ceil(variants * size.tries - 1e-9) * size.cameras * len(clip)
    seconds = figure.seconds * relative_cost(size, figure)
    gpu_hours = segments * seconds * (1 + size.overhead) / 3600
    longest = math.ceil(size.tries) * size.cameras * len(clip) * seconds * (1 + size.overhead) / 3600
    gpus = size.gpus
    if size.hours is not None:
        if variants and size.hours < longest:
            raise InputError(f"hours: {size.hours:g} is less than one variant takes on one device, {longest:.2f}")
        gpus = max(1, math.ceil(gpu_hours / size.hours - 1e-9))
    at_work = max(1, min(gpus, variants))
    frames = size.demos * size.control_steps * size.cameras
    episodes = 1 + size.variants * size.accepted
    return Estimate(
        segments_per_clip=len(clip),
        segments=segments,
        seconds_per_segment=seconds,
        gpu_hours=gpu_hours,
        gpus=gpus,
        hours=max(gpu_hours / at_work, longest if variants else 0.0),
        cost=None if size.price is None else gpu_hours * size.price,
        recording_bytes=frames * size.height * size.width * stored.recording,
        dataset_bytes=frames * episodes * size.height * size.width * stored.dataset,
        frames_bytes=round(frames * episodes) * size.training_pixels**2 * 3,
    )


def relative_cost(size: JobSize, figure: SegmentFigure) -> float:
    """Return how much more a segment of this size costs than the one that was measured.

    The 2B network's linear layers grow with the tokens and its attention with their square; each control adds 4 blocks
    to its 28. The tiny generator works on each patch, so that it grows with the pixels, and its controls cost nothing.
    """
    height, width = size.generated
    if not figure.generator.startswith("transfer25-2b"):
        return height * width / (figure.height * figure.width)

    def cost(height: int, width: int, controls: int) -> float:
        latent_frames = (figure.segment_frames - 1) // FRAMES_A_LATENT + 1
        tokens = latent_frames * math.ceil(height * width / TOKEN_PIXELS)
        return tokens * (1 + tokens / EVEN_TOKENS) * (BASE_BLOCKS + BLOCKS_A_CONTROL * controls)

    return cost(height, width, size.controls) / cost(figure.height, figure.width, figure.controls)


def choose_figure(figures: Figures, generator: str, name: str | None = None) -> tuple[str, SegmentFigure]:
    """Return the figure of that name, or the first of a generator.

    Raises:
        InputError: no such figure, or none of this generator, or one of another.
    """
    if name is not None:
        if name not in figures.segments:
            raise InputError(f"--figure {name!r}: no such figure{nearest(name, figures.segments)}")
        if figures.segments[name].generator != generator:
            raise InputError(f"--figure {name!r}: of {figures.segments[name].generator}, not of {generator}")
        return name, figures.segments[name]
    for known, figure in figures.segments.items():
        if figure.generator == generator:
            return known, figure
    measured = ", ".join(sorted({figure.generator for figure in figures.segments.values()})) or "none"
    raise InputError(f"no figure of {generator} (there are: {measured}); --measure takes one on this machine")


def report_lines(
    size: JobSize, name: str, figure: SegmentFigure, stored: BytesPerPixel, result: Estimate
) -> tuple[str, ...]:
    """Return what is to be printed: the result, then everything that it rests on."""
    height, width = size.generated
    scale = relative_cost(size, figure)
    devices = "device" if result.gpus == 1 else "devices"
    lines = [
        f"time: {_hours(result.hours)} on {result.gpus} {devices} ({figure.device}), "
        f"{result.gpu_hours:,.1f} device-hours",
        f"cost: {'no price was said (price=2.5 for 2.5 an hour)' if result.cost is None else f'{result.cost:,.0f}'}",
        f"storage: recording {_bytes(result.recording_bytes)}, dataset {_bytes(result.dataset_bytes)}, "
        f"decoded frames for training {_bytes(result.frames_bytes)}",
        "",
        "from:",
        f"  {size.demos:,} demos x {size.variants} variants x {size.cameras} cameras of {size.height}x{size.width}, "
        f"{size.control_steps:,} control steps each",
        f"  generated at {height}x{width}, {size.controls} controls: {result.segments_per_clip} segments of "
        f"{figure.segment_frames} frames a clip, {result.segments:,} segments in all",
        f"  {result.seconds_per_segment:.3g} s a segment: {figure.seconds:g} s ({name}) x {scale:.3g} for size and "
        f"controls (measured at {figure.height}x{figure.width}, {figure.controls})",
        f"    source: {figure.source}",
        f"  {stored.recording:g} and {stored.dataset:g} bytes a pixel of recording and dataset",
        f"    source: {stored.source}",
        "assumed (key=value changes it):",
        f"  tries={size.tries:g} a variant in the mean; accepted={size.accepted:g} of the variants",
        f"  overhead={size.overhead:g} of the segments' time for loading, codec, gate and writing",
        f"  training_pixels={size.training_pixels}; devices never wait for each other",
    ]
    return tuple(lines)


def _check(figure: SegmentFigure) -> None:
    for key in ("height", "width", "segment_frames", "controls"):
        _at_least(f"figure {key}", getattr(figure, key), 1)
    if not 0 < figure.seconds < math.inf:
        raise InputError(f"figure seconds: expected more than 0, got {figure.seconds:g}")


def _at_least(key: str, value: int | float, least: int) -> None:
    if not least <= value < math.inf:
        raise InputError(f"{key}: expected {least} or more, got {value:g}")


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"


def _bytes(count: int | float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e6:,.1f} MB"
