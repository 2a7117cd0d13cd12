"""Behaviour cloning: fit a diffusion policy to a dataset, resumable at any update."""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

import cosmos_engine
from cosmos_engine.data.dataset import CERTIFICATE, Dataset
from cosmos_engine.device import has_bfloat16
from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes, open_processes
from policies.checkpoint import PolicyRecord, save_record, save_weights
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, WindowBatch
from policies.interruption import deferred_interrupt
from policies.policy import PolicySpec
from policies.run_folder import claim
from policies.training_log import TrainingLog
from policies.training_state import STATE_FILE, TrainingState, learning_rate_at, update_rng
from policies.windows import Frames, choose_observations, draw_windows, load_frames, split_by_source

RUN_FILE = "train.yaml"
VALIDATION_WINDOWS = 256


@dataclass(frozen=True)
class TrainConfig:
    """Configure a training run. The defaults suit `lift` with about 50 demos and two cameras on two CPU cores."""

    policy: DiffusionPolicyConfig = field(default_factory=DiffusionPolicyConfig)
    cameras: tuple[str, ...] | None = None  # camera names; none said: all of the dataset; []: no camera
    low_dim: tuple[str, ...] | None = None  # none said: proprioception; `object` is privileged, no real robot sees it
    updates: int = 5000
    batch_size: int = 32  # windows per update, of all processes together
    noises_per_window: int = 2  # noised copies of each window; more of them spare the encoders
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    warmup_updates: int = 200
    ema_max_decay: float = 0.9999
    variants_per_demo: int | None = None  # at most so many variants of each demo; none: all; 0: originals only
    variant_share: float | None = None  # expected share of windows from variants; none: as they come
    validation_fraction: float = 0.05  # of the source demos
    encoder_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    seed: int = 0
    save_every: int = 500  # updates
    log_every: int = 50


@dataclass(frozen=True)
class _Run:
    """The identity of a run, the content of train.yaml: a folder resumes only the run that it holds."""

    config: TrainConfig = field(default_factory=TrainConfig)
    dataset_sha256: str = ""


def train(dataset_path: Path, out: Path, config: TrainConfig, *, tensorboard: bool = False) -> Path:
    """Train a policy, or continue the run that `out` holds; equal inputs give equal bytes, interrupted or not.

    `out` gets policy.safetensors and policy.yaml (the policy), training_state.safetensors (to resume), train.yaml and
    log.jsonl. The bytes are those of one device, number of threads and number of processes; started by torchrun, every
    process computes its share of each batch and the first one writes.

    Args:
        dataset_path: a dataset with at least two source demos.
        out: folder of the run; made if missing.
        config: everything else.
        tensorboard: also write TensorBoard's event files.

    Returns:
        `out`, which `load_policy` reads.

    Raises:
        InputError: on a dataset, config or folder that does not fit, and when the loss stops being finite (the last
            saved state stays).
        KeyboardInterrupt: on Ctrl-C, after the state was saved.
    """
    _check(config)
    with ExitStack() as stack:
        processes = stack.enter_context(open_processes(config.device))
        if config.batch_size % processes.count:
            raise InputError(
                f"batch_size: expected a multiple of the {processes.count} processes, got {config.batch_size}"
            )
        dataset = Dataset(dataset_path)
        observations = choose_observations(dataset, config.cameras, config.low_dim)
        run = _Run(config, dataset_fingerprint(dataset))
        frames = load_frames(dataset, observations, config.policy.image_size, config.variants_per_demo)
        split_rng = np.random.default_rng(config.seed)
        splits = split_by_source(frames.source_demo, config.validation_fraction, split_rng, str(dataset_path))
        record = describe(dataset, observations, config, run.dataset_sha256)
        state = _fresh_state(record, frames, splits[0], config, processes)
        lock = processes.first(lambda: claim(out, RUN_FILE, run))  # not before: what cannot be trained leaves no folder
        if lock is not None:
            stack.callback(lock.release)
        resumes = (out / STATE_FILE).exists()
        if resumes:
            state.load(out)
        log = processes.first(lambda: _begun(state, record, out, resumes=resumes, tensorboard=tensorboard))
        if log is not None:
            stack.enter_context(log)
        _fit(state, frames, splits, out, config, log)
    return out


def _begun(state: TrainingState, record: PolicyRecord, out: Path, *, resumes: bool, tensorboard: bool) -> TrainingLog:
    """Bring the folder to the state's update and open its log."""
    log = TrainingLog(out, state.update, tensorboard=tensorboard)
    if resumes:
        save_weights(out, state.average, state.update)  # a kill may have come between the state and the weights
    else:
        save_record(out, record)
    return log


def describe(dataset: Dataset, observations: list[str], config: TrainConfig, dataset_sha256: str) -> PolicyRecord:
    """Return the record of a policy trained on these observations of a dataset."""
    seconds = dataset.array("timestamp")[dataset.rows(0)]
    if len(seconds) < 2:
        raise InputError(f"{dataset.path}: episode 0 has one control step; its rate cannot be told")
    spec = PolicySpec(
        observation_shapes={name: [int(n) for n in dataset.array(name).shape[1:]] for name in observations},
        action_dim=int(dataset.array("action").shape[1]),
        step_hz=float((len(seconds) - 1) / (seconds[-1] - seconds[0])),
        observation_frames=config.policy.observation_frames,
        action_chunk=config.policy.action_chunk,
    )
    episodes = dataset.info  # as `cosmos-engine augment` writes it; a dataset from elsewhere may lack these keys
    return PolicyRecord(
        policy=config.policy,
        spec=spec,
        tasks=sorted({str(info["task"]) for info in episodes if "task" in info}),
        demo_seeds=sorted({int(info["demo_seed"]) for info in episodes if "demo_seed" in info}),
        dataset_sha256=dataset_sha256,
        versions={"cosmos-engine": cosmos_engine.__version__, "torch": torch.__version__},
    )


