"""Train the geometry reader on renders of the embedded table-top under random looks.

    python -m cosmos_engine.quality.training --clips DIR --out DIR [--render 300] [--updates 2200] [--start FILE]

`--clips` is a clip pool as `cosmos-engine posttrain` renders it; with `--render N` it is rendered first. `--out` gets
the state of the training (so that the same command goes on where it was stopped), its log and `reader.safetensors`. The
clips at the end of the pool are held out; what the reader makes of them is printed at the end.

Shape legend: B frame, H W pixel.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.errors import InputError
from cosmos_engine.quality.depth_error import si_rmse
from cosmos_engine.quality.distortion import MANIPULATED, ROBOT, SCENE, LabelledFrame, changed, distorted
from cosmos_engine.quality.geometry_reader import GeometryReader, load_network, save_reader
from cosmos_engine.quality.measure import mean
from cosmos_engine.quality.overlap import iou
from cosmos_engine.quality.reader import Reader
from cosmos_engine.quality.reader_network import ReaderNetwork
from cosmos_engine.sim.scene import instance_labels
from cosmos_engine.transfer.training.clips import CLIPS_PER_GROUP, ClipPool, ClipPoolConfig, TrainingClip, render_clips
from cosmos_engine.transfer.training.stage import Stage, StageConfig

HELD_OUT_SHARE = 0.1
CONTOUR_WEIGHT = 3.0  # of pixels at a change of role: an object of 10 px is mostly contour
OVERLAP_WEIGHT = 0.5
DEPTH_WEIGHT = 2.0
INVARIANCE = 0.85
"""Lambda of Eigen et al. 2014; they train with 0.5. Below 1 the log-depth stays anchored to metres."""


def _stage() -> StageConfig:
    return StageConfig(updates=2200, batch=16, frames=1, rate=2e-3, warmup=100, decay_share=0.5, ema=0.99)


@dataclass(frozen=True)
class ReaderTrainingConfig:
    """How the reader is trained: the stage, and the side of the square cuts of frames that an update sees."""

    stage: StageConfig = field(default_factory=_stage)
    cut_px: int = 96


def train_reader(
    pool: ClipPool, out: Path, config: ReaderTrainingConfig | None = None, start: Path | None = None
) -> Path:
    """Train a reader on all clips of the pool but the held-out ones; resumes what was stopped.

    Args:
        pool: clips to train on.
        out: folder of the run.
        config: how to train.
        start: weights of a reader to go on from; by default random ones.

    Returns:
        The weights file.

    Raises:
        InputError: the loss is not finite.
    """
    config = config or ReaderTrainingConfig()
    torch.manual_seed(config.stage.seed)
    network = (load_network(start) if start else ReaderNetwork()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    stage = Stage("training", network, config.stage, out)
    indices = training_indices(pool)

    def loss(update: int) -> Tensor:
        rng = np.random.default_rng((config.stage.seed, update))
        frames = [_drawn(pool, indices, config, rng) for _ in range(config.stage.batch)]
        rgb = torch.from_numpy(np.stack([frame.rgb for frame in frames])).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        logits, log_depth = network(rgb.contiguous(memory_format=torch.channels_last))
        role = torch.from_numpy(np.stack([frame.role for frame in frames])).long()
        truth = torch.from_numpy(np.stack([frame.log_depth for frame in frames]))
        return role_loss(logits, role) + DEPTH_WEIGHT * depth_loss(log_depth, truth)

    stage.run(loss)
    file = out / "reader.safetensors"
    rendered = {name: getattr(pool.config, name) for name in ("clips", "frames", "image_size", "seed")}
    notes = {"training": dataclasses.asdict(config), "clips": rendered}
    save_reader(file, network, notes)
    return file


def training_indices(pool: ClipPool) -> range:
    """Return the clips that updates may see: whole groups, so that no held-out episode is among them."""
    groups = len(pool) // CLIPS_PER_GROUP
    return range((groups - max(round(groups * HELD_OUT_SHARE), 1)) * CLIPS_PER_GROUP)


def held_out_indices(pool: ClipPool) -> range:
    """Return the clips that no update sees."""
    return range(training_indices(pool).stop, len(pool))


def held_out_scores(
    reader: Reader, pool: ClipPool, indices: range, *, distort: bool, seed: int = 0
) -> dict[str, float | None]:
    """Return what the reader makes of clips it was not trained on: mean overlap of robot and objects, and depth error.

    Args:
        distort: show every frame as `distortion.changed` does: in other light, soft, noisy.
    """
    rng = np.random.default_rng(seed)
    scores: dict[str, list[float | None]] = {"iou_robot": [], "iou_manipulated": [], "si_rmse": []}
    for index in indices:
        clip = pool.clip(index)
        rgb = np.stack([changed(frame, rng) for frame in clip.rgb]) if distort else clip.rgb
        readings = reader.read(rgb)
        role = np.stack([labelled(clip, frame).role for frame in range(len(clip.rgb))])
        scores["iou_robot"].append(iou(readings.mask("robot"), role == ROBOT))
        scores["iou_manipulated"].append(iou(readings.mask("manipulated"), role == MANIPULATED))
        scores["si_rmse"] += si_rmse(readings.log_depth, clip.depth_m).tolist()
    return {name: mean(values) for name, values in scores.items()}


def labelled(clip: TrainingClip, frame: int) -> LabelledFrame:
    """Return a frame of a clip with its labels."""
    instance = clip.instance[frame].astype(np.uint8)  # a pool keeps ids in a byte
    role_of_id = np.full(256, SCENE, np.uint8)
    role_of_id[list(clip.foreground)] = MANIPULATED
    role_of_id[[i for i, label in instance_labels(()).items() if label.role == "robot"]] = ROBOT
    depth = np.where(np.isfinite(clip.depth_m[frame]), clip.depth_m[frame], np.nan)
    return LabelledFrame(clip.rgb[frame], role_of_id[instance], instance, np.log(depth))


def role_loss(logits_BRHW: Tensor, role_BHW: Tensor) -> Tensor:
    """Return cross-entropy plus a share of 1 - the soft overlap (Dice) of robot and manipulated over the batch.

    Roles are not weighted by how rare they are: a reader trained so draws objects a pixel too wide, and a pixel around
    an object of 10 px is a third of it. The overlap does what such weights are for.
    """
    entropy = F.cross_entropy(logits_BRHW, role_BHW, reduction="none")
    weight = 1.0 + (CONTOUR_WEIGHT - 1.0) * _contours(role_BHW)
    overlap = logits_BRHW.new_zeros(())
    probability = logits_BRHW.softmax(1)
    for index in (ROBOT, MANIPULATED):
        truth = (role_BHW == index).float()
        shared = (probability[:, index] * truth).sum()
        overlap = overlap + 2.0 * shared / (probability[:, index].sum() + truth.sum() + 1.0)
    return (entropy * weight).sum() / weight.sum() + OVERLAP_WEIGHT * (1.0 - overlap / 2.0)


def depth_loss(log_depth_BHW: Tensor, truth_BHW: Tensor) -> Tensor:
    """Return the scale-invariant error of Eigen et al. 2014 (eq. 4), its root, plus L1 of spatial differences.

    NaN in `truth_BHW` is not counted.
    """
    known = truth_BHW.isfinite()
    difference = torch.where(known, log_depth_BHW - truth_BHW.nan_to_num(), 0.0)
    count = known.sum((1, 2)).clamp(min=1)
    squares, mean = difference.square().sum((1, 2)) / count, difference.sum((1, 2)) / count
    root = (squares - INVARIANCE * mean.square() + 1e-6).sqrt().mean()
    across = (difference.diff(dim=2).abs() * (known[..., 1:] & known[..., :-1])).mean()
    down = (difference.diff(dim=1).abs() * (known[:, 1:] & known[:, :-1])).mean()
    return root + across + down


def _contours(role_BHW: Tensor) -> Tensor:
    """Return 1 where a pixel's 3x3 neighbourhood holds another role, else 0."""
    role = role_BHW.float()[:, None]
    return (F.max_pool2d(role, 3, 1, 1) != -F.max_pool2d(-role, 3, 1, 1)).float()[:, 0]


def _drawn(pool: ClipPool, indices: range, config: ReaderTrainingConfig, rng: np.random.Generator) -> LabelledFrame:
    frame, other = (
        labelled(pool.clip(int(rng.integers(len(indices))), int(rng.integers(pool.config.frames)), 1), 0)
        for _ in range(2)
    )
    return distorted(frame, other, config.cut_px, rng)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR", help="clip pool to train on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--render", type=int, metavar="N", help="render N clips into --clips first")
    parser.add_argument("--updates", type=int, default=_stage().updates)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, metavar="FILE", help="reader.safetensors to start from")
    args = parser.parse_args()
    try:
        pool = (
            render_clips(args.clips, ClipPoolConfig(clips=args.render, seed=args.seed, workers=1))
            if args.render
            else ClipPool(args.clips)
        )
        stage = dataclasses.replace(_stage(), updates=args.updates, seed=args.seed)
        file = train_reader(pool, args.out, ReaderTrainingConfig(stage), args.start)
        print(file)
        for look in ("as rendered", "distorted"):
            scores = held_out_scores(
                GeometryReader.load(file), pool, held_out_indices(pool), distort=look == "distorted"
            )
            print(f"held-out clips, {look}: {json.dumps(scores)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
