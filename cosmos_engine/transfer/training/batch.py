"""A training batch: clips with their controls as tensors, a random subset of controls each time.

Shape legend: B clip, T frame, H W pixel; h w latent cell; L latent frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.controls import MODALITIES, Modality, depth_control, edge_control, seg_control, vis_control
from cosmos_engine.controls.edge import EdgePreset
from cosmos_engine.controls.vis import VisPreset
from cosmos_engine.transfer.prompt import scene_prompt
from cosmos_engine.transfer.training.clips import ClipPool, TrainingClip

# How often each control is present in a batch. Vis is rarer: it shows the source's colours, and the default recipe
# leaves it out. An empty draw becomes seg + depth + edge.
PRESENCE: dict[Modality, float] = {"edge": 0.8, "vis": 0.25, "depth": 0.8, "seg": 0.8}
EDGE_PRESETS: tuple[EdgePreset, ...] = ("low", "medium", "high")
VIS_PRESETS: tuple[VisPreset, ...] = ("low", "medium", "very_high")
TEXT_DROPOUT = 0.1
DEFAULT_PALETTE_SHARE = 0.8  # clips whose seg control has the colours of seed 0, which jobs use unless told otherwise


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


def as_video(frames_BTHWC: np.ndarray) -> Tensor:
    """Return uint8 frames (B, T, H, W, C) as float32 video (B, C, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames_BTHWC).permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)


def draw_batch(pool: ClipPool, indices: range, size: int, frames: int, rng: np.random.Generator) -> Batch:
    """Draw `size` clips of `frames` frames from `indices` of the pool, with a random subset of controls.

    The subset is one for the whole batch: a branch that is absent then costs nothing.
    """
    present = [m for m in MODALITIES if rng.random() < PRESENCE[m]] or ["edge", "depth", "seg"]
    clips = []
    for _ in range(size):
        start = int(rng.integers(pool.config.frames - frames + 1))
        clips.append(pool.clip(int(rng.integers(indices.start, indices.stop)), start, frames))
    prompts = [scene_prompt(c.words, rng) if rng.random() >= TEXT_DROPOUT else "" for c in clips]
    return make_batch(clips, present, prompts, rng)


def make_batch(
    clips: Sequence[TrainingClip], present: Sequence[Modality], prompts: Sequence[str], rng: np.random.Generator
) -> Batch:
    """Make the `present` controls of `clips` with random presets and seg colours."""
    controls: dict[Modality, Tensor] = {}
    for modality in present:
        videos = np.stack([_control(clip, modality, rng) for clip in clips])
        controls[modality] = as_video(videos)
    foreground = np.stack([np.isin(clip.instance, clip.foreground) for clip in clips])
    return Batch(as_video(np.stack([c.rgb for c in clips])), controls, torch.from_numpy(foreground), prompts)


def _control(clip: TrainingClip, modality: Modality, rng: np.random.Generator) -> np.ndarray:
    if modality == "edge":
        return edge_control(clip.rgb, EDGE_PRESETS[rng.integers(len(EDGE_PRESETS))])
    if modality == "vis":
        return vis_control(clip.rgb, VIS_PRESETS[rng.integers(len(VIS_PRESETS))])
    if modality == "depth":
        return depth_control(clip.depth_m)
    return seg_control(clip.instance, 0 if rng.random() < DEFAULT_PALETTE_SHARE else int(rng.integers(2**31)))


def latent_foreground(foreground_BTHW: Tensor) -> Tensor:
    """Return the foreground share of each latent cell, (B, 1, L, h, w) in [0, 1]."""
    share = F.avg_pool2d(foreground_BTHW.float(), 8)  # B T h w
    first = share[:, :1].expand(-1, 4, -1, -1)
    return torch.cat([first, share[:, 1:]], dim=1).unflatten(1, (-1, 4)).mean(2)[:, None]
