"""The processes of one training run: one, or several that torchrun started, each with its share of every batch.

Processes hold the same weights. An update draws one batch for all of them, each computes on its share, and gradients
are averaged; so the same config gives the same curve on any number of processes, up to rounding.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor, nn

from cosmos_engine.errors import InputError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# The first process may render clips for hours while the others wait.
PATIENCE = datetime.timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        device: where this process computes.
        rank: its number, from 0.
        count: how many there are.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and the log."""
        return self.rank == 0

    def share(self, items: Sequence[ItemT]) -> Sequence[ItemT]:
        """Return this process's share of the items of a batch, of which there are a multiple of `count`."""
        return items[self.rank :: self.count]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over the processes; no gradient flows."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, which have gradients at the same parameters."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message: it costs more than its bytes
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def first(self, work: Callable[[], ResultT]) -> ResultT | None:
        """Do work in the first process while the others wait; what it returns, None in the others.

        Raises:
            InputError: in the first process, if the work raises it; the others exit without a word.
        """
        if self.count == 1:
            return work()
        result, complaint = None, [""]
        if self.is_first:
            try:
                result = work()
            except InputError as error:
                complaint = [str(error)]
        torch.distributed.broadcast_object_list(complaint)
        if complaint[0]:
            if self.is_first:
                raise InputError(complaint[0])
            sys.exit(2)
        return result


class SharedBatchNorm(nn.BatchNorm2d):
    """Normalise by the statistics of the whole batch where each process sees a share; keys as `nn.BatchNorm2d`."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise each channel, and track its statistics while training."""
        if not self.training:
            return super().forward(x_BCHW)
        count = torch.distributed.get_world_size()
        moments = torch.stack([x_BCHW.mean((0, 2, 3)), x_BCHW.square().mean((0, 2, 3))])
        mean, square = torch.distributed.nn.functional.all_reduce(moments) / count
        variance = square - mean.square()
        with torch.no_grad():
            values = count * x_BCHW.numel() // x_BCHW.shape[1]
            tracked = ((self.running_mean, mean), (self.running_var, variance * (values / (values - 1))))
            for running, now in tracked:
                assert running is not None
                running.lerp_(now, self.momentum or 0.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return (x_BCHW - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]


def shared_batch_norm(normalise: nn.BatchNorm2d, processes: Processes) -> nn.BatchNorm2d:
    """Return a batch norm without own weights that sees all processes, with the statistics of `normalise`."""
    if processes.count == 1:
        return normalise
    assert normalise.momentum is not None
    shared = SharedBatchNorm(normalise.num_features, normalise.eps, normalise.momentum, affine=False)
    shared.load_state_dict(normalise.state_dict())
    return shared.to(processes.device)


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: "cpu" or "cuda"; of several processes each takes the GPU of its local number. "cuda:1" names one.

    Raises:
        InputError: a device that is not there; and that of the body, in the first process alone.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else None)
    if count == 1:
        yield Processes(chosen)
        return
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    rank = torch.distributed.get_rank()
    try:
        yield Processes(chosen, rank, count)
    except InputError:
        if rank == 0:
            raise
        sys.exit(2)  # one line, not one a process
    finally:
        torch.distributed.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r}: expected cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name!r}: expected cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    index = local_rank if local_rank is not None and device.index is None else device.index or 0
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= found:
        raise InputError(f"--device {name!r}: expected GPU {index}, but PyTorch sees {found}")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
