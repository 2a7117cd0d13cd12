"""Time training beside the public diffusion policy: `python benchmarks/training_step.py CHECKOUT --threads 1`.

CHECKOUT is a clone of github.com/real-stanford/diffusion_policy, whose code is run from there and never copied. Its
environment needs einops, numba, diffusers and torchvision beside this project. Every measure runs both sides in turn,
so that what else the machine does meets both alike; the table has medians and the median of the neighbours' ratios. On
a CPU the times are the processor's, which a busy machine does not lengthen much.

- unet: forward and backward of `ConditionalUnet1D` and ours; same widths, kernel, conditioning and batch.
- resnet: forward and backward of the ResNet18 with group norm of both; theirs ends in a mean over the map, ours in
  spatial softmax and a linear layer.
- windows: one batch gathered by `ReplayBuffer` + `SequenceSampler` (arrays in memory) and by `Frames`; both uint8.
- update: a whole update of an image policy with ResNet18 for two cameras, from gathered windows to averaged weights, as
  the trainers do it: `DiffusionUnetImagePolicy.compute_loss`, AdamW, `EMAModel`; both in float32, one noise a window. A
  second row has ours with bfloat16 encoders, as it trains where the processor has bfloat16 instructions.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_engine.device import choose_device, has_bfloat16
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, WindowBatch
from policies.encoders import EncoderConfig
from policies.policy import PolicySpec
from policies.resnet import ResNet18Encoder
from policies.torchvision_import import import_torchvision
from policies.training_state import TrainingState
from policies.unet import Unet1d
from policies.windows import Frames

ACTION_DIM, HORIZON, OBSERVATION_FRAMES = 7, 16, 2
CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")
LOW_DIM = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
IMAGE_SIZE, CROP_SIZE = 84, 76
EPISODE = 50


@dataclass(frozen=True)
class Row:
    """Hold the seconds of both sides, call by call."""

    name: str
    theirs: list[float]
    ours: list[float]

    def text(self) -> str:
        """Return a line of the Markdown table."""
        ratio = statistics.median(theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=True))
        theirs, ours = (1e3 * statistics.median(seconds) for seconds in (self.theirs, self.ours))
        return f"| {self.name} | {theirs:.1f} | {ours:.1f} | {ratio:.2f} |"


def in_turn(
    name: str, theirs: Callable[[], object], ours: Callable[[], object], repeats: int, device: torch.device
) -> Row:
    """Call both in turn, once to warm up and `repeats` times measured.

    On a CPU it is the processor's time that counts, of all threads: what else a shared machine does takes none of it.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for call, of_call in zip((theirs, ours), seconds, strict=True):
            started = clock()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            of_call.append(clock() - started)
    return Row(name, seconds[0][1:], seconds[1][1:])


def unet_row(widths: tuple[int, ...], batch: int, repeats: int, device: torch.device) -> Row:
    """Compare forward and backward of the U-Nets."""
    from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D

    observation_width = OBSERVATION_FRAMES * (len(CAMERAS) * 64 + sum(LOW_DIM.values()))
    theirs = ConditionalUnet1D(
        input_dim=ACTION_DIM,
        global_cond_dim=observation_width,
        diffusion_step_embed_dim=128,
        down_dims=list(widths),
        kernel_size=5,
        n_groups=8,
        cond_predict_scale=True,
    ).to(device)
    ours = Unet1d(action_dim=ACTION_DIM, observation_width=observation_width, widths=widths).to(device)
    actions = torch.randn(batch, HORIZON, ACTION_DIM, device=device)
    steps = torch.randint(100, (batch,), device=device)
    observation = torch.randn(batch, observation_width, device=device)

    def step(network: torch.nn.Module, call: Callable[[], torch.Tensor]) -> None:
        network.zero_grad(set_to_none=True)
        call().square().mean().backward()

    millions = [sum(weight.numel() for weight in network.parameters()) / 1e6 for network in (theirs, ours)]
    return in_turn(
        f"unet {'/'.join(map(str, widths))} ({millions[0]:.1f} M and {millions[1]:.1f} M weights), batch {batch}",
        lambda: step(theirs, lambda: theirs(actions, steps, global_cond=observation)),
        lambda: step(ours, lambda: ours(actions, steps, observation)),
        repeats,
        device,
    )


