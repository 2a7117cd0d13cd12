"""A training batch: clips with their controls, a random subset of controls each time.

A batch is drawn in two steps. `draw_batch` decides what is in it, for all processes alike, and reads no pixel;
`load_batch` reads a process's share of it. Shape legend: B clip, T frame, H W pixel; h w latent cell; L latent frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmos_engine.controls import (
    MODALITIES,
    Modality,
    depth_control,
    edge_control,
    seg_control,
    surface_points,
    vis_control,
)
from cosmos_engine.controls.edge import EdgePreset
from cosmos_engine.controls.vis import VisPreset
from cosmos_engine.data import CameraPasses
from cosmos_engine.errors import InputError
from cosmos_engine.sim.sensor import SensorModel, sample_training_sensor
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, Guide
from cosmos_engine.transfer.parts import part_map
from cosmos_engine.transfer.training.clips import ClipPool, TrainingClip

EDGE_PRESETS: tuple[EdgePreset, ...] = ("low", "medium", "high")
VIS_PRESETS: tuple[VisPreset, ...] = ("low", "medium", "very_high")
DEFAULT_PALETTE_SHARE = 0.8  # clips whose seg control has the colours of seed 0, which jobs use unless told otherwise
DECODER_SEEDS = 32  # patterns that training draws from: enough that none is learnt by heart, few enough to be kept
TOKEN_STRIDE = 2 * SPATIAL_STRIDE  # sides are padded to whole tokens, as the generator does
EMPTY_DRAW: tuple[Modality, ...] = ("edge", "depth", "seg")


@dataclass(frozen=True)
class DrawConfig:
    """What a batch shows.

    Attributes:
        edge, vis, depth, seg: how often each control is in a batch, so that every subset of them works afterwards. Vis
            is rarer: it shows the source's colours, and the default recipe leaves it out. A draw of none becomes those
            of edge, depth and seg that are ever drawn.
        foreground_edges: share of clips whose edge control shows robot and objects alone, as the default recipe does.
            Where the scene's edges are given they are its pattern, and nothing else teaches one.
        text_dropout: share of clips without a prompt, which guidance needs.
        sensor: share of clips whose edge and vis are made from rgb as a camera with noise, blur and another exposure
            would see it; the target stays clean.

    Raises:
        InputError: a share outside [0, 1], or no control at all.
    """

    edge: float = 0.8
    vis: float = 0.25
    depth: float = 0.8
    seg: float = 0.8
    foreground_edges: float = 0.6
    text_dropout: float = 0.1
    sensor: float = 0.0

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            if not 0 <= share <= 1:
                raise InputError(f"draw.{name}: expected a share in [0, 1], got {share:g}")
        if not any(self.share(modality) for modality in MODALITIES):
            raise InputError("draw: expected at least one of edge, vis, depth and seg above 0")

    def share(self, modality: Modality) -> float:
        """Return how often a control is in a batch."""
        return float(getattr(self, modality))


@dataclass(frozen=True)
class ClipDraw:
    """What a batch shows of one clip: which frames, what is said, and how its controls are made."""

    index: int
    start: int
    frames: int
    prompt: str
    edge: EdgePreset = "medium"
    foreground_edges: bool = False
    vis: VisPreset = "medium"
    palette: int = 0
    seed: int = 0
    shrink: int = 1
    sensor: SensorModel | None = None


@dataclass(frozen=True)
class BatchDraw:
    """What a batch shows: the controls present, and the clips."""

    present: tuple[Modality, ...]
    clips: tuple[ClipDraw, ...]


@dataclass(frozen=True)
class LoadedBatch:
    """A batch in the machine's memory, pictures as uint8: a quarter of what is computed on, so quickly on a GPU."""

    rgb_BTHWC: Tensor
    controls: Mapping[Modality, Tensor]
    foreground_BTHW: Tensor
    parts_BTHW: Tensor
    points_BTHWC: Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]

    def pinned(self) -> LoadedBatch:
        """Return the batch in page-locked memory, from where it can be copied while the GPU computes."""
        return LoadedBatch(
            self.rgb_BTHWC.pin_memory(),
            {modality: video.pin_memory() for modality, video in self.controls.items()},
            self.foreground_BTHW.pin_memory(),
            self.parts_BTHW.pin_memory(),
            self.points_BTHWC.pin_memory(),
            self.prompts,
            self.seeds,
        )

    def on(self, device: torch.device) -> Batch:
        """Return the batch as what is computed on."""
        return Batch(
            as_video(self.rgb_BTHWC.to(device, non_blocking=True)),
            {modality: as_video(video.to(device, non_blocking=True)) for modality, video in self.controls.items()},
            self.foreground_BTHW.to(device, non_blocking=True),
            self.parts_BTHW.to(device, non_blocking=True),
            self.points_BTHWC.to(device, non_blocking=True).permute(0, 4, 1, 2, 3),
            self.prompts,
            self.seeds,
        )