def dataset_fingerprint(dataset: Dataset) -> str:
    """Return a SHA-256 that names a dataset's content: its certificate, its episodes, their origin and all actions."""
    digest = hashlib.sha256((dataset.path / CERTIFICATE).read_bytes())
    meta = (dataset.episode_ends, dataset.source_demo, dataset.variant, dataset.accepted)
    for array in (*meta, dataset.array("action")[:]):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _fresh_state(
    record: PolicyRecord, frames: Frames, training: np.ndarray, config: TrainConfig, processes: Processes
) -> TrainingState:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        policy = DiffusionPolicy(record.policy, record.spec)
    policy.fit_normalizers({name: rows[training] for name, rows in frames.low_dim.items()}, frames.actions[training])
    return TrainingState(
        policy.to(processes.device),
        weight_decay=config.weight_decay,
        ema_max_decay=config.ema_max_decay,
        processes=processes,
    )


def _fit(
    state: TrainingState,
    frames: Frames,
    splits: tuple[np.ndarray, np.ndarray],
    out: Path,
    config: TrainConfig,
    log: TrainingLog | None,
) -> None:
    """Make the updates that are left; `log` is the first process's, which also validates and saves."""
    training, validation = splits
    processes = state.processes
    device = processes.device
    bfloat16 = config.encoder_precision == "bfloat16" or (config.encoder_precision == "auto" and has_bfloat16(device))
    losses: list[float] = []
    started = time.perf_counter()
    saved = state.update

    def save() -> None:
        nonlocal saved
        if processes.is_first:
            state.save(out)
            save_weights(out, state.average, state.update)
        saved = state.update

    with (
        deferred_interrupt() as interrupted,
        tqdm(
            total=config.updates, initial=state.update, desc="train", unit="update", disable=not processes.is_first
        ) as progress,
    ):
        while state.update < config.updates:
            rng = update_rng(config.seed, state.update + 1)
            present = draw_windows(frames.is_variant, training, config.batch_size, config.variant_share, rng)
            loss = state.policy.loss(
                _gathered(frames, present[processes.share(len(present))], config.policy, device),
                torch.Generator().manual_seed(int(rng.integers(2**62))),
                noises_per_window=config.noises_per_window,
                bfloat16_encoders=bfloat16,
                processes=processes,
            )
            learning_rate = learning_rate_at(
                state.update + 1,
                peak=config.learning_rate,
                warmup_updates=config.warmup_updates,
                updates=config.updates,
            )
            losses.append(processes.mean(loss).item())
            if not np.isfinite(losses[-1]) or not state.apply(loss, learning_rate):
                raise InputError(
                    f"{out}: the loss stopped being finite at update {state.update + 1}; the state of update {saved} "
                    "is kept; try a lower learning_rate in another folder"
                )
            progress.update()
            finished = state.update == config.updates
            if log is not None and (state.update % config.log_every == 0 or finished):
                line: dict[str, int | float] = {"update": state.update, "loss": float(np.mean(losses))}
                line |= {"learning_rate": learning_rate, "seconds": round(time.perf_counter() - started, 3)}
                if state.update % config.save_every == 0 or finished:
                    line["validation_loss"] = _validation_loss(state.average, frames, validation, config, device)
                progress.set_postfix(loss=f"{line['loss']:.4f}")
                log.write(line)
                losses.clear()
            stopping = processes.any(interrupted())
            if state.update % config.save_every == 0 or finished or stopping:
                save()
            if stopping:
                raise KeyboardInterrupt


def _gathered(frames: Frames, present: np.ndarray, config: DiffusionPolicyConfig, device: torch.device) -> WindowBatch:
    batch = frames.gather(present, config.observation_frames, config.horizon)
    return WindowBatch(
        images={name: image.to(device) for name, image in batch.images.items()},
        low_dim={name: vector.to(device) for name, vector in batch.low_dim.items()},
        actions=batch.actions.to(device),
        inside=batch.inside.to(device),
    )


@torch.no_grad()
def _validation_loss(
    policy: DiffusionPolicy, frames: Frames, validation: np.ndarray, config: TrainConfig, device: torch.device
) -> float:
    """Return the loss on the same windows and noise at every call, cropped at the centre as when acting."""
    spread = np.linspace(0, len(validation) - 1, min(VALIDATION_WINDOWS, len(validation))).round().astype(np.int64)
    batch = _gathered(frames, validation[spread], config.policy, device)
    return policy.loss(batch, torch.Generator().manual_seed(config.seed), random_crop=False).item()


def _check(config: TrainConfig) -> None:
    for key in ("updates", "batch_size", "noises_per_window", "warmup_updates", "save_every", "log_every"):
        if getattr(config, key) < 1:
            raise InputError(f"{key}: expected at least 1, got {getattr(config, key)}")
    if config.save_every % config.log_every != 0:
        raise InputError(f"save_every: expected a multiple of log_every {config.log_every}, got {config.save_every}")
