"""The geometry reader that ships: 0.7 M parameters, made to read renders and variants of the embedded table-top.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cosmos_engine.data import write_file
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.quality.reader import Readings
from cosmos_engine.quality.reader_network import ReaderNetwork, frames_as_input
from cosmos_engine.tensors import tensors_sha256

METADATA_KEY = "cosmos-engine/geometry-reader"
FORMAT_VERSION = 2
"""1 had no digest."""
BATCH_FRAMES = 32


class GeometryReader:
    """Read roles and depth with a `ReaderNetwork`, frame by frame; implements `Reader`.

    Args:
        network: in evaluation mode or not; it is put into it.
        weights_sha256: digest of the weights file, part of the name.
        device: where to compute.
    """

    def __init__(self, network: ReaderNetwork, weights_sha256: str = "", device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network.eval().requires_grad_(False)
        self._weights_sha256 = weights_sha256

    @classmethod
    def shipped(cls, device: str | torch.device = "cpu") -> GeometryReader:
        """Load the weights that come with the package."""
        return cls.load(shipped_weights(), device)

    @classmethod
    def load(cls, file: Path, device: str | torch.device = "cpu") -> GeometryReader:
        """Load a file that `save_reader` wrote.

        Raises:
            InputError: no such file, a truncated or foreign one, or one that does not fit.
        """
        return cls(load_network(file), file_sha256(file), device)

    @property
    def name(self) -> str:
        """Name and the first digits of the weights' SHA-256."""
        return f"geometry-reader {self._weights_sha256[:12]}".rstrip()

    @torch.no_grad()
    def read(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Readings:
        """Return roles and log-depth of each frame; any size."""
        height, width = rgb.shape[1:3]
        probabilities: list[Tensor] = []
        depths: list[Tensor] = []
        for start in range(0, len(rgb), BATCH_FRAMES):
            frames = torch.from_numpy(np.ascontiguousarray(rgb[start : start + BATCH_FRAMES])).to(self._device)
            logits_BRHW, log_depth_BHW = self._network(frames_as_input(frames))
            probabilities.append(logits_BRHW.softmax(1)[..., :height, :width].permute(0, 2, 3, 1).cpu())
            depths.append(log_depth_BHW[..., :height, :width].cpu())
        return Readings(torch.cat(probabilities).contiguous().numpy(), torch.cat(depths).contiguous().numpy())


def shipped_weights() -> Path:
    """Return the weights file that comes with the package."""
    return Path(str(resources.files("cosmos_engine.quality"))) / "checkpoints" / "reader.safetensors"


def save_reader(file: Path, network: ReaderNetwork, notes: Mapping[str, Any]) -> None:
    """Write a reader's weights in float16, its statistics in float32; `notes` say how it was made.

    Raises:
        InputError: a weight that is not finite in float16, or the file system refuses.
    """
    statistics = {name for name, _ in network.named_buffers()}
    stored: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        stored[name] = value.detach().cpu().to(value.dtype if name in statistics else torch.float16).contiguous()
        if not bool(stored[name].isfinite().all()):
            raise InputError(f"{file}: {name} has values that are not finite in float16")
    described: dict[str, Any] = {"version": FORMAT_VERSION, "notes": dict(notes)}
    described["sha256"] = tensors_sha256(stored, described)
    write_file(file, safetensors.torch.save(stored, {METADATA_KEY: json.dumps(described, sort_keys=True)}))


def load_network(file: Path) -> ReaderNetwork:
    """Read a network that `save_reader` wrote, in float32.

    Raises:
        InputError: no such file, a truncated or foreign one, one of another version, or one that does not fit.
    """
    try:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: reader weights cannot be read: {str(error).splitlines()[0]}") from error
    if METADATA_KEY not in metadata:
        raise InputError(f"{file}: not a geometry reader of this engine (its metadata lacks {METADATA_KEY!r})")
    try:
        described = dict(json.loads(metadata[METADATA_KEY]))
        version, told = described["version"], described.pop("sha256", None)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: its metadata is damaged: {type(error).__name__}: {error}") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{file}: expected format version {FORMAT_VERSION}, got {version}")
    if told != tensors_sha256(tensors, described):
        raise InputError(f"{file}: damaged: not the tensors that were written")
    network = ReaderNetwork()
    try:
        network.load_state_dict({key: _widened(value) for key, value in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{file}: does not fit the reader's network: {str(error).splitlines()[-1].strip()}") from error
    return network


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
