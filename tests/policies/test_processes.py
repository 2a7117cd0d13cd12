"""Several processes on one machine without a GPU: gloo in place of NCCL, the same code else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import get_context

from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes, open_processes
from policies.checkpoint import load_tensors
from policies.diffusion import DiffusionPolicy, WindowBatch
from policies.policy import PolicySpec
from policies.training import train
from policies.training_log import LOG_FILE
from policies.training_state import STATE_FILE
from tests.policies.small_run import SMALL

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = PolicySpec({"a_image": [16, 16, 3], "robot0_eef_pos": [2]}, action_dim=2, step_hz=20.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def place(rank: int, port: int) -> dict[str, str]:
    """Return what torchrun tells a process."""
    where = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    return where | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}


def windows(rows: slice) -> WindowBatch:
    """Return some of eight windows that hold more or less padding."""
    generator = torch.Generator().manual_seed(0)
    return WindowBatch(
        images={"a_image": torch.randint(256, (8, 2, 16, 16, 3), dtype=torch.uint8, generator=generator)[rows]},
        low_dim={"robot0_eef_pos": torch.rand(8, 2, 2, generator=generator)[rows]},
        actions=torch.rand(8, 16, 2, generator=generator)[rows],
        inside=(torch.arange(16) < torch.arange(9, 17)[:, None])[rows],
    )


def loss_and_gradient(processes: Processes) -> tuple[float, torch.Tensor]:
    """Return the loss and the gradient of the whole batch, of which this process computes its share."""
    torch.manual_seed(0)
    policy = DiffusionPolicy(SMALL.policy, SPEC)
    batch = windows(processes.share(8))
    loss = policy.loss(batch, torch.Generator().manual_seed(1), noises_per_window=3, processes=processes)
    loss.backward()
    processes.average_gradients(policy.parameters())
    gradient = torch.cat([parameter.grad.flatten() for parameter in policy.parameters() if parameter.grad is not None])
    return processes.mean(loss).item(), gradient


def _answer(rank: int, port: int, answers: object) -> None:
    torch.set_num_threads(1)
    os.environ |= place(rank, port)
    with open_processes("cpu") as processes:
        loss, gradient = loss_and_gradient(processes)
        answers.put((loss, gradient.numpy(), processes.any(rank == 1), processes.any(False)))  # type: ignore[attr-defined]


def test_two_processes_have_the_loss_and_the_gradient_of_the_union_of_their_shares() -> None:
    context, port = get_context("spawn"), free_port()
    answers = context.Queue()
    both = [context.Process(target=_answer, args=(rank, port, answers)) for rank in range(2)]
    for process in both:
        process.start()
    expected_loss, expected = loss_and_gradient(Processes())
    given = [answers.get(timeout=240) for _ in both]
    for process in both:
        process.join(timeout=60)
        assert process.exitcode == 0
    for loss, gradient, any_holds, none_holds in given:
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        torch.testing.assert_close(torch.from_numpy(gradient), expected, rtol=1e-4, atol=1e-6)
        assert any_holds
        assert not none_holds


def test_two_processes_train_as_one_and_either_goes_on_with_the_run(
    dataset_of: Callable[..., Path], tmp_path: Path
) -> None:
    dataset, port = dataset_of(tmp_path / "d.zarr", demos=3), free_port()
    command = [sys.executable, "-m", "tests.policies.small_run", str(dataset), str(tmp_path / "two")]
    both = [
        subprocess.Popen(command, env=os.environ | place(rank, port), cwd=REPOSITORY, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    train(dataset, tmp_path / "one", SMALL)
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
    lines = {name: (tmp_path / name / LOG_FILE).read_text().splitlines() for name in ("one", "two")}
    entries = {name: [json.loads(line) for line in of_run] for name, of_run in lines.items()}
    assert [entry["update"] for entry in entries["two"]] == [1, 2, 3, 4]  # one process writes
    for figure in ("loss", "validation_loss"):  # the latter of the averaged weights
        one, two = ([entry[figure] for entry in entries[name] if figure in entry] for name in ("one", "two"))
        assert two == pytest.approx(one, rel=1e-4)
        assert len(two) >= 2
    assert (tmp_path / "two" / "train.yaml").read_bytes() == (tmp_path / "one" / "train.yaml").read_bytes()
    assert load_tensors(tmp_path / "two" / STATE_FILE)[1] == {"update": 4}
    finished = (tmp_path / "two" / LOG_FILE).read_bytes()
    train(dataset, tmp_path / "two", SMALL)  # alone: the folder is this run's, and finished
    assert (tmp_path / "two" / LOG_FILE).read_bytes() == finished


def test_batch_that_processes_cannot_share_is_one_line(
    dataset_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policies.training.open_processes", _ThreeProcesses)
    with pytest.raises(InputError, match="batch_size: expected a multiple of the 3 processes, got 8"):
        train(tmp_path / "unread.zarr", tmp_path / "run", SMALL)
    assert not (tmp_path / "run").exists()


class _ThreeProcesses:
    def __init__(self, device: str) -> None:
        self.processes = Processes(torch.device(device), rank=0, count=3)

    def __enter__(self) -> Processes:
        return self.processes

    def __exit__(self, *_error: object) -> None:
        pass