@dataclass(frozen=True)
class Batch:
    """Clips of one batch.

    Attributes:
        rgb_BCTHW: (B, 3, T, H, W) in [-1, 1].
        controls: the controls present, each like `rgb_BCTHW`.
        foreground_BTHW: bool, robot and manipulated objects.
        parts_BTHW: uint8, index into `parts.PARTS`.
        points_B4THW: world positions and pixel lengths in metres (`controls.surface_points`).
        prompts: one a clip; "" where text was dropped.
        seeds: one a clip, of what the decoder draws itself.
    """

    rgb_BCTHW: Tensor
    controls: Mapping[Modality, Tensor]
    foreground_BTHW: Tensor
    parts_BTHW: Tensor
    points_B4THW: Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]

    @property
    def guide(self) -> Guide:
        """What the decoder may look at."""
        return Guide(self.controls, self.points_B4THW, self.seeds)


def as_video(frames_BTHWC: Tensor) -> Tensor:
    """Return uint8 frames (B, T, H, W, C) as float32 video (B, C, T, H, W) in [-1, 1]."""
    return frames_BTHWC.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)


def draw_batch(
    pool: ClipPool,
    indices: range,
    size: int,
    frames: int,
    rng: np.random.Generator,
    config: DrawConfig | None = None,
    only: Modality | None = None,
    shrink: int = 1,
) -> BatchDraw:
    """Draw `size` clips of `frames` frames from `indices` of the pool, with a random subset of controls.

    The subset is one for the whole batch: a branch that is absent then costs nothing.

    Args:
        only: the one control of every batch, where a branch is trained alone.
        shrink: clips are shown at one part in so many of their size.
    """
    config = config or DrawConfig()
    present: tuple[Modality, ...] = (only,) if only else _drawn_subset(config, rng)
    chosen = []
    for _ in range(size):
        start = int(rng.integers(pool.frames - frames + 1))
        chosen.append((int(rng.integers(indices.start, indices.stop)), start))
    clips = [
        ClipDraw(
            index,
            start,
            frames,
            pool.prompt(index, rng) if rng.random() >= config.text_dropout else "",
            seed=int(rng.integers(DECODER_SEEDS)),
            shrink=shrink,
        )
        for index, start in chosen
    ]
    for modality in present:
        clips = [_with_preset(clip, modality, rng, config) for clip in clips]
    if config.sensor:
        sensors = [sample_training_sensor(rng) if rng.random() < config.sensor else None for _ in clips]
        clips = [dataclasses.replace(clip, sensor=sensor) for clip, sensor in zip(clips, sensors, strict=True)]
    return BatchDraw(present, tuple(clips))


def load_batch(pool: ClipPool, draw: BatchDraw) -> LoadedBatch:
    """Read the clips of a draw and make their controls."""
    clips = [shrunk(pool.clip(clip.index, clip.start, clip.frames), clip.shrink) for clip in draw.clips]
    seen = [_seen(clip, how) for clip, how in zip(clips, draw.clips, strict=True)]
    controls = {
        modality: _stacked([_control(clip, modality, how) for clip, how in zip(seen, draw.clips, strict=True)])
        for modality in draw.present
    }
    foreground = _stacked([np.isin(clip.instance, clip.foreground) for clip in clips])
    return LoadedBatch(
        _stacked([clip.rgb for clip in clips]),
        controls,
        foreground,
        _stacked([part_map(clip.instance, clip.labels) for clip in clips]),
        _stacked([surface_points(clip.passes, clip.foreground) for clip in clips]),
        [how.prompt for how in draw.clips],
        [how.seed for how in draw.clips],
    )


