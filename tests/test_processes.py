"""Shares of a batch, and devices, of the processes of one run."""

from __future__ import annotations

import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes, open_processes


def test_shares_are_the_whole_batch() -> None:
    rows = list(range(12))
    assert [row for rank in range(3) for row in rows[Processes(rank=rank, count=3).share(12)]] == rows


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_device_that_is_not_there_is_one_line(device: str) -> None:
    with pytest.raises(InputError, match=f"device: .*'{device}'"), open_processes(device):
        pass
