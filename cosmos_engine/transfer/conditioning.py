"""Conditioning: what one segment of a clip is conditioned on besides text, shared by all variants of the clip.

Shape legend: U clip, B row (a clip under one prompt and seed), C channel, T frame, L latent frame, H W pixel,
h w latent cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.controls import ControlClip, Modality, surface_points
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, Codec
from cosmos_engine.transfer.control_weights import ControlWeight, WeightPolicy, latent_map, resolve_weights
from cosmos_engine.transfer.flow import ConditionalFrames, GuidedRegion
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.segments import Segment, latent_frames

TOKEN_STRIDE = 2 * SPATIAL_STRIDE  # pixels under one token


@dataclass(frozen=True)
class Conditioning:
    """One segment of one clip as latents.

    Attributes:
        controls: control latents (1, C, L, h, w) by modality.
        weights: their weights under the weight policy: numbers, or maps (1, 1, L, h / 2, w / 2).
        region: what guided generation keeps; None keeps nothing.
    """

    controls: Mapping[Modality, Float[Tensor, "1 c l h w"]]
    weights: Mapping[Modality, ControlWeight]
    region: GuidedRegion | None


def encode_segment(
    clip: ControlClip, segment: Segment, codec: Codec, policy: WeightPolicy, device: torch.device
) -> Conditioning:
    """Encode what conditions a segment; once for all variants and denoise steps."""
    videos = SegmentVideos(clip, segment, device)
    controls = {modality: codec.encode_control(videos[modality]) for modality in videos}
    height, width = (size + -size % TOKEN_STRIDE for size in clip.rgb.shape[1:3])
    L = latent_frames(len(segment.source_frames))
    tokens = (L, height // TOKEN_STRIDE, width // TOKEN_STRIDE)
    weights: dict[str, ControlWeight] = {
        modality: weight
        if isinstance(weight, float | int)
        else _weight_map(np.asarray(weight)[list(segment.source_frames)], tokens, device)
        for modality, weight in clip.weights.items()
    }
    resolved = resolve_weights(weights, policy)
    region = None
    if clip.keep is not None and clip.keep_steps > 0:
        cells = (L, height // SPATIAL_STRIDE, width // SPATIAL_STRIDE)
        mask = _pixel_map(clip.keep[list(segment.source_frames)].astype(np.float32), device)
        source = codec.encode(segment_video(clip.rgb, segment, device))
        region = GuidedRegion(source, latent_map(mask, cells), last_step=clip.keep_steps - 1)
    return Conditioning(controls, {modality: resolved[modality] for modality in clip.weights}, region)


class SegmentVideos(Mapping[Modality, Tensor]):
    """The control videos of a segment, each made when it is asked for: at 1280x704 one is a gigabyte.

    Args:
        rows: how many rows of a batch see them.
        weighted: black out where a control's weight map is 0, for a decoder that looks at controls, as weights do in
            the network.
    """

    def __init__(
        self, clip: ControlClip, segment: Segment, device: torch.device, rows: int = 1, *, weighted: bool = False
    ) -> None:
        self._clip, self._segment, self._device, self._rows = clip, segment, device, rows
        self._weighted = weighted

    def __getitem__(self, modality: Modality) -> Tensor:
        video = segment_video(self._clip.controls[modality], self._segment, self._device)
        weight = self._clip.weights[modality]
        if self._weighted and isinstance(weight, np.ndarray):
            shown = (weight[list(self._segment.source_frames)] > 0).astype(np.float32)
            video = torch.where(_pixel_map(shown, self._device) > 0, video, -1.0)
        return video.expand(self._rows, -1, -1, -1, -1)

    def __iter__(self) -> Iterator[Modality]:
        return iter(self._clip.controls)

    def __len__(self) -> int:
        return len(self._clip.controls)


def clip_points(clip: ControlClip, frames: Sequence[int], device: torch.device) -> Float[Tensor, "1 4 t hh ww"] | None:
    """Return `controls.surface_points` of frames of a clip, padded as its videos; None for a clip without geometry."""
    if clip.source is None:
        return None
    moving = [instance_id for instance_id, label in clip.source.labels.items() if label.role != "scene"]
    points = surface_points(clip.source.framed(), moving, frames)
    return _padded(torch.from_numpy(points).to(device).permute(3, 0, 1, 2)[None])


def segment_video(
    frames_THWC: UInt8[np.ndarray, "t h w 3"], segment: Segment, device: torch.device
) -> Float[Tensor, "1 3 _ hh ww"]:
    """Return a segment's frames as video in [-1, 1], padded to whole tokens at the right and the bottom."""
    return as_video(frames_THWC[None, list(segment.source_frames)], device)


def as_video(frames_BTHWC: UInt8[np.ndarray, "b t h w 3"], device: torch.device) -> Float[Tensor, "b 3 t hh ww"]:
    """Return frames as video in [-1, 1], padded to whole tokens with their edge."""
    video = torch.from_numpy(np.ascontiguousarray(frames_BTHWC)).to(device).permute(0, 4, 1, 2, 3)
    return _padded(video.float().div(127.5).sub(1.0))


