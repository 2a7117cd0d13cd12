"""The processes of one training run: one, or several that torchrun started, each with its share of every batch.

Processes hold the same weights. An update draws one batch and its noise for all of them, each computes on its share,
and gradients are averaged; so the same config gives the same curve on any number of processes, up to rounding. The
generator's post-training and the policies' training both run so.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed
from torch import nn

from cosmos_engine.device import choose_device
from cosmos_engine.errors import InputError

ResultT = TypeVar("ResultT")

_PATIENCE = datetime.timedelta(days=7)  # the first process may render clips for hours while the others wait


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    `rank` is its number, from 0; `count` how many there are; `device` where this process computes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and the log."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Return this process's rows of `rows`, a multiple of `count`."""
        own = rows // self.count
        return slice(self.rank * own, (self.rank + 1) * own)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a value over the processes; of several, no gradient flows."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    def any(self, holds: bool) -> bool:
        """Tell whether something holds in any process; all get the same answer."""
        return bool(self.mean(torch.tensor(float(holds), device=self.device)) > 0)

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


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: as `choose_device` takes it; of several processes each takes the GPU of its local number.

    Raises:
        InputError: a device that is not there; and that of the body, in the first process alone.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device)
    if chosen.index is not None and count == 1:
        torch.cuda.set_device(chosen)
    if count == 1:
        yield Processes(chosen)
        return
    if chosen.type == "cuda":
        if chosen.index is not None:
            raise InputError(f"device: {device!r} names one GPU for {count} processes; expected cuda or auto")
        chosen = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(chosen)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    rank = torch.distributed.get_rank()
    try:
        yield Processes(chosen, rank, count)
    except InputError:
        if rank == 0:
            raise
        sys.exit(2)  # one line, not one a process
    finally:
        torch.distributed.destroy_process_group()
