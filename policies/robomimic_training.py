"""Train robomimic's BC and BC-RNN on our datasets and recordings, with its own code, resumable at any update."""

from __future__ import annotations

import importlib.metadata
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import cosmos_engine
from cosmos_engine.data.dataset import IMAGE_SUFFIX, Dataset
from cosmos_engine.data.recording import Recording, is_recording
from cosmos_engine.device import choose_device
from cosmos_engine.errors import InputError
from policies.checkpoint import load_tensors, restore, save_tensors
from policies.interruption import deferred_interrupt
from policies.policy import PolicySpec
from policies.recorded_frames import load_recorded_frames, recording_fingerprint
from policies.robomimic_network import RobomimicNetworkConfig, check_network_config, make_algorithm
from policies.robomimic_policy import (
    ROBOMIMIC_FILE,
    RobomimicRecord,
    save_robomimic_record,
    save_robomimic_weights,
)
from policies.run_folder import claim
from policies.training import dataset_fingerprint
from policies.training_log import TrainingLog
from policies.training_state import STATE_FILE, update_rng
from policies.windows import Frames, choose_observations, draw_windows, load_frames

RUN_FILE = "train.yaml"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # torch's names for Adam's state


@dataclass(frozen=True)
class RobomimicTrainConfig:
    """Configure a training run; the numbers are robomimic's for images (600 epochs of 500 updates there)."""

    network: RobomimicNetworkConfig = field(default_factory=RobomimicNetworkConfig)
    cameras: tuple[str, ...] | None = None  # camera names; none said: all of the data; []: no camera
    low_dim: tuple[str, ...] | None = None  # none said: proprioception
    updates: int = 300_000
    batch_size: int = 16
    learning_rate: float = 1e-4
    variants_per_demo: int | None = None  # at most so many variants of each demo; none: all; 0: originals only
    variant_share: float | None = None  # expected share of sequences from variants; none: as they come
    device: str = "auto"
    seed: int = 0
    save_every: int = 1000  # updates
    log_every: int = 100


@dataclass(frozen=True)
class _Run:
    """The identity of a run, the content of train.yaml: a folder resumes only the run that it holds."""

    robomimic: RobomimicTrainConfig = field(default_factory=RobomimicTrainConfig)
    dataset_sha256: str = ""


@dataclass(frozen=True)
class _Demos:
    """What a dataset or a recording gives to train on."""

    frames: Frames
    record: RobomimicRecord


def train_robomimic(source: Path, out: Path, config: RobomimicTrainConfig, *, tensorboard: bool = False) -> Path:
    """Train a policy with robomimic, or continue the run that `out` holds, to the same bytes as uninterrupted.

    Like robomimic's own script it trains on all demos without validation, on sequences that start at every frame and
    repeat the last one beyond an episode's end. The checkpoint is safetensors and YAML, never a pickle.

    Args:
        source: a dataset (zarr) with its variants, or a recording.
        out: folder of the run; made if missing. It gets policy.safetensors, robomimic.yaml, training_state.safetensors,
            train.yaml and log.jsonl.
        config: everything else.
        tensorboard: also write TensorBoard's event files.

    Returns:
        `out`, which `load_robomimic_policy` reads.

    Raises:
        InputError: on data, config or folder that does not fit, robomimic that is not installed, and when the loss
            stops being finite (the last saved state stays).
        KeyboardInterrupt: on Ctrl-C, after the state was saved.
    """
    _check(config)
    device = choose_device(config.device)
    recording = Recording(source) if is_recording(source) else None
    dataset = Dataset(source) if recording is None else None
    fingerprint = dataset_fingerprint(dataset) if dataset else recording_fingerprint(recording)  # type: ignore[arg-type]
    with ExitStack() as stack:
        demos = _of_dataset(dataset, config) if dataset else _of_recording(recording, config)  # type: ignore[arg-type]
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            algorithm = make_algorithm(config.network, demos.record.spec, device, config.learning_rate)
        stack.callback(claim(out, RUN_FILE, _Run(config, fingerprint)).release)
        update = 0
        if (out / STATE_FILE).exists():
            update = _load_state(out, algorithm)
            save_robomimic_weights(out, algorithm, update)  # a kill may have come between the state and the weights
        else:
            save_robomimic_record(out, _with_fingerprint(demos.record, fingerprint))
        log = stack.enter_context(TrainingLog(out, update, tensorboard=tensorboard))
        _fit(algorithm, demos, update, out, config, log)
    return out


def sequences(frames: Frames, present: np.ndarray, length: int) -> dict[str, Any]:
    """Return a batch as robomimic's data loader gives it: the observations and actions from each frame on.

    Args:
        frames: of the demos.
        present: first frame of each sequence, int64 (b,).
        length: control steps; beyond an episode's end its last one is repeated.

    Returns:
        "obs": name -> (b, length, ...), images uint8 with channels last; "actions": (b, length, a); as torch tensors.
    """
    rows = np.minimum(present[:, None] + np.arange(length), frames.last[present][:, None])
    observations = {**frames.images, **frames.low_dim}
    return {
        "obs": {name: torch.from_numpy(np.take(array, rows, axis=0)) for name, array in observations.items()},
        "actions": torch.from_numpy(np.take(frames.actions, rows, axis=0)),
    }


