"""Transfer2.5 as a generator, in all its sizes: controls and prompts in, clips of the same frames out.

Shape legend: B row (a clip under one prompt and seed), C channel, T frame, L latent frame, H W pixel, h w latent cell.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from cosmos_engine.controls import ControlClip, Framing, Modality, identity_framing
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.device import has_bfloat16
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.codec import Guide
from cosmos_engine.transfer.conditioning import (
    BatchConditioning,
    Conditioning,
    SegmentVideos,
    as_frames,
    as_video,
    batch_conditioning,
    clip_points,
    encode_segment,
)
from cosmos_engine.transfer.flow import VelocityField, gaussian_noise, segment_seeds
from cosmos_engine.transfer.memory import MemoryPlan, SegmentWork, plan_memory
from cosmos_engine.transfer.model import TransferModel
from cosmos_engine.transfer.placement import Placement
from cosmos_engine.transfer.sampler import sample
from cosmos_engine.transfer.sampling import SAMPLING, SamplingConfig
from cosmos_engine.transfer.segments import Segment, join_segments, plan_segments
from cosmos_engine.transfer.tiny import load_tiny, shipped_checkpoint

# Fastest first; PyTorch takes the first that can do the shapes, dtype and device at hand.
ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Row:
    """One clip under one prompt and seed: `clip` and `variant` are indices into the arguments of `generate`."""

    clip: int
    variant: int


class Transfer25:
    """Generate with a Transfer2.5 model; implements `Generator`.

    A clip's sides that are no multiple of 16 are padded at the right and bottom with their edge and cut off again, so a
    pixel of a variant is the pixel of its source.

    Args:
        name: of the generator.
        model: on the CPU; brought to the device as the memory plan says.
        sampling: how to sample; by default what suits the generator of that name.
        device: where to compute.
        weights_sha256: digests of the weights files, for provenance.
        framing: how a camera's frames are brought to the model's size.
        memory_limit_bytes: what may be used on the device; None plans nothing and keeps all weights there.
    """

    def __init__(
        self,
        name: str,
        model: TransferModel,
        sampling: SamplingConfig | None = None,
        device: str | torch.device = "cpu",
        *,
        weights_sha256: Mapping[str, str] | None = None,
        framing: Callable[[int, int], Framing] = identity_framing,
        memory_limit_bytes: int | None = None,
    ) -> None:
        self.name = name
        self._model = model
        self._sampling = sampling or SAMPLING[name]
        self._device = torch.device(device)
        self._weights_sha256 = dict(weights_sha256 or {})
        self._framing = framing
        self._memory_limit_bytes = memory_limit_bytes
        self._plan: MemoryPlan | None = None
        self._placement = Placement(model.network, cast(nn.Module, model.codec), self._device)

    @classmethod
    def tiny(
        cls, file: Path | None = None, sampling: SamplingConfig | None = None, device: str | torch.device = "cpu"
    ) -> Transfer25:
        """Load a file of `tiny.save_tiny`; None means the one that comes with the package.

        Raises:
            InputError: a checkpoint that is missing, truncated or of another kind.
        """
        file = file or shipped_checkpoint()
        name = "transfer25-tiny"
        tiny = load_tiny(file)
        model = TransferModel(tiny.network, tiny.codec, tiny.text)
        return cls(name, model, sampling, device, weights_sha256={name: file_sha256(file)})

    def with_sampling(self, sampling: SamplingConfig) -> Transfer25:
        """Return a generator that shares this one's model and samples otherwise."""
        other = copy.copy(self)
        other._sampling, other._plan = sampling, None
        return other

    @property
    def uses_prompts(self) -> bool:
        """A prompt says how the scene looks."""
        return True

    @property
    def sampling(self) -> SamplingConfig:
        """How clips are sampled."""
        return self._sampling

    @property
    def provenance(self) -> dict[str, Any]:
        """Weights hashes, sampling and versions."""
        return {
            "weights_sha256": self._weights_sha256,
            "sampling": asdict(self._sampling),
            "torch": version("torch"),
        }

    def framing(self, height: int, width: int) -> Framing:
        """Return how frames of a camera are brought to the model's size, and back."""
        return self._framing(height, width)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Check every prompt, and encode them where that takes a model of its own."""
        prepare = getattr(self._model.text, "prepare", None)
        if prepare is not None:
            prepare([*prompts, self._sampling.negative_prompt])
        else:
            for prompt in prompts:
                self._model.text.encode([prompt])

    def plan(self, sizes: Sequence[tuple[int, int]], modalities: Sequence[Modality], rows: int) -> str:
        """Place the weights; within a memory limit, choose an offload policy and a batch that fit it."""
        network = self._model.network
        missing = [modality for modality in modalities if modality not in network.branches]
        if missing:
            raise InputError(f"control {missing[0]!r}: {self.name} has branches for {', '.join(network.branches)}")
        if self._memory_limit_bytes is not None:
            height, width = max(sizes, key=lambda size: size[0] * size[1])
            work = SegmentWork(height, width, self._sampling.segment_frames, len(modalities), rows)
            weight_bytes = sum(value.numel() * value.element_size() for value in network.parameters())
            self._plan = plan_memory(network.config, weight_bytes, work, self._memory_limit_bytes)
        self._placement.arrange("resident" if self._plan is None else self._plan.offload)
        if isinstance(self._model.text, nn.Module):
            self._model.text.to(self._device)
        return "" if self._plan is None else str(self._plan)

    def close(self) -> None:
        """Let go of device memory."""
        self._placement.close()

    @torch.no_grad()
    def generate(
        self, clips: Sequence[ControlClip], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[UInt8[np.ndarray, "n t h w 3"]]:
        """Return for each clip one variant under each (prompt, seed)."""
        if self._placement.offload is None:
            self.plan(
                [clip.rgb.shape[1:3] for clip in clips],
                sorted({modality for clip in clips for modality in clip.controls}),
                len(clips) * len(prompts),
            )
        variants: list[list[np.ndarray]] = [[] for _ in clips]
        for alike in _alike(clips):
            rows = [Row(clip, variant) for clip in alike for variant in range(len(prompts))]
            most = len(rows) if self._plan is None else self._plan.rows
            with tqdm(
                desc="denoise", unit="step", leave=False, total=self._evaluations(clips[alike[0]], rows, most)
            ) as bar:
                encoded = self._encoded(clips, alike)
                for start in range(0, len(rows), most):
                    batch = rows[start : start + most]
                    for row, video in zip(batch, self._batch(clips, encoded, batch, prompts, seeds, bar), strict=True):
                        variants[row.clip].append(video)
        return [np.stack(videos) for videos in variants]

    def _encoded(self, clips: Sequence[ControlClip], indices: Sequence[int]) -> dict[int, list[Conditioning]]:
        """Return the conditioning of every segment of the clips at `indices`; the variants of a clip share it."""
        with self._at_work("codec"):
            return {
                index: [
                    encode_segment(clips[index], segment, self._model.codec, self._sampling.weight_policy, self._device)
                    for segment in self._segments(clips[index])
                ]
                for index in indices
            }

    def _batch(
        self,
        clips: Sequence[ControlClip],
        encoded: Mapping[int, Sequence[Conditioning]],
        rows: Sequence[Row],
        prompts: Sequence[str],
        seeds: Sequence[int],
        bar: Any,
    ) -> UInt8[np.ndarray, "b t h w 3"]:
        """Generate rows whose clips have the same frames and size, segment by segment."""
        segments = self._segments(clips[rows[0].clip])
        seeds_of_segments = np.array([segment_seeds(seeds[row.variant], len(segments)) for row in rows]).T
        with self._at_work("text"):
            text_BMC = self._model.text.encode([prompts[row.variant] for row in rows])
            negative_BMC = self._model.text.encode([self._sampling.negative_prompt] * len(rows))
        used = sorted({row.clip for row in rows})
        clip_of_row = [used.index(row.clip) for row in rows]
        videos: list[np.ndarray] = []
        for segment, noise_seeds in zip(segments, seeds_of_segments.tolist(), strict=True):
            given = None
            if segment.conditional_frames:
                with self._at_work("codec"):
                    # A causal codec's first latent frame sees one frame only, however many are given.
                    given = self._model.codec.encode(
                        as_video(videos[-1][:, -segment.conditional_frames][:, None], self._device)
                    )
            with self._at_work("network"):
                conditioning = batch_conditioning(
                    self._model.network,
                    [encoded[clip][segment.index] for clip in used],
                    clip_of_row,
                    given,
                    self._dtype,
                )
                guidance = clips[rows[0].clip].guidance
                latent = self._sample(
                    conditioning, (text_BMC, negative_BMC), noise_seeds, self._guidance(guidance), bar
                )
            with self._at_work("codec"):
                videos.append(self._decoded(latent, clips, rows, seeds, segment))
        return join_segments(segments, [video.swapaxes(0, 1) for video in videos]).swapaxes(0, 1)

    def _sample(
        self,
        conditioning: BatchConditioning,
        texts_BMC: tuple[Tensor, Tensor],
        seeds: Sequence[int],
        guidance: float,
        bar: Any,
    ) -> Tensor:
        """Sample the latent of one segment for every row."""
        network, sampling, dtype = self._model.network, self._sampling, self._dtype
        shape = (network.config.latent_channels, *conditioning.condition_mask.shape[2:])
        noise = gaussian_noise(seeds, cast(tuple[int, int, int, int], shape), self._device)

        def predict(text_BMC: Tensor, noisy: Tensor, time: float) -> Tensor:
            return network.denoise(
                noisy.to(dtype),
                torch.full((len(seeds),), time, device=self._device),
                text_BMC,
                condition_mask_B1THW=conditioning.condition_mask,
                embedded_controls=conditioning.embedded_controls,
                weights=conditioning.weights,
            )

        conditional, unconditional = (text_BMC.to(self._device, dtype) for text_BMC in texts_BMC)
        field = VelocityField(
            conditional=lambda noisy, time: predict(conditional, noisy, time),
            noise=noise,
            prediction=network.config.prediction,
            unconditional=lambda noisy, time: predict(unconditional, noisy, time),
            guidance=guidance,
            frames=conditioning.frames,
            region=conditioning.region,
        )
        return sample(field, sampling.schedule, sampling.solver, on_step=lambda _: bar.update())

    def _decoded(
        self,
        latent: Tensor,
        clips: Sequence[ControlClip],
        rows: Sequence[Row],
        seeds: Sequence[int],
        segment: Segment,
    ) -> UInt8[np.ndarray, "b t h w 3"]:
        """Decode rows clip by clip, since a codec may look at the clip's controls and geometry."""
        frames: list[np.ndarray] = []
        for index in dict.fromkeys(row.clip for row in rows):
            clip = clips[index]
            of_clip = [at for at, row in enumerate(rows) if row.clip == index]
            controls = SegmentVideos(clip, segment, self._device, rows=len(of_clip), weighted=True)
            points = clip_points(clip, segment.source_frames, self._device) if self._model.codec.uses_points else None
            guide = Guide(
                controls,
                None if points is None else points.expand(len(of_clip), -1, -1, -1, -1),
                [seeds[rows[at].variant] for at in of_clip],
            )
            video = self._model.codec.decode(latent[of_clip], guide)
            frames.append(as_frames(video, *clip.rgb.shape[1:3]))
        return np.concatenate(frames)

    def _segments(self, clip: ControlClip) -> tuple[Segment, ...]:
        sampling = self._sampling
        if sampling.solver == "distilled" and clip.length > sampling.segment_frames:
            raise InputError(
                f"clip of {clip.length} frames: {self.name} makes clips of at most {sampling.segment_frames} frames; "
                "its checkpoint was not distilled for longer ones"
            )
        return plan_segments(
            clip.length, segment_frames=sampling.segment_frames, conditional_frames=sampling.conditional_frames
        )

    def _guidance(self, wished: float | None) -> float:
        """Return the recipe's guidance, or the generator's own; one made to be sampled without has none."""
        return self._sampling.guidance if wished is None or self._sampling.guidance == 0 else wished

    def _evaluations(self, clip: ControlClip, rows: Sequence[Row], most: int) -> int:
        return len(self._segments(clip)) * self._sampling.steps * -(-len(rows) // most)

    @property
    def _dtype(self) -> torch.dtype:
        """What the network's weights are in; under autocast its inputs may stay in it too."""
        return next(self._model.network.parameters()).dtype

    @contextlib.contextmanager
    def _at_work(self, part: str) -> Iterator[None]:
        """Have a part on the device, computing in the dtype and with the attention that suit it."""
        with contextlib.ExitStack() as stack:
            if part == "network":
                stack.enter_context(self._placement.network())
                if self._device.type == "cuda":
                    stack.enter_context(sdpa_kernel(ATTENTION, set_priority=True))
            elif part == "codec":
                stack.enter_context(self._placement.codec())
            if self._autocasts:
                stack.enter_context(torch.autocast(self._device.type, torch.bfloat16))
            yield

    @property
    def _autocasts(self) -> bool:
        if self._dtype != torch.float32 or self._sampling.bfloat16 is False:
            return False
        return self._sampling.bfloat16 is True or has_bfloat16(self._device)


def _alike(clips: Sequence[ControlClip]) -> list[list[int]]:
    """Group clips by what rows of one batch must share: frames, size, guidance and the guided steps."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault((clip.rgb.shape, clip.guidance, clip.keep_steps), []).append(index)
    return list(groups.values())