def as_frames(video_BCTHW: Float[Tensor, "b 3 t hh ww"], height: int, width: int) -> UInt8[np.ndarray, "b t h w 3"]:
    """Undo `as_video`: round to grey levels and cut the padding off. Overwrites the video, which may be gigabytes."""
    levels = video_BCTHW.float().clamp_(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
    return levels[..., :height, :width].permute(0, 2, 3, 4, 1).cpu().numpy()


@dataclass(frozen=True)
class BatchConditioning:
    """The conditioning of a batch of rows, embedded: ready for the network.

    Attributes:
        embedded_controls: tokens by modality, one sample a row.
        weights: by modality: a number, one a row, or a map a row.
        condition_mask: 1 at conditional frames (1, 1, L, h, w).
        frames: conditional frames; None in a first segment.
        region: guided region, one sample a row.
    """

    embedded_controls: Mapping[str, Tensor]
    weights: Mapping[str, ControlWeight]
    condition_mask: Float[Tensor, "1 1 l h w"]
    frames: ConditionalFrames | None
    region: GuidedRegion | None


def batch_conditioning(
    network: TransferNetwork,
    clips: Sequence[Conditioning],
    clip_of_row: Sequence[int],
    given_BC1HW: Float[Tensor, "b c 1 h w"] | None,
    dtype: torch.dtype,
) -> BatchConditioning:
    """Embed the controls of each clip once and lay them out by row.

    Args:
        network: with a branch for each control.
        clips: the same segment of each clip of the batch.
        clip_of_row: index into `clips` of each row.
        given_BC1HW: the latent frame that each row begins with; None if its segment is the first.
        dtype: what the network computes in.
    """
    first = next(iter(clips[0].controls.values()))
    L, h, w = first.shape[2:]
    condition_mask = torch.zeros(1, 1, L, h, w, device=first.device)
    frames = None
    if given_BC1HW is not None:
        condition_mask[:, :, 0] = 1.0
        rest = given_BC1HW.new_zeros(*given_BC1HW.shape[:2], L - 1, h, w)
        frames = ConditionalFrames(torch.cat((given_BC1HW, rest), dim=2), condition_mask)
    embedded, weights = {}, {}
    for modality in network.branches:
        row_weights = [clips[index].weights.get(modality, 0.0) for index in clip_of_row]  # type: ignore[call-overload]
        if all(isinstance(weight, float) and weight == 0 for weight in row_weights):
            continue
        weights[modality] = _row_weights(row_weights)
        like = next(clip.controls[modality] for clip in clips if modality in clip.controls)  # type: ignore[index]
        latents = [clip.controls.get(modality, torch.zeros_like(like)) for clip in clips]  # type: ignore[call-overload]
        tokens = network.embed_controls({modality: torch.cat(latents).to(dtype)}, condition_mask.to(dtype))[modality]
        embedded[modality] = _by_row(tokens, clip_of_row)
    return BatchConditioning(embedded, weights, condition_mask.to(dtype), frames, _row_regions(clips, clip_of_row))


def _row_weights(weights: Sequence[ControlWeight]) -> ControlWeight:
    """Return one weight for all rows if they are the same number, else one a row."""
    maps = [weight for weight in weights if isinstance(weight, Tensor)]
    if not maps:
        numbers = [float(weight) for weight in weights]
        return numbers[0] if len(set(numbers)) == 1 else torch.tensor(numbers)
    full = [weight if isinstance(weight, Tensor) else torch.full_like(maps[0], float(weight)) for weight in weights]
    return maps[0] if all(weight is maps[0] for weight in full) else torch.cat(full)


def _row_regions(clips: Sequence[Conditioning], clip_of_row: Sequence[int]) -> GuidedRegion | None:
    regions = [clip.region for clip in clips if clip.region is not None]
    if not regions:
        return None
    kept = [
        (clip.region.latent, clip.region.mask)
        if clip.region is not None
        else (torch.zeros_like(regions[0].latent), torch.zeros_like(regions[0].mask))
        for clip in clips
    ]
    latents, masks = (_by_row(torch.cat(parts), clip_of_row) for parts in zip(*kept, strict=True))
    return GuidedRegion(latents, masks, regions[0].last_step)


def _by_row(by_clip: Tensor, clip_of_row: Sequence[int]) -> Tensor:
    if by_clip.shape[0] == 1:
        return by_clip.expand(len(clip_of_row), *by_clip.shape[1:])  # no copy for the variants of one clip
    return by_clip[list(clip_of_row)]


def _weight_map(map_THW: np.ndarray, tokens: tuple[int, int, int], device: torch.device) -> ControlWeight:
    """Return a map at token resolution; one number where it is the same everywhere, so that it counts as a scalar."""
    low = float(map_THW.min())
    if low == float(map_THW.max()):
        return low
    return latent_map(_pixel_map(map_THW, device), tokens)


def _pixel_map(map_THW: np.ndarray, device: torch.device) -> Float[Tensor, "1 1 _ hh ww"]:
    return _padded(torch.from_numpy(np.ascontiguousarray(map_THW, np.float32)).to(device)[None, None])


def _padded(video_BCTHW: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t hh ww"]:
    bottom, right = (-size % TOKEN_STRIDE for size in video_BCTHW.shape[-2:])
    return F.pad(video_BCTHW, (0, right, 0, bottom, 0, 0), mode="replicate") if bottom or right else video_BCTHW
