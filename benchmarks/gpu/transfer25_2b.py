"""Time and memory of the 2B model at full size on a GPU, beside diffusers' modules in the same run; random weights.

    python benchmarks/gpu/transfer25_2b.py --part evaluation      # seconds an evaluation, ours and diffusers'
    python benchmarks/gpu/transfer25_2b.py --part segment         # a whole 93-frame segment, text to pixels
    python benchmarks/gpu/transfer25_2b.py --part memory          # peak memory under each offload policy
    python benchmarks/gpu/transfer25_2b.py --part equality        # compiled, offloaded and batched against plain
    (--sizes 1280x704 640x480, --controls 1 4, --repeats 3, --json FILE; --small tries the script on a CPU)

A part fits a few minutes of one H100 or H200. Weights are random: speed and memory do not depend on them. The ceiling
that shares are given of is the bf16 rate of a large matrix product on the same device, measured in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, CosmosControlNetModel, CosmosTransformer3DModel
from diffusers.models.controlnets import controlnet_cosmos
from diffusers.models.transformers import transformer_cosmos
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from cosmos_engine.controls import MODALITIES, ControlClip
from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.memory import GIB, SegmentWork, estimate
from cosmos_engine.transfer.model import TransferModel
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.placement import OFFLOADS, Offload, Placement
from cosmos_engine.transfer.sampling import SAMPLING
from cosmos_engine.transfer.transfer25 import ATTENTION, Transfer25
from cosmos_engine.transfer.two_b import compile_blocks
from cosmos_engine.transfer.wan import WanCodec

FRAMES = 93
TEXT_TOKENS = 512
NVIDIA_SECONDS = {"H100": 503.0, "H200": 374.0, "B200": 180.0}  # published: 1280x704, edge, 35 steps, one GPU
SMALL = TransferConfig(
    width=96,
    blocks=4,
    heads=4,
    adaln_rank=8,
    control_channels=128,
    text_width=32,
    text_width_in=64,
    image_width=24,
    inject_after=(0, 2),
)


class RandomText:
    """Stand in for Reason1: tokens at random, already projected."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.width, self.device = width, device

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return (B, 512, D)."""
        return torch.randn(len(prompts), TEXT_TOKENS, self.width, device=self.device, dtype=torch.bfloat16)


def main() -> None:
    """Run one part and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), required=True)
    parser.add_argument("--sizes", nargs="+", default=["1280x704", "640x480"])
    parser.add_argument("--controls", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--small", action="store_true", help="a small network on the CPU, to try the script")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.device = torch.device("cpu" if args.small else "cuda")
    args.config = SMALL if args.small else SIZES["2b"]
    args.frames = 5 if args.small else FRAMES
    if args.small:
        args.sizes, args.steps = ["64x32"], 2
    name = "CPU" if args.small else torch.cuda.get_device_name()
    ceiling = 0.0 if args.small else matmul_tflops(args.device)
    print(f"{name}, torch {torch.__version__}, bf16 matrix products {ceiling:.0f} TFLOP/s")
    rows = []
    for row in PARTS[args.part](args, ceiling):
        print(
            "  ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
        rows.append(row)
    if args.json:
        args.json.write_text(json.dumps({"device": name, "tflops": ceiling, "rows": rows}, indent=2))


def evaluation(args: argparse.Namespace, ceiling: float) -> Iterator[dict[str, Any]]:
    """Yield the median seconds of one network evaluation: ours plain and compiled, and diffusers'."""
    for size in args.sizes:
        for branches in args.controls:
            shape = latent_shape(args, size)
            tflop = evaluation_flops(args.config, shape, branches) / 1e12
            row: dict[str, Any] = {"size": size, "controls": branches, "tflop": tflop}
            for name, make in (("plain", ours), ("compiled", ours_compiled), ("diffusers", theirs)):
                evaluate = make(args, shape, branches)
                row[f"{name}_s"] = median_s(evaluate, args.repeats, args.device)
                del evaluate
                release()
            best = min(row["plain_s"], row["compiled_s"])
            row["speedup"] = row["diffusers_s"] / best
            row["share_of_ceiling"] = tflop / best / ceiling if ceiling else 0.0
            row["segment_of_35_steps_s"] = best * 70  # guidance evaluates twice a step
            yield row


def segment(args: argparse.Namespace, ceiling: float) -> Iterator[dict[str, Any]]:
    """Yield the seconds of a whole segment, VAE included: 35 steps with guidance, and the 4-step schedule."""
    for size in args.sizes:
        for branches in args.controls:
            for model in ("transfer25-2b", "transfer25-2b-distilled"):
                if model.endswith("distilled") and branches > 1:
                    continue
                generator = generator_of(args, branches, model)
                clip = random_clip(args, size, branches)
                reset_peak(args.device)
                start = time.perf_counter()
                generator.generate([clip], ["a"], [1])
                seconds = time.perf_counter() - start
                row = {
                    "size": size,
                    "controls": branches,
                    "model": model,
                    "seconds": seconds,
                    "peak_gib": peak_gib(args.device),
                }
                if size == "1280x704" and branches == 1 and model == "transfer25-2b" and not args.small:
                    published = [s for name, s in NVIDIA_SECONDS.items() if name in torch.cuda.get_device_name()]
                    row["nvidia_published_s"] = published[0] if published else None
                yield row
                generator.close()
                del generator
                release()


def memory(args: argparse.Namespace, ceiling: float) -> Iterator[dict[str, Any]]:
    """Yield the peak memory and seconds of a few steps under each offload policy, beside the plan's estimate."""
    for size in args.sizes:
        for branches in args.controls:
            for offload in OFFLOADS:
                args.steps = 2
                generator = generator_of(args, branches, "transfer25-2b")
                generator.plan([height_width(size)], MODALITIES[:branches], 1)
                generator._placement.arrange(offload)
                reset_peak(args.device)
                start = time.perf_counter()
                generator.generate([random_clip(args, size, branches)], ["a"], [1])
                row = {"size": size, "controls": branches, "offload": offload, "peak_gib": peak_gib(args.device)}
                row["seconds_2_steps"] = time.perf_counter() - start
                row["planned_gib"] = planned_gib(generator, args, size, branches, offload)
                yield row
                generator.close()
                del generator
                release()


def equality(args: argparse.Namespace, ceiling: float) -> Iterator[dict[str, Any]]:
    """Yield how far compiled, offloaded and batched evaluations are from the plain one, relative to its spread."""
    shape, branches = latent_shape(args, args.sizes[-1]), max(args.controls)
    network = random_network(args, branches)
    inputs = random_inputs(args, shape, branches, rows=2)
    plain = evaluated(network, inputs, slice(0, 1))

    def far(other: Tensor) -> float:
        return float((other.float() - plain.float()).abs().mean() / plain.float().std())

    yield {"path": "batched", "mean_difference": far(evaluated(network, inputs, slice(0, 2))[:1])}
    placement = Placement(network, nn.Identity(), args.device)
    for offload in ("turns", "blocks"):
        placement.arrange(offload)
        with placement.network():
            yield {"path": offload, "mean_difference": far(evaluated(network, inputs, slice(0, 1)))}
    placement.close()
    network.to(args.device)
    if not args.small:
        compile_blocks(network)
        yield {"path": "compiled", "mean_difference": far(evaluated(network, inputs, slice(0, 1)))}


def random_network(args: argparse.Namespace, branches: int) -> TransferNetwork:
    """Return a network with random weights in bfloat16 on the device."""
    torch.manual_seed(0)
    config = dataclasses.replace(args.config, modalities=MODALITIES[:branches])
    with torch.device(args.device):
        network = TransferNetwork(config).to(torch.bfloat16).eval().requires_grad_(False)
    for parameter in network.parameters():  # branches start at zero otherwise, and would be compared for nothing
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.02)
    network.fold_image_context()
    return network


def random_inputs(
    args: argparse.Namespace, shape: tuple[int, int, int], branches: int, rows: int = 1
) -> dict[str, Any]:
    """Return the arguments of an evaluation for `rows` rows."""
    generator = torch.Generator(args.device).manual_seed(1)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=args.device).to(torch.bfloat16)

    return {
        "noisy": draw(rows, 16, *shape),
        "text": draw(rows, TEXT_TOKENS, args.config.text_width),
        "mask": torch.zeros(1, 1, *shape, device=args.device, dtype=torch.bfloat16),
        "controls": {modality: draw(rows, 16, *shape) for modality in MODALITIES[:branches]},
    }


