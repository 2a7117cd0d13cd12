"""Transfer2.5 as a generator: controls and prompt in, a clip of the same frames out, segment by segment.

Shape legend: N variant, B batch (= N), C channel, T frame, L latent frame, H W pixel, h w latent cell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.controls import ControlClip, Modality, Recipe
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, control_latent
from cosmos_engine.transfer.control_weights import ControlWeight, WeightPolicy, resolve_weights
from cosmos_engine.transfer.flow import ConditionalFrames, VelocityField, flow_schedule, gaussian_noise, segment_seeds
from cosmos_engine.transfer.sampler import Solver, sample
from cosmos_engine.transfer.segments import Segment, join_segments, latent_frames, plan_segments
from cosmos_engine.transfer.tiny import TinyModel, load_tiny, shipped_checkpoint
from cosmos_engine.transfer.weights import weights_sha256

TOKEN_STRIDE = 2 * SPATIAL_STRIDE  # pixels under one token


@dataclass(frozen=True)
class SamplingConfig:
    """How a clip is sampled.

    Attributes:
        steps: denoise steps of a segment; the shipped checkpoint was trained for one.
        shift: of the flow times towards noise.
        solver: see `sampler.sample`.
        guidance: g in v_cond + g (v_cond - v_uncond); 0 evaluates the network once a step.
        segment_frames: frames generated at once, 4k + 1.
        conditional_frames: frames at the start of a segment given by the one before; 0 or 1.
        weight_policy: how the control weights combine, see `control_weights.resolve_weights`.
        bfloat16: whether the network computes in bfloat16; None asks the processor.

    Raises:
        InputError: a number out of range.
    """

    steps: int = 1
    shift: float = 3.0
    solver: Solver = "euler"
    guidance: float = 0.0
    segment_frames: int = 17
    conditional_frames: int = 1
    weight_policy: WeightPolicy = "capped"
    bfloat16: bool | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps: expected at least 1, got {self.steps}")
        if self.conditional_frames not in (0, 1):
            raise InputError(f"conditional_frames: expected 0 or 1, got {self.conditional_frames}")
        latent_frames(self.segment_frames)


class Transfer25Tiny:
    """Generate with the tiny checkpoint; implements `Generator`.

    Frames keep their size: sides that are no multiple of 16 are padded at the right and bottom with their edge and cut
    off again, so a pixel of a variant is the pixel of its source.

    Args:
        model: network, codec and text encoder.
        sampling: how to sample.
        device: where to compute.
        weights_sha256: of the model's file, for provenance; empty for a model that is still being trained.
    """

    name = "transfer25-tiny"
    default_recipe = Recipe()

    def __init__(
        self,
        model: TinyModel,
        sampling: SamplingConfig | None = None,
        device: str | torch.device = "cpu",
        weights_sha256: str = "",
    ) -> None:
        self._model = model.to(device)
        self._model.codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
        self._sampling = sampling or SamplingConfig()
        self._device = torch.device(device)
        self._weights_sha256 = weights_sha256

    @classmethod
    def from_checkpoint(
        cls, file: Path | None = None, sampling: SamplingConfig | None = None, device: str | torch.device = "cpu"
    ) -> Transfer25Tiny:
        """Load a file of `tiny.save_tiny`; None means the one that comes with the package.

        Raises:
            InputError: a checkpoint that is missing, truncated or of another kind.
        """
        file = file or shipped_checkpoint()
        return cls(load_tiny(file), sampling, device, weights_sha256(file))

    @property
    def provenance(self) -> dict[str, Any]:
        """Weights hash, sampling and versions."""
        return {
            "weights_sha256": {self.name: self._weights_sha256},
            "sampling": asdict(self._sampling),
            "torch": version("torch"),
        }

    def check_prompt(self, prompt: str) -> None:
        """Raise InputError for a prompt of more words than the text encoder takes."""
        self._model.text.encode([prompt])

    @torch.inference_mode()
    def generate(
        self, clip: ControlClip, prompts: Sequence[str], seeds: Sequence[int]
    ) -> UInt8[np.ndarray, "n t h w 3"]:
        """Return one variant of the clip for each (prompt, seed)."""
        sampling = self._sampling
        segments = plan_segments(
            clip.length, segment_frames=sampling.segment_frames, conditional_frames=sampling.conditional_frames
        )
        seeds_of_segments = np.array([segment_seeds(seed, len(segments)) for seed in seeds]).T
        weights = resolve_weights({m: weight for m, weight in clip.weights.items()}, sampling.weight_policy)  # noqa: C416
        _, height, width, _ = clip.rgb.shape
        videos: list[np.ndarray] = []
        with self._autocast():
            text_NMC = self._model.text.encode(prompts)
            unconditional_NMC = self._model.text.encode([""] * len(prompts))
            last: Tensor | None = None  # the frame that the next segment begins with
            for segment, noise_seeds in zip(segments, seeds_of_segments.tolist(), strict=True):
                controls = {m: self._video(video, segment) for m, video in clip.controls.items()}
                latent = self._sample(segment, controls, weights, (text_NMC, unconditional_NMC), noise_seeds, last)
                shared = {m: video.expand(len(prompts), -1, -1, -1, -1) for m, video in controls.items()}
                rgb_NCTHW = self._model.codec.decode(latent, shared).float().clamp(-1, 1)
                last = rgb_NCTHW[:, :, -1:]
                frames_TNHWC = rgb_NCTHW.add(1).mul(127.5).round().to(torch.uint8).permute(2, 0, 3, 4, 1)
                videos.append(frames_TNHWC[..., :height, :width, :].cpu().numpy())
        return np.ascontiguousarray(join_segments(segments, videos).swapaxes(0, 1))

    def _sample(
        self,
        segment: Segment,
        controls: Mapping[Modality, Tensor],
        weights: Mapping[str, ControlWeight],
        texts_NMC: tuple[Tensor, Tensor],
        seeds: Sequence[int],
        last_NCTHW: Tensor | None,
    ) -> Tensor:
        """Sample the latent of one segment for every variant."""
        network, sampling = self._model.network, self._sampling
        H, W = next(iter(controls.values())).shape[-2:]
        shape = (
            network.config.latent_channels,
            latent_frames(sampling.segment_frames),
            H // SPATIAL_STRIDE,
            W // SPATIAL_STRIDE,
        )
        noise = gaussian_noise(seeds, shape, self._device)
        condition_mask = torch.zeros(1, 1, *shape[1:], device=self._device)
        frames = None
        if segment.conditional_frames and last_NCTHW is not None:
            condition_mask[:, :, 0] = 1.0
            given = torch.zeros_like(noise)
            given[:, :, :1] = self._model.codec.encode(last_NCTHW)
            frames = ConditionalFrames(given, condition_mask)
        # Embedded once: the denoise steps and the variants of a segment share its controls.
        embedded = network.embed_controls({m: control_latent(v) for m, v in controls.items()}, condition_mask)
        embedded = {m: tokens.expand(len(seeds), -1, -1) for m, tokens in embedded.items()}

        def predict(text_NMC: Tensor, noisy: Tensor, time: float) -> Tensor:
            return network.denoise(
                noisy,
                torch.full((len(seeds),), time, device=self._device),
                text_NMC,
                condition_mask_B1THW=condition_mask,
                embedded_controls=embedded,
                weights=weights,
            )

        conditional, unconditional = texts_NMC
        field = VelocityField(
            conditional=lambda noisy, time: predict(conditional, noisy, time),
            noise=noise,
            prediction=network.config.prediction,
            unconditional=lambda noisy, time: predict(unconditional, noisy, time),
            guidance=sampling.guidance,
            frames=frames,
        )
        return sample(field, flow_schedule(sampling.steps, sampling.shift), sampling.solver)

    def _video(self, frames_THWC: UInt8[np.ndarray, "t h w 3"], segment: Segment) -> Tensor:
        """Return a segment's frames as video (1, 3, T, H, W) in [-1, 1], padded to whole tokens."""
        video = torch.from_numpy(frames_THWC[list(segment.source_frames)]).to(self._device)
        video = video.permute(3, 0, 1, 2).float().div(127.5).sub(1.0)[None]
        bottom, right = (-size % TOKEN_STRIDE for size in video.shape[-2:])
        return F.pad(video, (0, right, 0, bottom, 0, 0), mode="replicate") if bottom or right else video

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._sampling.bfloat16 is False or (
            self._sampling.bfloat16 is None and not computes_bfloat16(self._device)
        ):
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


def computes_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 is faster than float32 on a device: on a GPU, or a CPU with instructions for it."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return True