def their_resnet() -> torch.nn.Module:
    """Return the peer's ResNet18 with group norm for one camera."""
    from diffusion_policy.model.vision.model_getter import get_resnet

    return get_resnet("resnet18")


def resnet_row(images: int, repeats: int, device: torch.device) -> Row:
    """Compare forward and backward of the image encoders."""
    from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder

    shape_meta = {"obs": {"a": {"shape": [3, CROP_SIZE, CROP_SIZE], "type": "rgb"}}}
    theirs = MultiImageObsEncoder(shape_meta, their_resnet(), use_group_norm=True).to(device)
    ours = ResNet18Encoder(32).to(device)
    seen = torch.rand(images, 3, CROP_SIZE, CROP_SIZE, device=device) * 2 - 1

    def step(network: torch.nn.Module, features: torch.Tensor) -> None:
        features.square().mean().backward()
        network.zero_grad(set_to_none=True)

    return in_turn(
        f"resnet, {images} images of {CROP_SIZE}",
        lambda: step(theirs, theirs({"a": seen})),
        lambda: step(ours, ours(seen)),
        repeats,
        device,
    )


def synthetic_frames(count: int, rng: np.random.Generator) -> Frames:
    """Return `count` frames of noise in episodes of 50."""
    frames = np.arange(count)
    first = frames - frames % EPISODE
    return Frames(
        images={name: rng.integers(0, 256, (count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8) for name in CAMERAS},
        low_dim={name: rng.random((count, width), dtype=np.float32) for name, width in LOW_DIM.items()},
        actions=rng.uniform(-1, 1, (count, ACTION_DIM)).astype(np.float32),
        first=first,
        last=np.minimum(first + EPISODE - 1, count - 1),
        source_demo=first // EPISODE,
        is_variant=np.zeros(count, bool),
    )


def their_sampler(frames: Frames) -> Any:
    """Return the peer's sampler over the same frames, in memory."""
    from diffusion_policy.common.replay_buffer import ReplayBuffer
    from diffusion_policy.common.sampler import SequenceSampler

    buffer = ReplayBuffer.create_empty_numpy()
    arrays = {**frames.images, **frames.low_dim, "action": frames.actions}
    for start in range(0, len(frames), EPISODE):
        buffer.add_episode({name: array[start : start + EPISODE] for name, array in arrays.items()})
    return SequenceSampler(
        replay_buffer=buffer,
        sequence_length=HORIZON,
        pad_before=OBSERVATION_FRAMES - 1,
        pad_after=7,
        key_first_k=dict.fromkeys((*CAMERAS, *LOW_DIM), OBSERVATION_FRAMES),
    )


def windows_row(frames: Frames, batch: int, repeats: int, rng: np.random.Generator) -> Row:
    """Compare gathering a batch of windows."""
    sampler = their_sampler(frames)

    def theirs() -> dict[str, np.ndarray]:
        windows = [sampler.sample_sequence(index) for index in rng.integers(0, len(sampler), batch)]
        return {
            name: np.stack([window[name][: OBSERVATION_FRAMES if name != "action" else None] for window in windows])
            for name in windows[0]
        }

    def ours() -> WindowBatch:
        return frames.gather(rng.integers(0, len(frames), batch), OBSERVATION_FRAMES, HORIZON)

    return in_turn(f"windows, batch {batch}", theirs, ours, repeats, torch.device("cpu"))


def our_update(
    frames: Frames, widths: tuple[int, ...], batch: WindowBatch, device: torch.device, bfloat16: bool
) -> Callable[[], object]:
    """Return a function that makes one whole update of ours."""
    sizes = DiffusionPolicyConfig(
        image_size=IMAGE_SIZE, crop_size=CROP_SIZE, encoder=EncoderConfig("resnet18"), unet_widths=widths
    )
    shapes = {name: [IMAGE_SIZE, IMAGE_SIZE, 3] for name in CAMERAS} | {name: [n] for name, n in LOW_DIM.items()}
    policy = DiffusionPolicy(sizes, PolicySpec(shapes, ACTION_DIM, 20.0))
    policy.fit_normalizers(frames.low_dim, frames.actions)
    state = TrainingState(policy.to(device), weight_decay=1e-6, ema_max_decay=0.9999)

    def update() -> None:
        moved = WindowBatch(
            images={name: image.to(device) for name, image in batch.images.items()},
            low_dim={name: vector.to(device) for name, vector in batch.low_dim.items()},
            actions=batch.actions.to(device),
            inside=batch.inside.to(device),
        )
        loss = policy.loss(moved, torch.Generator().manual_seed(0), bfloat16_encoders=bfloat16)
        state.apply(loss, 1e-4)

    return update


def their_update(
    frames: Frames, widths: tuple[int, ...], batch: WindowBatch, device: torch.device
) -> Callable[[], object]:
    """Return a function that makes one whole update of the peer's, as its image workspace does."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusion_policy.model.common.normalizer import LinearNormalizer
    from diffusion_policy.model.diffusion.ema_model import EMAModel
    from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
    from diffusion_policy.policy.diffusion_unet_image_policy import DiffusionUnetImagePolicy

    seen = {name: {"shape": [3, IMAGE_SIZE, IMAGE_SIZE], "type": "rgb"} for name in CAMERAS}
    seen |= {name: {"shape": [width], "type": "low_dim"} for name, width in LOW_DIM.items()}
    shape_meta = {"obs": seen, "action": {"shape": [ACTION_DIM]}}
    schedule = DDPMScheduler(100, 1e-4, 0.02, "squaredcos_cap_v2", variance_type="fixed_small", clip_sample=True)
    encoder = MultiImageObsEncoder(
        shape_meta, their_resnet(), crop_shape=(CROP_SIZE, CROP_SIZE), random_crop=True, use_group_norm=True
    )
    policy = DiffusionUnetImagePolicy(
        shape_meta, schedule, encoder, HORIZON, 8, OBSERVATION_FRAMES, 100, True, 128, list(widths), 5, 8, True
    )
    normalizer = LinearNormalizer()
    normalizer.fit(
        {**frames.low_dim, "action": frames.actions} | {name: np.array([[0.0], [1.0]], np.float32) for name in CAMERAS},
        last_n_dims=1,
    )
    policy.set_normalizer(normalizer)
    policy.to(device)
    average = EMAModel(copy.deepcopy(policy), power=0.75)
    # Its data loader makes floats of images in processes of its own, so that is not counted.
    loaded = {name: image.permute(0, 1, 4, 2, 3).contiguous() / 255.0 for name, image in batch.images.items()}
    loaded |= batch.low_dim
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4, betas=(0.95, 0.999), eps=1e-8, weight_decay=1e-6)

    def update() -> None:
        seen = {name: array.to(device) for name, array in loaded.items()}
        policy.compute_loss({"obs": seen, "action": batch.actions.to(device)}).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.step(policy)

    return update


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, metavar="CHECKOUT", help="a clone of real-stanford/diffusion_policy")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=64, help="of the U-Nets and windows")
    parser.add_argument(
        "--image-batch", type=int, default=8, help="windows of two cameras and two frames, of an update"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if not (args.peer / "diffusion_policy").is_dir():
        parser.error(f"{args.peer}: holds no diffusion_policy package")
    sys.path.insert(0, str(args.peer))
    import_torchvision()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = choose_device(args.device)
    rng = np.random.default_rng(0)
    frames = synthetic_frames(args.frames, rng)
    batch = frames.gather(rng.integers(0, len(frames), args.image_batch), OBSERVATION_FRAMES, HORIZON)
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    load = f", processor time, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if device.type == "cpu" else ""
    print(f"torch {torch.__version__}, {processor}, {args.threads} threads, {args.repeats} repeats{load}\n")
    print("| | diffusion_policy, ms | ours, ms | theirs / ours |\n|---|---|---|---|")
    small, full = (64, 128, 128), (256, 512, 1024)
    for widths in (small, full):
        print(unet_row(widths, args.batch, args.repeats, device).text(), flush=True)
    print(resnet_row(4 * args.image_batch, args.repeats, device).text(), flush=True)
    print(windows_row(frames, args.batch, 3 * args.repeats, rng).text(), flush=True)
    for widths in (small, full):
        for bfloat16 in (False, True) if has_bfloat16(device) else (False,):
            row = in_turn(
                f"update, ResNet18 and {'/'.join(map(str, widths))}, {args.image_batch} windows"
                + (", ours with bfloat16 encoders" if bfloat16 else ""),
                their_update(frames, widths, batch, device),
                our_update(frames, widths, batch, device, bfloat16),
                args.repeats,
                device,
            )
            print(row.text(), flush=True)


if __name__ == "__main__":
    main()
