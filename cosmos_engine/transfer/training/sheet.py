"""Sample sheets: held-out clips beside what a model in training makes of them, as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from cosmos_engine.config import load_config
from cosmos_engine.controls import MODALITIES, ControlClip, Modality, Recipe, control_clip
from cosmos_engine.transfer.codec import Codec, Guide
from cosmos_engine.transfer.conditioning import as_frames, as_video, clip_points
from cosmos_engine.transfer.model import TransferModel
from cosmos_engine.transfer.training.clips import ClipPool, TrainingClip, held_out_indices
from cosmos_engine.transfer.transfer25 import Transfer25

SHOWN_CLIPS = 4
SHOWN_FRAMES = 5


def sample_sheet(
    model: TransferModel, pool: ClipPool, device: torch.device, controls: Sequence[Modality] = ()
) -> bytes:
    """Return a sheet of held-out clips: the true render, and what the model makes of its controls under two seeds.

    Args:
        controls: alone, each of weight 1; by default the recipe of size tiny.
    """
    from cosmos_engine.report.sheet import contact_sheet

    generator = Transfer25("transfer25-tiny", model, device=device)
    rows: dict[str, np.ndarray] = {}
    for index in shown_indices(pool):
        source = pool.clip(index)
        prompt = source.prompt(np.random.default_rng(index))
        (made,) = generator.generate([clip_controls(source, controls)], [prompt, prompt], [index, index + 1])
        rows |= {f"clip {index}": source.rgb, f"{index} seed {index}": made[0], f"{index} seed {index + 1}": made[1]}
    return contact_sheet(rows, SHOWN_FRAMES)


@torch.no_grad()
def reconstruction_sheet(codec: nn.Module, pool: ClipPool, device: torch.device, bfloat16: bool) -> bytes:
    """Return a sheet of held-out clips: the true render, and what the codec makes of its latent and controls."""
    from cosmos_engine.report.sheet import contact_sheet

    assert isinstance(codec, Codec)
    rows: dict[str, np.ndarray] = {}
    for index in shown_indices(pool):
        source = pool.clip(index)
        clip = clip_controls(source)
        controls = {modality: as_video(video[None], device) for modality, video in clip.controls.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            guide = Guide(controls, clip_points(clip, range(clip.length), device), [index])
            rebuilt = codec.decode(codec.encode(as_video(source.rgb[None], device)), guide)
        rows |= {f"clip {index}": source.rgb, f"{index} rebuilt": as_frames(rebuilt, *source.rgb.shape[1:3])[0]}
    return contact_sheet(rows, SHOWN_FRAMES)


def shown_indices(pool: ClipPool) -> Sequence[int]:
    """Return held-out clips spread over the pool's end."""
    held_out = held_out_indices(pool)
    return held_out[:: max(len(held_out) // SHOWN_CLIPS, 1)][:SHOWN_CLIPS]


def clip_controls(clip: TrainingClip, controls: Sequence[Modality] = ()) -> ControlClip:
    """Return a training clip under the recipe of size tiny, or with some controls alone, each of weight 1."""
    recipe = load_config(Recipe, "recipe/tiny")
    if controls:
        edge, vis, depth, seg = (float(modality in controls) for modality in MODALITIES)
        recipe = Recipe(edge=edge, vis=vis, depth=depth, seg=seg)
    return control_clip(clip.passes, clip.labels, recipe, 0)
