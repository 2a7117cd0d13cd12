"""Training: learns, resumes to the same bytes, stops safely."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_engine.errors import InputError
from policies import training
from policies.checkpoint import load_policy, load_tensors
from policies.diffusion import DiffusionPolicyConfig
from policies.encoders import EncoderConfig
from policies.training import TrainConfig, train
from policies.training_log import LOG_FILE
from policies.training_state import STATE_FILE, TrainingState, learning_rate_at

CONFIG = TrainConfig(
    policy=DiffusionPolicyConfig(
        image_size=16, crop_size=14, encoder=EncoderConfig(widths=(8, 8), keypoints=4), unet_widths=(8, 16)
    ),
    low_dim=("robot0_eef_pos",),
    updates=8,
    batch_size=8,
    warmup_updates=2,
    learning_rate=1e-3,
    save_every=4,
    log_every=2,
    device="cpu",
)
COMPARED = ("policy.safetensors", "policy.yaml", "training_state.safetensors", "train.yaml")


@pytest.fixture(scope="module")
def dataset(dataset_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of four demos with one variant each."""
    return dataset_of(tmp_path_factory.mktemp("data") / "d.zarr", demos=4, variants=1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: the promise of equal bytes is for equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _interrupt_after(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    apply = TrainingState.apply

    def interrupted(state: TrainingState, loss: torch.Tensor, learning_rate: float) -> bool:
        applied = apply(state, loss, learning_rate)
        if state.update == update:
            os.kill(os.getpid(), signal.SIGINT)
        return applied

    monkeypatch.setattr(TrainingState, "apply", interrupted)


@pytest.mark.parametrize("stopped_after", [3, 4])
def test_resumed_run_gives_the_same_bytes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int, one_thread: None
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(dataset, whole, CONFIG)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, stopped_after)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, parts, CONFIG)
    assert load_tensors(parts / STATE_FILE)[1] == {"update": stopped_after}
    (parts / f".{STATE_FILE}.tmp-0123abcd").touch()  # as of a kill while it was written
    train(dataset, parts, CONFIG)
    assert not list(parts.glob(".*"))
    for name in COMPARED:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    logged = [json.loads(line)["update"] for line in (parts / LOG_FILE).read_text().splitlines()]
    assert logged == [2, 4, 6, 8]


def test_killed_between_saves_drops_the_log_of_what_was_lost(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    def die(*_arguments: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(training, "_validation_loss", lambda *_: 0.0)
        patch.setattr(training, "learning_rate_at", lambda update, **_: die() if update == 8 else 1e-3)
        with pytest.raises(RuntimeError):
            train(dataset, tmp_path, CONFIG)
    train(dataset, tmp_path, CONFIG)
    logged = [json.loads(line)["update"] for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert logged == [2, 4, 6, 8]


def test_finished_run_is_left_as_it_is(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, CONFIG)
    before = {name: (tmp_path / name).read_bytes() for name in (*COMPARED, LOG_FILE)}
    train(dataset, tmp_path, CONFIG)
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_loss_falls_and_the_policy_acts(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, replace(CONFIG, updates=60, save_every=20, log_every=20))
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    loaded = load_policy(tmp_path, torch.device("cpu"))
    assert loaded.record.demo_seeds == [0, 1, 2, 3]
    assert loaded.record.spec.observation_shapes == {"agentview_image": [16, 16, 3], "robot0_eef_pos": [2]}
    observations = {
        "agentview_image": np.zeros((1, 2, 16, 16, 3), np.uint8),
        "robot0_eef_pos": np.zeros((1, 2, 2), np.float32),
    }
    assert loaded.policy.act(observations, [np.random.default_rng(0)]).shape == (1, 8, 2)


def test_diverging_run_keeps_the_last_good_state(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = TrainingState.apply

    def poisoned(state: TrainingState, loss: torch.Tensor, learning_rate: float) -> bool:
        return apply(state, loss * (float("inf") if state.update == 5 else 1.0), learning_rate)

    monkeypatch.setattr(TrainingState, "apply", poisoned)
    with pytest.raises(InputError, match="stopped being finite at update 6; the state of update 4 is kept"):
        train(dataset, tmp_path, CONFIG)
    tensors, state = load_tensors(tmp_path / STATE_FILE)
    assert state == {"update": 4}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_folder_of_another_run_names_the_key_that_differs(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, CONFIG)
    with pytest.raises(InputError, match="holds another run: batch_size is 8 there and 9 here; choose another --out"):
        train(dataset, tmp_path, replace(CONFIG, batch_size=9))
    other = replace(CONFIG.policy, denoise_steps=5)
    with pytest.raises(InputError, match=r"policy\.denoise_steps is 8 there and 5 here"):
        train(dataset, tmp_path, replace(CONFIG, policy=other))


def test_folder_of_another_dataset_is_refused(dataset: Path, dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    train(dataset, tmp_path / "run", CONFIG)
    with pytest.raises(InputError, match="holds another run: dataset_sha256 is"):
        train(dataset_of(tmp_path / "other.zarr", demos=3), tmp_path / "run", CONFIG)


def test_one_source_demo_is_refused_and_leaves_no_folder(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one.zarr: expected at least 2 source demos, .* got 1"):
        train(dataset_of(tmp_path / "one.zarr", demos=1, variants=3), tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


def test_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.zarr"):
        train(tmp_path / "nothing.zarr", tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [learning_rate_at(update, peak=1.0, warmup_updates=10, updates=110) for update in range(1, 111)]
    assert rates[4] == 0.5
    assert rates[9] == 1.0
    assert rates[59] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.0)


def test_average_acts_and_not_the_raw_weights(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, CONFIG)
    saved, _ = load_tensors(tmp_path / "policy.safetensors")
    state, _ = load_tensors(tmp_path / STATE_FILE)
    assert all(torch.equal(tensor, state[f"average.{name}"]) for name, tensor in saved.items())
    assert any(not torch.equal(tensor, state[f"policy.{name}"]) for name, tensor in saved.items())


def test_tensorboard_has_the_figures_of_the_log_once_each_after_a_resume(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, tmp_path, CONFIG, tensorboard=True)
    train(dataset, tmp_path, CONFIG, tensorboard=True)
    curves = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(event.step, pytest.approx(event.value)) for event in curves.Scalars("train/loss")]
    entries = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [(entry["update"], entry["loss"]) for entry in entries] == shown


def test_tensorboard_that_is_not_installed_is_one_line(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="--tensorboard: needs the extra `tensorboard`"):
        train(dataset, tmp_path, CONFIG, tensorboard=True)


def test_without_variants_it_trains_as_on_a_dataset_that_has_none(
    dataset_of: Callable[..., Path], dataset: Path, tmp_path: Path, one_thread: None
) -> None:
    originals = dataset_of(tmp_path / "originals.zarr", demos=4)
    train(originals, tmp_path / "alone", CONFIG)
    train(dataset, tmp_path / "left_out", replace(CONFIG, variants_per_demo=0))
    train(dataset, tmp_path / "taken", CONFIG)
    alone, left_out, taken = (
        load_tensors(tmp_path / run / "policy.safetensors")[0] for run in ("alone", "left_out", "taken")
    )
    assert all(torch.equal(alone[name], left_out[name]) for name in alone)
    assert any(not torch.equal(alone[name], taken[name]) for name in alone)
