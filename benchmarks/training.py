"""Time the policy's training and acting on synthetic windows: `python benchmarks/training.py --threads 2`.

Prints one line per measure: windows gathered per second, milliseconds per update and its parts, milliseconds per
action chunk. Run it on an idle machine; budgets stand in docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from cosmos_engine.config import load_config
from cosmos_engine.device import choose_device, has_bfloat16
from policies.diffusion import DiffusionPolicy, WindowBatch
from policies.policy import PolicySpec
from policies.training import TrainConfig
from policies.training_state import TrainingState
from policies.windows import Frames

CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")
LOW_DIM = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
CAMERA_PIXELS = 128
ACTION_DIM = 7


def synthetic_frames(count: int, image_size: int, rng: np.random.Generator) -> Frames:
    """Return `count` frames of noise in episodes of 50."""
    frames = np.arange(count)
    first = frames - frames % 50
    return Frames(
        images={name: rng.integers(0, 256, (count, image_size, image_size, 3), dtype=np.uint8) for name in CAMERAS},
        low_dim={name: rng.random((count, width), dtype=np.float32) for name, width in LOW_DIM.items()},
        actions=rng.uniform(-1, 1, (count, ACTION_DIM)).astype(np.float32),
        first=first,
        last=np.minimum(first + 49, count - 1),
        source_demo=first // 50,
        is_variant=np.zeros(count, bool),
    )


def seconds_per_call(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of `repeats` calls after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the training config")
    parser.add_argument("--config", default="train/default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = load_config(TrainConfig, args.config, args.overrides)
    sizes = config.policy
    device = choose_device(config.device)
    rng = np.random.default_rng(0)
    frames = synthetic_frames(args.frames, sizes.image_size, rng)
    shapes = {name: [CAMERA_PIXELS, CAMERA_PIXELS, 3] for name in CAMERAS} | {
        name: [width] for name, width in LOW_DIM.items()
    }
    spec = PolicySpec(shapes, ACTION_DIM, 20.0, sizes.observation_frames, sizes.action_chunk)
    policy = DiffusionPolicy(sizes, spec)
    policy.fit_normalizers(frames.low_dim, frames.actions)
    state = TrainingState(policy.to(device), weight_decay=config.weight_decay, ema_max_decay=config.ema_max_decay)

    def gather(count: int = config.batch_size) -> WindowBatch:
        return frames.gather(rng.integers(0, len(frames), count), sizes.observation_frames, sizes.horizon)

    batch = gather()
    batch = WindowBatch(
        images={name: image.to(device) for name, image in batch.images.items()},
        low_dim={name: vector.to(device) for name, vector in batch.low_dim.items()},
        actions=batch.actions.to(device),
        inside=batch.inside.to(device),
    )

    def loss(bfloat16: bool) -> torch.Tensor:
        return policy.loss(
            batch,
            torch.Generator().manual_seed(0),
            noises_per_window=config.noises_per_window,
            bfloat16_encoders=bfloat16,
        )

    def act(rows: int) -> np.ndarray:
        observations = {
            name: np.zeros((rows, sizes.observation_frames, *shape), np.uint8 if len(shape) == 3 else np.float32)
            for name, shape in shapes.items()
        }
        return policy.act(observations, [np.random.default_rng(row) for row in range(rows)])

    weights = sum(parameter.numel() for parameter in policy.parameters())
    print(
        f"{weights / 1e6:.1f} M weights, batch {config.batch_size} x {config.noises_per_window} noises, {device}, "
        f"{args.threads} threads"
    )
    print(
        f"gather      {1024 / seconds_per_call(lambda: gather(1024), device, args.repeats):10.0f} windows/s "
        f"({len(CAMERAS)} cameras, {sizes.observation_frames} frames of {sizes.image_size})"
    )
    for bfloat16 in (False, True) if has_bfloat16(device) else (False,):
        name = "bfloat16" if bfloat16 else "float32"
        with torch.no_grad():
            forward = seconds_per_call(lambda bfloat16=bfloat16: loss(bfloat16), device, args.repeats)  # type: ignore[misc]
        update = seconds_per_call(lambda bfloat16=bfloat16: state.apply(loss(bfloat16), 1e-4), device, args.repeats)  # type: ignore[misc]
        print(f"update      {1e3 * update:10.1f} ms with {name} encoders (forward {1e3 * forward:.1f} ms)")
    for rows in (1, 8):
        print(
            f"act         {1e3 * seconds_per_call(lambda rows=rows: act(rows), device, args.repeats):10.1f} ms "  # type: ignore[misc]
            f"per action chunk of {rows} environments"
        )


if __name__ == "__main__":
    main()