@torch.no_grad()
def evaluated(network: TransferNetwork, inputs: dict[str, Any], rows: slice) -> Tensor:
    """Evaluate some rows."""
    embedded = network.embed_controls({m: c[rows] for m, c in inputs["controls"].items()}, inputs["mask"])
    noisy = inputs["noisy"][rows]
    return network.denoise(
        noisy,
        torch.full((len(noisy),), 0.7, device=noisy.device),
        inputs["text"][rows],
        condition_mask_B1THW=inputs["mask"],
        embedded_controls=embedded,
        weights={modality: 1.0 / len(embedded) for modality in embedded},
    )


def ours(
    args: argparse.Namespace, shape: tuple[int, int, int], branches: int, compiled: bool = False
) -> Callable[[], Any]:
    """Return one evaluation of our network."""
    network, inputs = random_network(args, branches), random_inputs(args, shape, branches)
    if compiled and not args.small:
        compile_blocks(network)

    def evaluate() -> Tensor:
        if args.small:
            return evaluated(network, inputs, slice(None))
        with sdpa_kernel(ATTENTION, set_priority=True):
            return evaluated(network, inputs, slice(None))

    return evaluate


def ours_compiled(args: argparse.Namespace, shape: tuple[int, int, int], branches: int) -> Callable[[], Any]:
    """Return one evaluation of our network with compiled blocks."""
    return ours(args, shape, branches, compiled=True)