def _fit(algorithm: Any, demos: _Demos, update: int, out: Path, config: RobomimicTrainConfig, log: TrainingLog) -> None:
    candidates = np.arange(len(demos.frames))
    losses: list[float] = []
    started, saved = time.perf_counter(), update
    with (
        deferred_interrupt() as interrupted,
        tqdm(total=config.updates, initial=update, desc="train", unit="update") as progress,
    ):
        while update < config.updates:
            rng = update_rng(config.seed, update + 1)
            present = draw_windows(demos.frames.is_variant, candidates, config.batch_size, config.variant_share, rng)
            algorithm.set_train()
            batch = algorithm.process_batch_for_training(sequences(demos.frames, present, config.network.sequence))
            batch = algorithm.postprocess_batch_for_training(batch, obs_normalization_stats=None)
            with torch.random.fork_rng():  # robomimic draws its crops from torch's global generator
                torch.manual_seed(int(rng.integers(2**62)))
                losses.append(float(algorithm.train_on_batch(batch, epoch=1)["losses"]["action_loss"]))
            if not np.isfinite(losses[-1]):
                raise InputError(
                    f"{out}: the loss stopped being finite at update {update + 1}; the state of update {saved} is "
                    "kept; try a lower learning_rate in another folder"
                )
            update += 1
            progress.update()
            finished = update == config.updates
            if update % config.log_every == 0 or finished:
                seconds = round(time.perf_counter() - started, 3)
                log.write({"update": update, "loss": float(np.mean(losses)), "seconds": seconds})
                progress.set_postfix(loss=f"{np.mean(losses):.4f}")
                losses.clear()
            if update % config.save_every == 0 or finished or interrupted():
                _save_state(out, algorithm, update)
                save_robomimic_weights(out, algorithm, update)
                saved = update
            if interrupted():
                raise KeyboardInterrupt


def _of_dataset(dataset: Dataset, config: RobomimicTrainConfig) -> _Demos:
    observations = choose_observations(dataset, config.cameras, config.low_dim)
    seconds = dataset.array("timestamp")[dataset.rows(0)]
    if len(seconds) < 2:
        raise InputError(f"{dataset.path}: episode 0 has one control step; its rate cannot be told")
    return _Demos(
        load_frames(dataset, observations, config.network.image_size, config.variants_per_demo),
        _record(
            config,
            shapes={name: [int(n) for n in dataset.array(name).shape[1:]] for name in observations},
            action_dim=int(dataset.array("action").shape[1]),
            step_hz=float((len(seconds) - 1) / (seconds[-1] - seconds[0])),
            tasks={str(info["task"]) for info in dataset.info if "task" in info},
            demo_seeds={int(info["demo_seed"]) for info in dataset.info if "demo_seed" in info},
        ),
    )


def _of_recording(recording: Recording, config: RobomimicTrainConfig) -> _Demos:
    frames = load_recorded_frames(recording, config.cameras, config.low_dim, config.network.image_size)
    first = recording.episode(int(frames.source_demo[0]))
    sizes = {name: list(first.cameras[name.removesuffix(IMAGE_SUFFIX)].rgb.shape[1:]) for name in frames.images}
    return _Demos(
        frames,
        _record(
            config,
            shapes=sizes | {name: [array.shape[1]] for name, array in frames.low_dim.items()},
            action_dim=frames.actions.shape[1],
            step_hz=first.step_hz,
            tasks={first.task},
            demo_seeds={recording.header(index).seed for index in np.unique(frames.source_demo).tolist()},
        ),
    )


def _record(
    config: RobomimicTrainConfig,
    *,
    shapes: dict[str, list[int]],
    action_dim: int,
    step_hz: float,
    tasks: set[str],
    demo_seeds: set[int],
) -> RobomimicRecord:
    if not shapes:
        raise InputError("cameras, low_dim: expected at least one observation")
    return RobomimicRecord(
        network=config.network,
        spec=PolicySpec(shapes, action_dim, step_hz, observation_frames=1, action_chunk=1),
        tasks=sorted(tasks),
        demo_seeds=sorted(demo_seeds),
        versions={
            "cosmos-engine": cosmos_engine.__version__,
            "torch": torch.__version__,
            "robomimic": _robomimic_version(),
        },
    )


def _with_fingerprint(record: RobomimicRecord, fingerprint: str) -> RobomimicRecord:
    return RobomimicRecord(**{**vars(record), "dataset_sha256": fingerprint})


def _robomimic_version() -> str:
    try:
        return importlib.metadata.version("robomimic")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError("robomimic: needs the extra `robomimic`, which is not installed") from error


def _save_state(out: Path, algorithm: Any, update: int) -> None:
    tensors = {f"policy.{name}": tensor for name, tensor in algorithm.nets.state_dict().items()}
    adam = algorithm.optimizers["policy"]
    for name, parameter in algorithm.nets.named_parameters():
        for moment in _MOMENTS:
            if parameter in adam.state:
                tensors[f"{moment}.{name}"] = adam.state[parameter][moment]
    save_tensors(out / STATE_FILE, tensors, {"update": update})


def _load_state(out: Path, algorithm: Any) -> int:
    path = out / STATE_FILE
    tensors, state = load_tensors(path)
    by_kind: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in ("policy", *_MOMENTS)}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        by_kind.setdefault(kind, {})[name] = tensor
    restore(algorithm.nets, by_kind["policy"], path, ROBOMIMIC_FILE)
    adam = algorithm.optimizers["policy"]
    for name, parameter in algorithm.nets.named_parameters():
        if all(name in by_kind[moment] for moment in _MOMENTS):
            adam.state[parameter] = {
                moment: by_kind[moment][name].to("cpu" if moment == "step" else parameter.device) for moment in _MOMENTS
            }
    return int(state["update"])


def _check(config: RobomimicTrainConfig) -> None:
    check_network_config(config.network)
    for key in ("updates", "batch_size", "save_every", "log_every"):
        if getattr(config, key) < 1:
            raise InputError(f"{key}: expected at least 1, got {getattr(config, key)}")
