"""Placement: which weights are on the device while, and which wait in the machine's memory.

`resident` keeps network and codec on the device. With `turns` only the one that is at work is there. With `blocks` the
network's blocks stay in the machine's memory and come to the device one after another, each copied while the one
before computes: a 93-frame segment computes for far longer than its weights take to cross.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cosmos_engine.transfer.network import TransferNetwork

# Parts of a control block that `ControlBranch` calls beside the block itself; they are small and stay on the device.
BESIDE_A_BLOCK = ("before_proj", "after_proj")

Offload = Literal["resident", "turns", "blocks"]
OFFLOADS: tuple[Offload, ...] = get_args(Offload)


class Placement:
    """Bring a network and a codec to a device when they are used, as an offload policy says.

    Args:
        network: on the CPU or on `device`.
        codec: a module, on the CPU or on `device`.
        device: where both compute.
    """

    def __init__(self, network: TransferNetwork, codec: nn.Module, device: torch.device) -> None:
        self._network, self._codec = network, codec
        self._device = device
        self._offload: Offload | None = None
        self._stream: BlockStream | None = None

    @property
    def offload(self) -> Offload | None:
        """The policy in force; None before the first `arrange` and after `close`."""
        return self._offload

    def arrange(self, offload: Offload) -> None:
        """Put the weights where a policy wants them between uses; a call with the policy in force does nothing."""
        if offload == self._offload:
            return
        self.close()
        self._offload = offload
        if offload == "blocks":
            self._stream = BlockStream(network_blocks(self._network), self._device)
        elif offload == "resident":
            self._network.to(self._device)
            self._codec.to(self._device)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Have the network on the device."""
        with self._present(self._network):
            yield

    @contextlib.contextmanager
    def codec(self) -> Iterator[None]:
        """Have the codec on the device."""
        with self._present(self._codec):
            yield

    def close(self) -> None:
        """Bring all weights back to the machine's memory."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._offload == "resident":
            for module in (self._network, self._codec):
                _move(module, torch.device("cpu"), set())
        self._offload = None

    @contextlib.contextmanager
    def _present(self, module: nn.Module) -> Iterator[None]:
        if self._offload == "resident":
            yield
            return
        streamed = self._stream.ids if self._stream is not None else set()
        _move(module, self._device, streamed)
        try:
            yield
        finally:
            _move(module, torch.device("cpu"), streamed)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


class BlockStream:
    """Run modules whose weights stay in the machine's memory: each is copied to the device just before its turn.

    The modules must run in the order given, again and again. At most two are on the device at a time: the one that
    computes, and the next, which is copied beside it on a stream of its own.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        self._modules = list(modules)
        self._device = device
        self._homes = [self._at_home(module) for module in modules]
        self._copies: dict[int, list[Tensor]] = {}
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._handles: list[RemovableHandle] = []
        for index, module in enumerate(self._modules):
            self._handles.append(module.register_forward_pre_hook(lambda _module, _args, i=index: self._enter(i)))
            self._handles.append(module.register_forward_hook(lambda _module, _args, _out, i=index: self._leave(i)))

    @property
    def ids(self) -> set[int]:
        """Which tensors stay in the machine's memory, by `id`."""
        return {id(tensor) for module in self._modules for tensor in _streamed(module)}

    def close(self) -> None:
        """Forget the copies and leave the modules where their weights are."""
        for handle in self._handles:
            handle.remove()
        self._copies.clear()

    def _at_home(self, module: nn.Module) -> list[Tensor]:
        """Return a module's weights in the machine's memory; page-locked for a GPU, so that copies need no waiting."""
        homes = []
        for tensor in _streamed(module):
            home = tensor.data.cpu()
            tensor.data = home.pin_memory() if self._device.type == "cuda" else home
            homes.append(tensor.data)
        return homes

    def _enter(self, index: int) -> None:
        copies = self._copies.pop(index, None) or self._copied(index)
        if self._side is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._side)
            for copy in copies:
                copy.record_stream(current)
        for tensor, copy in zip(_streamed(self._modules[index]), copies, strict=True):
            tensor.data = copy
        following = (index + 1) % len(self._modules)
        if following not in self._copies and following != index:
            self._copies[following] = self._copied(following)

    def _leave(self, index: int) -> None:
        for tensor, home in zip(_streamed(self._modules[index]), self._homes[index], strict=True):
            tensor.data = home

    def _copied(self, index: int) -> list[Tensor]:
        with torch.cuda.stream(self._side) if self._side is not None else contextlib.nullcontext():
            return [home.to(self._device, non_blocking=True) for home in self._homes[index]]


def network_blocks(network: TransferNetwork) -> list[nn.Module]:
    """Return the blocks in the order in which `TransferNetwork.denoise` runs them: branches by name, then the base."""
    branches = [block for name in sorted(network.branches) for block in network.branch(name).control_blocks]
    return [*branches, *network.base.blocks]


def _streamed(block: nn.Module) -> list[Tensor]:
    parameters = {name: value for name, value in block.named_parameters() if not name.startswith(BESIDE_A_BLOCK)}
    return [*parameters.values(), *block.buffers()]


def _move(module: nn.Module, device: torch.device, staying: set[int]) -> None:
    """Move a module's tensors, except those that stay."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if id(tensor) not in staying:
            tensor.data = tensor.data.to(device)
