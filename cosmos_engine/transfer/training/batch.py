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
from torch.nn import functional as F

from cosmos_engine.controls import MODALITIES, Modality, depth_control, edge_control, seg_control, vis_control
from cosmos_engine.controls.edge import EdgePreset
from cosmos_engine.controls.vis import VisPreset
from cosmos_engine.errors import InputError
from cosmos_engine.sim.sensor import SensorModel, sample_training_sensor
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, TEMPORAL_STRIDE
from cosmos_engine.transfer.training.clips import ClipPool, TrainingClip

EDGE_PRESETS: tuple[EdgePreset, ...] = ("low", "medium", "high")
VIS_PRESETS: tuple[VisPreset, ...] = ("low", "medium", "very_high")
DEFAULT_PALETTE_SHARE = 0.8  # clips whose seg control has the colours of seed 0, which jobs use unless told otherwise
TOKEN_STRIDE = 2 * SPATIAL_STRIDE  # sides are padded to whole tokens, as the generator does
EMPTY_DRAW: tuple[Modality, ...] = ("edge", "depth", "seg")


@dataclass(frozen=True)
class DrawConfig:
    """What a batch shows.

    Attributes:
        edge, vis, depth, seg: how often each control is in a batch, so that every subset of them works afterwards. Vis
            is rarer: it shows the source's colours, and the default recipe leaves it out. A draw of none becomes those
            of edge, depth and seg that are ever drawn.
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
    vis: VisPreset = "medium"
    palette: int = 0
    sensor: SensorModel | None = None


@dataclass(frozen=True)
class BatchDraw:
    """What a batch shows: the controls present, and the clips."""

    present: tuple[Modality, ...]
    clips: tuple[ClipDraw, ...]


@dataclass(frozen=True)
class LoadedBatch:
    """A batch as uint8 in the machine's memory: a quarter of what is computed on, so quickly brought to a GPU."""

    rgb_BTHWC: Tensor
    controls: Mapping[Modality, Tensor]
    foreground_BTHW: Tensor
    prompts: Sequence[str]

    def pinned(self) -> LoadedBatch:
        """Return the batch in page-locked memory, from where it can be copied while the GPU computes."""
        return LoadedBatch(
            self.rgb_BTHWC.pin_memory(),
            {modality: video.pin_memory() for modality, video in self.controls.items()},
            self.foreground_BTHW.pin_memory(),
            self.prompts,
        )

    def on(self, device: torch.device) -> Batch:
        """Return the batch as what is computed on."""
        return Batch(
            as_video(self.rgb_BTHWC.to(device, non_blocking=True)),
            {modality: as_video(video.to(device, non_blocking=True)) for modality, video in self.controls.items()},
            self.foreground_BTHW.to(device, non_blocking=True),
            self.prompts,
        )


@dataclass(frozen=True)
class Batch:
    """Clips of one batch.

    Attributes:
        rgb_BCTHW: (B, 3, T, H, W) in [-1, 1].
        controls: the controls present, each like `rgb_BCTHW`.
        foreground_BTHW: bool, robot and manipulated objects.
        prompts: one a clip; "" where text was dropped.
    """

    rgb_BCTHW: Tensor
    controls: Mapping[Modality, Tensor]
    foreground_BTHW: Tensor
    prompts: Sequence[str]


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
) -> BatchDraw:
    """Draw `size` clips of `frames` frames from `indices` of the pool, with a random subset of controls.

    The subset is one for the whole batch: a branch that is absent then costs nothing.

    Args:
        only: the one control of every batch, where a branch is trained alone.
    """
    config = config or DrawConfig()
    present: tuple[Modality, ...] = (only,) if only else _drawn_subset(config, rng)
    chosen = []
    for _ in range(size):
        start = int(rng.integers(pool.frames - frames + 1))
        chosen.append((int(rng.integers(indices.start, indices.stop)), start))
    clips = [
        ClipDraw(index, start, frames, pool.prompt(index, rng) if rng.random() >= config.text_dropout else "")
        for index, start in chosen
    ]
    for modality in present:
        clips = [_with_preset(clip, modality, rng) for clip in clips]
    if config.sensor:
        sensors = [sample_training_sensor(rng) if rng.random() < config.sensor else None for _ in clips]
        clips = [dataclasses.replace(clip, sensor=sensor) for clip, sensor in zip(clips, sensors, strict=True)]
    return BatchDraw(present, tuple(clips))


def load_batch(pool: ClipPool, draw: BatchDraw) -> LoadedBatch:
    """Read the clips of a draw and make their controls."""
    clips = [pool.clip(clip.index, clip.start, clip.frames) for clip in draw.clips]
    seen = [_seen(clip, how) for clip, how in zip(clips, draw.clips, strict=True)]
    controls = {
        modality: _stacked([_control(clip, modality, how) for clip, how in zip(seen, draw.clips, strict=True)])
        for modality in draw.present
    }
    foreground = _stacked([np.isin(clip.instance, clip.foreground) for clip in clips])
    return LoadedBatch(_stacked([clip.rgb for clip in clips]), controls, foreground, [how.prompt for how in draw.clips])


def latent_foreground(foreground_BTHW: Tensor) -> Tensor:
    """Return the foreground share of each latent cell, (B, 1, L, h, w) in [0, 1]."""
    share = F.avg_pool2d(foreground_BTHW.float(), SPATIAL_STRIDE)  # B T h w
    first = share[:, :1].expand(-1, TEMPORAL_STRIDE, -1, -1)
    return torch.cat([first, share[:, 1:]], dim=1).unflatten(1, (-1, TEMPORAL_STRIDE)).mean(2)[:, None]


def _drawn_subset(config: DrawConfig, rng: np.random.Generator) -> tuple[Modality, ...]:
    drawn = tuple(modality for modality in MODALITIES if rng.random() < config.share(modality))
    allowed = tuple(modality for modality in EMPTY_DRAW if config.share(modality))
    return drawn or allowed or ("vis",)


def _with_preset(clip: ClipDraw, modality: Modality, rng: np.random.Generator) -> ClipDraw:
    if modality == "edge":
        return dataclasses.replace(clip, edge=EDGE_PRESETS[rng.integers(len(EDGE_PRESETS))])
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
    return dataclasses.replace(clip, rgb=how.sensor.developed(clip.rgb, np.random.default_rng(how.sensor.seed)))


def _control(clip: TrainingClip, modality: Modality, how: ClipDraw) -> np.ndarray:
    if modality == "edge":
        return edge_control(clip.rgb, how.edge)
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
