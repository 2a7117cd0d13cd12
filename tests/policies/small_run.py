"""A small training, as a function and as a process of torchrun: `python -m tests.policies.small_run DATASET OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

from policies.diffusion import DiffusionPolicyConfig
from policies.encoders import EncoderConfig
from policies.training import TrainConfig, train

SMALL = TrainConfig(
    policy=DiffusionPolicyConfig(
        image_size=16,
        crop_size=14,
        random_shift=1,
        encoder=EncoderConfig(widths=(8, 8), keypoints=4),
        unet_widths=(8, 16),
    ),
    low_dim=("robot0_eef_pos",),
    updates=4,
    batch_size=8,
    warmup_updates=2,
    learning_rate=1e-3,
    encoder_precision="float32",
    save_every=2,
    log_every=1,
    device="cpu",
)

if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), SMALL)
