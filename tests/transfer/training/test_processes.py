"""Several processes on one machine without a GPU: gloo in place of NCCL, the same code else."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.transfer.training.small_run import run

REPOSITORY = Path(__file__).resolve().parents[3]


def started(rank: int, port: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a process as torchrun does."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "tests.transfer.training.small_run", *arguments]
    return subprocess.Popen(command, env=os.environ | place | address, cwd=REPOSITORY, stderr=subprocess.PIPE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_on_the_same_batches(tmp_path, pool, begun):
    """Codec (whose batch norm sees both), network under energy score and flow matching, decoder and network."""
    port = free_port()
    both = [started(rank, port, [str(tmp_path / "two"), str(pool.folder), str(begun)]) for rank in range(2)]
    run(tmp_path / "one", pool.folder, init=begun)
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-3)
    ours, theirs = (load_file(tmp_path / name / "transfer25-tiny.safetensors") for name in ("two", "one"))
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=0.05, atol=5e-3)