def shrunk(clip: TrainingClip, factor: int) -> TrainingClip:
    """Return a clip at one part in `factor` of its size: mean colours, the first depth and id of each block."""
    if factor == 1:
        return clip
    height, width = (side // factor * factor for side in clip.passes.size)
    rgb = clip.rgb[:, :height, :width]
    blocks = rgb.reshape(len(rgb), height // factor, factor, width // factor, factor, 3)
    # Pixel centres lie at whole coordinates: x becomes (x + 1/2) / factor - 1/2.
    offset = 0.5 / factor - 0.5
    small_from_large = np.array([[1 / factor, 0, offset], [0, 1 / factor, offset], [0, 0, 1]])
    passes = CameraPasses(
        blocks.mean((2, 4)).round().astype(np.uint8),
        np.ascontiguousarray(clip.depth_m[:, :height:factor, :width:factor]),
        np.ascontiguousarray(clip.instance[:, :height:factor, :width:factor]),
        small_from_large @ clip.passes.intrinsics_px,
        clip.passes.world_from_camera,
    )
    return dataclasses.replace(clip, passes=passes)


def _drawn_subset(config: DrawConfig, rng: np.random.Generator) -> tuple[Modality, ...]:
    drawn = tuple(modality for modality in MODALITIES if rng.random() < config.share(modality))
    allowed = tuple(modality for modality in EMPTY_DRAW if config.share(modality))
    return drawn or allowed or ("vis",)


def _with_preset(clip: ClipDraw, modality: Modality, rng: np.random.Generator, config: DrawConfig) -> ClipDraw:
    if modality == "edge":
        preset = EDGE_PRESETS[rng.integers(len(EDGE_PRESETS))]
        return dataclasses.replace(clip, edge=preset, foreground_edges=bool(rng.random() < config.foreground_edges))
    if modality == "vis":
        return dataclasses.replace(clip, vis=VIS_PRESETS[rng.integers(len(VIS_PRESETS))])
    if modality == "seg":
        default = rng.random() < DEFAULT_PALETTE_SHARE
        return dataclasses.replace(clip, palette=0 if default else int(rng.integers(2**31)))
    return clip


def _seen(clip: TrainingClip, how: ClipDraw) -> TrainingClip:
    """Return a clip as its camera saw it."""
    if how.sensor is None:
        return clip
    developed = how.sensor.developed(clip.rgb, np.random.default_rng(how.sensor.seed))
    return dataclasses.replace(clip, passes=dataclasses.replace(clip.passes, rgb=developed))


def _control(clip: TrainingClip, modality: Modality, how: ClipDraw) -> np.ndarray:
    if modality == "edge":
        edges = edge_control(clip.rgb, how.edge)
        return edges * np.isin(clip.instance, clip.foreground)[..., None] if how.foreground_edges else edges
    if modality == "vis":
        return vis_control(clip.rgb, how.vis)
    if modality == "depth":
        return depth_control(clip.depth_m)
    return seg_control(clip.instance, how.palette)


def _stacked(videos: Sequence[np.ndarray]) -> Tensor:
    """Stack videos (t, h, w, ...), padded with their edge to whole tokens at the right and the bottom."""
    stacked = np.stack(videos)
    bottom, right = (-side % TOKEN_STRIDE for side in stacked.shape[2:4])
    if bottom or right:
        widths = [(0, 0), (0, 0), (0, bottom), (0, right)] + [(0, 0)] * (stacked.ndim - 4)
        stacked = np.pad(stacked, widths, mode="edge")
    return torch.from_numpy(stacked)