def theirs(args: argparse.Namespace, shape: tuple[int, int, int], branches: int) -> Callable[[], Any]:
    """Return one evaluation of diffusers' transformer with its control networks, the residuals summed."""
    config = args.config
    common: dict[str, Any] = {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "mlp_ratio": config.mlp_ratio,
        "text_embed_dim": config.text_width,
        "adaln_lora_dim": config.adaln_rank,
        "patch_size": config.patch,
        "max_size": (128, 240, 240),
        "rope_scale": config.rope_ratios,
        "extra_pos_embed_type": None,
        "img_context_dim_in": config.image_width,
        "img_context_dim_out": config.width,
        "use_crossattn_projection": False,
    }
    for module in (controlnet_cosmos, transformer_cosmos):  # they resize a mask by torchvision, to the size that it has
        if not hasattr(module, "transforms"):
            resize = SimpleNamespace(resize=lambda mask, size, interpolation: mask)
            modes = SimpleNamespace(NEAREST=None)
            module.transforms = SimpleNamespace(functional=resize, InterpolationMode=modes)
    with torch.device(args.device):
        torch.set_default_dtype(torch.bfloat16)
        base = CosmosTransformer3DModel(
            in_channels=config.latent_channels + 1,
            out_channels=config.latent_channels,
            num_layers=config.blocks,
            controlnet_block_every_n=config.inject_after[1],
            concat_padding_mask=True,
            **common,
        ).eval()
        controlnets = [
            CosmosControlNetModel(
                n_controlnet_blocks=config.control_blocks,
                in_channels=config.control_channels + 2,
                latent_channels=config.latent_channels + 2,
                model_channels=config.width,
                **common,
            ).eval()
            for _ in range(branches)
        ]
        torch.set_default_dtype(torch.float32)
    inputs = random_inputs(args, shape, branches)
    timestep = torch.full((1, 1, shape[0], 1, 1), 0.7, device=args.device, dtype=torch.bfloat16)
    padding = torch.zeros(1, 1, shape[1], shape[2], device=args.device, dtype=torch.bfloat16)
    image = torch.zeros(1, 256, config.image_width, device=args.device, dtype=torch.bfloat16)

    @torch.no_grad()
    def evaluate() -> Any:
        residuals: list[Tensor] | None = None
        for network, control in zip(controlnets, inputs["controls"].values(), strict=True):
            (added,) = network(
                controls_latents=control,
                latents=inputs["noisy"],
                timestep=timestep,
                encoder_hidden_states=(inputs["text"], image),
                condition_mask=inputs["mask"],
                conditioning_scale=1.0 / branches,
                padding_mask=padding,
                return_dict=False,
            )
            residuals = added if residuals is None else [a + b for a, b in zip(residuals, added, strict=True)]
        return base(
            hidden_states=inputs["noisy"],
            timestep=timestep,
            encoder_hidden_states=(inputs["text"], image),
            block_controlnet_hidden_states=residuals,
            condition_mask=inputs["mask"],
            padding_mask=padding,
            return_dict=False,
        )[0]

    return evaluate


