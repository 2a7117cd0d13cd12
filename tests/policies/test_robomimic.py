"""robomimic: its own code trains on our data, and what it trained acts here as it does there."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_engine.data import CameraPasses, Episode, Recording, RecordingWriter
from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.errors import InputError
from policies import robomimic_training
from policies.checkpoint import WEIGHTS_FILE, load_tensors, sealed
from policies.commands import add_commands
from policies.loading import load_any_policy
from policies.policy import Policy
from policies.recorded_frames import load_recorded_frames
from policies.robomimic_network import BC, BC_RNN, RobomimicNetworkConfig, as_robomimic, check_network_config
from policies.robomimic_policy import ROBOMIMIC_FILE, LoadedRobomimicPolicy, load_robomimic_policy
from policies.robomimic_training import RobomimicTrainConfig, sequences, train_robomimic
from policies.rollout import EnvironmentPool, run_trials
from policies.training_log import LOG_FILE
from policies.training_state import STATE_FILE
from policies.windows import Frames

needs_robomimic = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("robomimic", "torchvision")),
    reason="needs the extra `robomimic`",
)
CPU = torch.device("cpu")
SMALL = RobomimicTrainConfig(
    network=replace(BC_RNN, image_size=16, crop_size=14, keypoints=4, sequence=4, rnn_width=12, gmm_modes=2),
    cameras=(),  # a ResNet18 takes seconds to train and to save: one test has it
    low_dim=("robot0_eef_pos", "goal"),
    updates=4,
    batch_size=4,
    learning_rate=1e-3,
    device="cpu",
    save_every=2,
    log_every=1,
)
SMALL_BC = replace(SMALL, network=replace(BC, image_size=16, crop_size=14, keypoints=4, layers=(16,)))
CONFIGS = {
    "bc": SMALL_BC,
    "bc-gmm": replace(SMALL_BC, network=replace(SMALL_BC.network, gmm_modes=2)),
    "bc-rnn": replace(SMALL, network=replace(SMALL.network, gmm_modes=0)),
    "bc-rnn-gmm": SMALL,
    "bc-rnn-gmm with images": replace(SMALL, cameras=None, updates=1, save_every=1),
}


@pytest.fixture(scope="module")
def dataset(dataset_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of three demos with one variant each."""
    return dataset_of(tmp_path_factory.mktemp("data") / "d.zarr", demos=3, variants=1)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of two demos and a failure, of 5, 7 and 6 control steps."""
    folder = tmp_path_factory.mktemp("recording") / "demos"
    with RecordingWriter(folder, {"env_name": "reach", "type": 2, "env_kwargs": {}}) as writer:
        for seed, (length, success) in enumerate([(5, True), (7, True), (6, False)]):
            writer.append(_episode(seed, length, success=success))
    return folder


def _episode(seed: int, length: int, *, success: bool) -> Episode:
    rng = np.random.default_rng(seed)
    passes = CameraPasses(
        rgb=rng.integers(0, 256, (length, 20, 20, 3), dtype=np.uint8),
        depth_m=np.ones((length, 20, 20), np.float32),
        instance=np.ones((length, 20, 20), np.uint16),
        intrinsics_px=np.eye(3),
        world_from_camera=np.broadcast_to(np.eye(4), (length, 4, 4)).copy(),
    )
    return Episode(
        actions=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        states=rng.random((length, 3)),
        rewards=np.zeros(length, np.float32),
        dones=np.arange(length) == length - 1,
        observations={"robot0_eef_pos": rng.random((length, 3), dtype=np.float32)},
        cameras={"agentview": passes},
        labels={1: InstanceLabel("point", "point", "robot")},
        success=success,
        seed=seed,
        step_hz=20.0,
        episode_id=str(seed),
        source="test",
        task="reach",
        instruction="",
    )


def _window(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "robot0_eef_pos": rng.random((rows, 1, 2), dtype=np.float32),
        "goal": rng.random((rows, 1, 2), dtype=np.float32),
    }


@needs_robomimic
@pytest.mark.parametrize("name", CONFIGS)
def test_trained_policy_acts_in_the_benchmark_environment(
    name: str, dataset: Path, tmp_path: Path, point_mass: Any
) -> None:
    train_robomimic(dataset, tmp_path, CONFIGS[name])
    loaded = load_any_policy(tmp_path, CPU)
    assert isinstance(loaded, LoadedRobomimicPolicy)
    assert isinstance(loaded.policy, Policy)
    assert loaded.seen_seeds == {0, 1, 2}
    with EnvironmentPool(point_mass, 2) as pool:
        trials = {trial.seed: trial for trial in run_trials(loaded.policy, pool, [7, 8, 9])}
    with EnvironmentPool(point_mass, 3) as pool:
        again = {trial.seed: trial for trial in run_trials(loaded.policy, pool, [9, 8, 7])}
    assert {seed: (trial.outcome, trial.steps) for seed, trial in trials.items()} == {
        seed: (trial.outcome, trial.steps) for seed, trial in again.items()
    }
    assert all(trial.outcome in {"success", "failure"} for trial in trials.values())


@needs_robomimic
@pytest.mark.parametrize("name", ["bc", "bc-rnn"])
def test_actions_are_those_of_robomimics_own_rollouts(name: str, dataset: Path, tmp_path: Path) -> None:
    """Control step by control step over two restarts of the RNN, beside `Algo.get_action`."""
    from policies.robomimic_network import make_algorithm
    from policies.robomimic_policy import RobomimicPolicy

    train_robomimic(dataset, tmp_path, CONFIGS[name])
    record = load_robomimic_policy(tmp_path, CPU).record
    tensors, _ = load_tensors(tmp_path / WEIGHTS_FILE)
    theirs, mine = (make_algorithm(record.network, record.spec, CPU) for _ in range(2))
    for algorithm in (theirs, mine):
        algorithm.nets.load_state_dict(tensors)
        algorithm.set_eval()
    theirs.reset()
    policy = RobomimicPolicy(mine, record.network, record.spec)
    rng, other = np.random.default_rng(0), np.random.default_rng(1)
    for step in range(9):
        window = _window(1, seed=step)
        present = {key: value[:, 0] for key, value in window.items()}
        expected = theirs.get_action(as_robomimic(present, record.spec, 16, CPU)).detach().numpy()
        # Another trial comes and goes in the other row, which must not matter.
        rows = [rng, other] if step % 3 else [rng]
        both = {key: np.concatenate([value] * len(rows)) for key, value in window.items()}
        np.testing.assert_allclose(policy.act(both, rows)[0, 0], expected[0], rtol=1e-4, atol=1e-5)


@needs_robomimic
def test_mixture_is_drawn_by_the_trials_own_generator(dataset: Path, tmp_path: Path) -> None:
    train_robomimic(dataset, tmp_path, SMALL)
    policy = load_robomimic_policy(tmp_path, CPU).policy
    window = {name: np.concatenate([value, value]) for name, value in _window(1).items()}
    first = policy.act(window, [np.random.default_rng(3), np.random.default_rng(4)])
    swapped = policy.act(window, [np.random.default_rng(4), np.random.default_rng(3)])
    np.testing.assert_allclose(first, swapped[::-1], atol=1e-5)
    drawn = policy.act(
        {name: np.concatenate([value] * 40) for name, value in _window(1).items()},
        [np.random.default_rng(seed) for seed in range(40)],
    )
    assert len(np.unique(drawn[:, 0, 0].round(2))) == 2  # two modes, hardly any noise around them


@needs_robomimic
@pytest.mark.parametrize("stopped_after", [1, 2])
def test_resumed_run_gives_the_same_bytes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train_robomimic(dataset, tmp_path / "whole", SMALL)
    drawn = robomimic_training.draw_windows
    calls = 0

    def interrupted(*arguments: Any) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == stopped_after:
            os.kill(os.getpid(), signal.SIGINT)
        return drawn(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(robomimic_training, "draw_windows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_robomimic(dataset, tmp_path / "parts", SMALL)
    assert load_tensors(tmp_path / "parts" / STATE_FILE)[1] == {"update": stopped_after}
    train_robomimic(dataset, tmp_path / "parts", SMALL)
    torch.set_num_threads(before)
    for name in (WEIGHTS_FILE, STATE_FILE, ROBOMIMIC_FILE):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    logged = [json.loads(line)["update"] for line in (tmp_path / "parts" / LOG_FILE).read_text().splitlines()]
    assert logged == [1, 2, 3, 4]


@needs_robomimic
def test_training_learns_and_takes_recordings(recording: Path, tmp_path: Path) -> None:
    config = replace(SMALL, low_dim=("robot0_eef_pos",), updates=60, save_every=60, learning_rate=3e-3)
    train_robomimic(recording, tmp_path, config)
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    record = load_robomimic_policy(tmp_path, CPU).record
    assert record.demo_seeds == [0, 1]
    assert record.spec.observation_shapes == {"robot0_eef_pos": [3]}
    assert record.tasks == ["reach"]


@needs_robomimic
def test_batches_of_a_recording_are_those_of_robomimics_own_loader(recording: Path) -> None:
    from robomimic.config import config_factory
    from robomimic.utils.dataset import SequenceDataset
    from robomimic.utils.obs_utils import initialize_obs_utils_with_config

    settings = config_factory("bc")
    settings.unlock()
    settings.observation.modalities.obs.low_dim = ["robot0_eef_pos"]
    settings.observation.modalities.obs.rgb = ["agentview_image"]
    initialize_obs_utils_with_config(settings)
    theirs = SequenceDataset(
        str(recording / "demos.hdf5"), ["robot0_eef_pos", "agentview_image"], ["actions"], seq_length=4,
        hdf5_cache_mode=None, hdf5_use_swmr=False, load_next_obs=False,
    )  # fmt: skip
    frames = load_recorded_frames(Recording(recording), None, ("robot0_eef_pos",), 20)
    assert len(frames) == 12
    ours = sequences(frames, np.arange(12), 4)
    for index in range(12):  # theirs goes on with the failed episode
        item = theirs[index]
        np.testing.assert_array_equal(ours["actions"][index], item["actions"])
        for name, array in ours["obs"].items():
            np.testing.assert_array_equal(array[index], item["obs"][name])


def test_sequences_repeat_the_last_control_step_of_their_episode() -> None:
    frames = Frames(
        images={},
        low_dim={"x": np.arange(10, dtype=np.float32)[:, None]},
        actions=np.arange(10, dtype=np.float32)[:, None],
        first=np.repeat([0, 4], [4, 6]),
        last=np.repeat([3, 9], [4, 6]),
        source_demo=np.repeat([0, 1], [4, 6]),
        is_variant=np.zeros(10, bool),
    )
    batch = sequences(frames, np.array([0, 2, 8]), 3)
    assert batch["actions"][:, :, 0].tolist() == [[0, 1, 2], [2, 3, 3], [8, 9, 9]]
    assert batch["obs"]["x"][:, :, 0].tolist() == [[0, 1, 2], [2, 3, 3], [8, 9, 9]]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (replace(BC_RNN, crop_size=84), "network.crop_size: expected 1 to below image_size 84, got 84"),
        (replace(BC, sequence=10), "network.sequence: expected 1 for algorithm bc"),
        (replace(BC_RNN, gmm_modes=-1), "network.gmm_modes: expected 0 or more, got -1"),
        (replace(BC_RNN, layers=(0,)), "network.layers: expected positive widths"),
    ],
)
def test_sizes_that_do_not_fit_are_named(network: RobomimicNetworkConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_network_config(network)


@needs_robomimic
def test_damaged_or_foreign_checkpoints_are_one_line(dataset: Path, tmp_path: Path) -> None:
    train_robomimic(dataset, tmp_path, SMALL_BC)
    record, weights = (tmp_path / name for name in (ROBOMIMIC_FILE, WEIGHTS_FILE))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="truncated"):
        load_any_policy(tmp_path, CPU)
    weights.write_bytes(whole)
    _, _, text = record.read_text().partition("\n")
    record.write_text(text)
    with pytest.raises(InputError, match="was changed or damaged"):
        load_any_policy(tmp_path, CPU)
    record.write_bytes(sealed(text.replace("rnn_layers: 2", "rnn_layers: 2\n  pickle: model.pth")))
    with pytest.raises(InputError, match="pickle"):
        load_any_policy(tmp_path, CPU)
    record.write_bytes(sealed(text.replace("layers:\n  - 16", "layers:\n  - 24")))
    with pytest.raises(InputError, match=r"does not fit robomimic.yaml: policy\..* has shape"):
        load_any_policy(tmp_path, CPU)
    record.write_text(text.replace("format: 1", "format: 2"))
    with pytest.raises(InputError, match="policy format 2, this version reads format 1"):
        load_any_policy(tmp_path, CPU)


def test_robomimic_that_is_not_installed_is_one_line(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ImportError("No module named 'torchvision'")

    monkeypatch.setattr("policies.robomimic_network.import_torchvision", missing)
    monkeypatch.setattr(robomimic_training, "_robomimic_version", lambda: "0.3.0")
    with pytest.raises(InputError, match="robomimic: needs the extra `robomimic`"):
        train_robomimic(dataset, tmp_path / "run", SMALL)
    assert not (tmp_path / "run").exists()


def test_command_line_gives_each_algorithm_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SimpleNamespace(config=None)

    def note(_source: Path, out: Path, config: RobomimicTrainConfig, *, tensorboard: bool) -> Path:
        asked.config = config
        return out

    monkeypatch.setattr(robomimic_training, "train_robomimic", note)
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    for algorithm, network in (("robomimic-bc", BC), ("robomimic-bc-rnn", BC_RNN)):
        args = parser.parse_args(["train", "d.zarr", "batch_size=3", "--algorithm", algorithm, "--out", "run"])
        assert args.run(args) == 0
        assert asked.config == RobomimicTrainConfig(network=network, batch_size=3)
