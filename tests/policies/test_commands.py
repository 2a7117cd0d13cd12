"""The command line: what a user types, and one line for what a user mistypes."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.config import config_folder, load_config
from cosmos_engine.errors import InputError
from cosmos_engine.sim.shifts import SHIFTS
from cosmos_engine.sim.strengths import ShiftStrengths
from policies.benchmark import BenchmarkConfig, choose_shifts
from policies.checkpoint import load_record, save_record
from policies.commands import _TabletopArena, add_commands
from policies.diffusion import check_policy_config
from policies.training import TrainConfig

TINY = [
    "policy.image_size=16",
    "policy.crop_size=14",
    "policy.encoder.widths=[8,8]",
    "policy.unet_widths=[8,16]",
    "low_dim=[robot0_eef_pos]",
    "updates=2",
    "batch_size=4",
    "log_every=2",
    "save_every=2",
    "device=cpu",
]


def _run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in words])
    return int(args.run(args))


@pytest.fixture(scope="module")
def run(dataset_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a policy trained by the command line."""
    folder = tmp_path_factory.mktemp("commands")
    dataset = dataset_of(folder / "d.zarr", demos=2)
    assert _run("train", dataset, *TINY, "--out", folder / "runs" / "bc") == 0
    return folder / "runs" / "bc"


def test_train_says_where_the_policy_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("train", run.parent.parent / "d.zarr", *TINY, "--out", run) == 0
    assert f"policy: {run}" in capsys.readouterr().out


def test_benchmark_of_a_policy_for_another_robot_names_what_differs(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="policy bc: expects 'robot0_eef_pos' of shape"):
        _run("benchmark", run, "--task", "lift", "--trials", "1", "--out", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "lif"], "task 'lif'"),
        (["--task", "lift", "--shifts", "tabletexture"], "shift 'tabletexture': unknown; did you mean 'table_texture'"),
        (["--task", "lift", "--config", "defalt"], "config 'benchmark/defalt'"),
        (["--task", "lift", "--strengths", "defalt"], "config 'shifts/defalt'.*did you mean 'shifts/default'"),
        (["--task", "lift", "--device", "tpu"], "device: expected auto, cpu or cuda"),
        (
            ["--task", "lift", "--environment", "robosuite", "--shifts", "vanilla,table_texture"],
            "shift 'table_texture': not available in robosuite.*available: vanilla, light_intensity",
        ),
        (
            ["--task", "lift", "--environment", "robosuite", "--shifts", "light_colour"],
            "shift 'light_colour': unknown; did you mean 'light_color'",
        ),
        (["--task", "lifts", "--environment", "robosuite"], "task 'lifts': unknown; did you mean 'lift'"),
    ],
)
def test_mistyped_benchmark_is_one_line(run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        _run("benchmark", run, "--out", tmp_path, *arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "lift"], "rollout: expected --out FOLDER, --window, or both"),
        (
            ["--task", "lift", "--out", "v", "--shift", "tabletexture"],
            "shift 'tabletexture': unknown; did you mean 'tab",
        ),
        (["--task", "lift", "--out", "v", "--image-size", "0"], "--image-size: expected at least 1 pixel, got 0"),
        (["--task", "lift", "--out", "v", "--episodes", "0"], "rollout: expected at least 1 episode"),
        (["--task", "lif", "--out", "v"], "task 'lif'"),
        (["--task", "lift", "--out", "v", "--camera", "agentvew"], "camera 'agentvew': no such camera; did you mean"),
        (["--task", "lift", "--out", "v"], "policy bc: expects 'robot0_eef_pos' of shape"),
    ],
)
def test_mistyped_rollout_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        _run("rollout", run, *arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "cpuu"], "config 'dppo/cpuu'.*did you mean 'dppo/cpu'"),
        (["epoch=3", "--config", "cpu"], "unknown key 'epoch'; did you mean 'epochs'"),
        (["--config", "cpu", "--workers", "-1"], "--workers: expected 0 or more, got -1"),
        (["--config", "state"], "denoise_steps: DDPM takes all 100 training denoise steps of the policy, got 20"),
        (["--config", "image"], "policy bc: expects 'robot0_eef_pos' of shape"),
    ],
)
def test_mistyped_finetuning_is_one_line(run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        _run("finetune", run, *arguments, "--task", "lift", "--out", tmp_path / "ft")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ft").exists()


def test_mistyped_strength_names_the_nearest(run: Path, tmp_path: Path) -> None:
    message = r"unknown key 'shifts.camera_pose.turn'; did you mean 'shifts.camera_pose.turn_deg'"
    with pytest.raises(InputError, match=message):
        _run("benchmark", run, "shifts.camera_pose.turn=[1,2]", "--task", "lift", "--out", tmp_path)


def test_strength_that_training_has_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = ["shifts.light_intensity.dim_level=[0.6,0.7]", "--shifts", "light_intensity"]
    with pytest.raises(InputError, match="policy bc: expects"):
        _run("benchmark", run, *weak, "--task", "lift", "--trials", "1", "--out", tmp_path)
    assert "note: shifts.light_intensity.dim_level [0.6, 0.7] overlaps" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["benchmark", "--trials", "1"], ["rollout"]])
def test_task_that_a_policy_did_not_learn_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    record = load_record(run)
    other = shutil.copytree(run, tmp_path / "bc")
    save_record(other, dataclasses.replace(record, tasks=["stack", "apple_in_bowl"]))
    for task, notes in (("lift", 1), ("stack", 0)):
        with pytest.raises(InputError, match="policy bc: expects"):
            _run(command[0], other, "--task", task, *command[1:], "--out", tmp_path / "out")
        assert capsys.readouterr().err.count("bc was trained on stack, apple_in_bowl") == notes


def test_arena_knows_every_shift_and_no_shift_is_called_all() -> None:
    arena = _TabletopArena("lift", ("agentview",), 32, ShiftStrengths())
    assert arena.shifts == tuple(SHIFTS)
    assert "all" not in arena.shifts
    assert choose_shifts("all", arena.shifts) == list(SHIFTS)
    environment = arena.make()
    starts = []
    for shift in arena.shifts:
        arena.prepare(environment, shift, 5)
        starts.append(environment.reset(5))
    environment.close()
    for start in starts[1:]:
        for name, value in start.items():
            assert np.array_equal(value, starts[0][name]) == (not name.endswith("_image")), name


def test_mistyped_training_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown key 'update'; did you mean 'updates'"):
        _run("train", tmp_path, "update=3", "--out", tmp_path / "run")
    with pytest.raises(InputError, match="updates: expected at least 1, got 0"):
        _run("train", tmp_path, "updates=0", "--out", tmp_path / "run")


@pytest.mark.parametrize("file", sorted(config_folder().glob("train/*.yaml")), ids=lambda file: file.stem)
def test_shipped_training_configs_fit(file: Path) -> None:
    config = load_config(TrainConfig, file)
    check_policy_config(config.policy)
    assert config.save_every % config.log_every == 0


@pytest.mark.parametrize("file", sorted(config_folder().glob("benchmark/*.yaml")), ids=lambda file: file.stem)
def test_shipped_benchmark_configs_fit(file: Path) -> None:
    assert load_config(BenchmarkConfig, file).trials >= 1