def generator_of(args: argparse.Namespace, branches: int, model: str) -> Transfer25:
    """Return the generator with random weights and text."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    vae = AutoencoderKLWan() if not args.small else AutoencoderKLWan(base_dim=8)
    torch.set_default_dtype(torch.float32)
    steps = {} if model.endswith("distilled") else {"steps": args.steps}
    sampling = dataclasses.replace(SAMPLING[model], segment_frames=args.frames, **steps)
    parts = TransferModel(
        random_network(args, branches),
        WanCodec(vae.eval()),
        RandomText(args.config.text_width, args.device),
    )  # type: ignore[arg-type]
    limit = 200 * GIB if args.small else torch.cuda.mem_get_info()[0]
    return Transfer25(model, parts, sampling, args.device, memory_limit_bytes=limit)


def planned_gib(generator: Transfer25, args: argparse.Namespace, size: str, branches: int, offload: Offload) -> float:
    """Return what the memory plan estimates for one row."""
    network = generator._model.network
    weight_bytes = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    work = SegmentWork(*height_width(size), args.frames, branches, 1)
    return estimate(network.config, weight_bytes, work, offload, 1).peak_bytes / GIB


def random_clip(args: argparse.Namespace, size: str, branches: int) -> ControlClip:
    """Return a clip of noise with its controls."""
    height, width = height_width(size)
    video = np.random.default_rng(0).integers(0, 256, (args.frames, height, width, 3), dtype=np.uint8)
    modalities = MODALITIES[:branches]
    return ControlClip(video, dict.fromkeys(modalities, video), dict.fromkeys(modalities, 1.0))


def height_width(size: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    width, height = size.split("x")
    return int(height), int(width)


def latent_shape(args: argparse.Namespace, size: str) -> tuple[int, int, int]:
    """Return (latent frames, rows, columns) of a segment."""
    height, width = height_width(size)
    return (args.frames - 1) // 4 + 1, height // 8, width // 8


def evaluation_flops(config: TransferConfig, shape: tuple[int, int, int], branches: int) -> float:
    """Return multiply-adds times two of one evaluation: projections, attention to video and text, and the MLP."""
    work = SegmentWork(shape[1] * 8, shape[2] * 8, (shape[0] - 1) * 4 + 1, branches, 1)
    tokens, width = work.tokens(config), config.width
    projections = (4 + 2) * width * width + 2 * TEXT_TOKENS / tokens * width * config.text_width
    attention = 2 * (tokens + TEXT_TOKENS) * width
    mlp = 2 * config.mlp_ratio * width * width
    block = 2 * tokens * (projections + attention + mlp)
    after = 2 * tokens * width * width
    return (config.blocks + branches * config.control_blocks) * block + branches * config.control_blocks * after


def matmul_tflops(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """Return the bf16 rate of a large matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize(device)
    return 2 * size**3 * repeats / (time.perf_counter() - start) / 1e12


def median_s(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the median seconds of `repeats` calls, after two that are not counted."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def reset_peak(device: torch.device) -> None:
    """Start counting the peak anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """Return the peak of allocated memory since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0


def release() -> None:
    """Give memory back between measurements."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


PARTS = {"evaluation": evaluation, "segment": segment, "memory": memory, "equality": equality}

if __name__ == "__main__":
    main()
