"""The files that NVIDIA publishes: read without running what they may hold, split, and checked key by key.

A file of Cosmos-Transfer2.5 repeats the base beside its branch, under the prefix `net.`. Keys and shapes are compared
with those of our own network on the meta device, whose attribute names are NVIDIA's.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.weights import mismatch

Shapes = dict[str, tuple[int, ...]]

# NVIDIA's inference takes the averaged weights where a file has both; its exports hold them alone, renamed to `net.`.
_PREFIXES = ("net_ema.", "net.")
_BRANCH = ("control_embedder.", "control_blocks.")
# TransformerEngine's FP8 state, counters of the training run, tables that the config determines.
_IGNORED_STARTS = ("accum_", "pos_embedder.")
_IGNORED_END = "_extra_state"
_CODE = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One of NVIDIA's files, whose tensors stay mapped from it.

    Attributes:
        config: of the network that it fills: the one expected, without the image path if the file has none.
        base: tensors of the base by key.
        branch: tensors of the control branch by key.
    """

    config: TransferConfig
    base: Mapping[str, Tensor]
    branch: Mapping[str, Tensor]


def read_checkpoint(path: Path, config: TransferConfig) -> PublishedCheckpoint:
    """Read a file of Cosmos-Transfer2.5 and check that it fills a network of `config` exactly.

    Raises:
        InputError: no file, one that is no whole PyTorch file, one that holds more than tensors, or tensors that are
            missing, extra or of another shape; one line lists them.
    """
    try:
        return split_checkpoint(read_pt(path), config)
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(path)) else f"{path}: {message}") from error


def split_checkpoint(tensors: Mapping[str, Any], config: TransferConfig) -> PublishedCheckpoint:
    """Split what a published file holds; as `read_checkpoint`, without its name in the errors."""
    found = _relevant(tensors)
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} is a {type(value).__name__} instead of a tensor")
    base = {name: value for name, value in found.items() if not name.startswith(_BRANCH)}
    branch = {name: value for name, value in found.items() if name.startswith(_BRANCH)}
    # The distilled network is built without an image path (registry_experiment/experiments_dmd2_transfer2p5.py).
    if not any(name in found for name in image_path_keys(config)):
        config = replace(config, image_width=None)
    expected_base, expected_branch = network_shapes(config)
    complaint = mismatch(expected_base | expected_branch, {name: tuple(value.shape) for name, value in found.items()})
    if complaint:
        raise InputError(f"not the network of Cosmos-Transfer2.5: {complaint}")
    return PublishedCheckpoint(config, base, branch)


@functools.cache
def network_shapes(config: TransferConfig) -> tuple[Shapes, Shapes]:
    """Return the shapes of the base and of one branch, by NVIDIA's keys."""
    with torch.device("meta"):
        network = TransferNetwork(replace(config, modalities=config.modalities[:1]))
    branch = network.branch(config.modalities[0])
    return _shapes(network.base.state_dict()), _shapes(branch.state_dict())


def image_path_keys(config: TransferConfig) -> frozenset[str]:
    """Return the keys of the base that only serve an image context.

    NVIDIA trains these with each branch and freezes the rest of the base (`freeze_base_model` of its
    vid2vid_model_control_vace_rectified_flow.py, with `use_reference_image`), so files may differ in them.
    """
    return frozenset(network_shapes(config)[0]) - frozenset(network_shapes(replace(config, image_width=None))[0])


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the digest of tensors' names, dtypes, shapes and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_pt(path: Path) -> Mapping[str, Any]:
    """Map a PyTorch file of tensors by name into memory, running nothing that it may hold.

    Raises:
        InputError: no file, one that is no whole PyTorch file, or one that holds more than tensors.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        # BytesIO: TransformerEngine keeps its FP8 state in them; they hold bytes and run nothing. mmap: a file of
        # 5.5 GB is read where it is used; PyTorch's format before 1.6 cannot be mapped.
        with torch.serialization.safe_globals([io.BytesIO]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign pickles, which fail below or hold tensors all the same
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way, and none of them is our defect
        code = _CODE.search(str(error))
        if code is not None:
            raise InputError(f"{path}: holds {code[1]}, which is no tensor and could run code; not loaded") from error
        raise InputError(f"{path}: not a whole PyTorch file ({type(error).__name__})") from error
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path}: expected tensors by name, got a {type(content).__name__}")
    return content


def convert_wan_vae(tensors: Mapping[str, Any], vae_config: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Rename the tensors of the original Wan2.1 VAE to diffusers' names, and check that they fill AutoencoderKLWan.

    Args:
        tensors: of `tokenizer.pth`.
        vae_config: what differs from the arguments of AutoencoderKLWan for Wan2.1, which are its defaults.

    Raises:
        InputError: diffusers is not installed, or tensors are missing, extra or of another shape.
    """
    expected = vae_shapes(vae_config)  # first: it explains a missing diffusers
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} is a {type(value).__name__} instead of a tensor")
    converted: dict[str, Tensor] = convert_wan_vae_to_diffusers(dict(tensors))
    complaint = mismatch(expected, _shapes(converted))
    if complaint:
        raise InputError(f"not the Wan2.1 VAE: {complaint}")
    return {name: value.contiguous() for name, value in converted.items()}


def vae_shapes(vae_config: Mapping[str, Any] | None = None) -> Shapes:
    """Return the shapes of diffusers' AutoencoderKLWan by key; arguments and errors as `convert_wan_vae`."""
    return _shapes(_meta_vae(vae_config).state_dict())


def vae_config_json(vae_config: Mapping[str, Any] | None = None) -> str:
    """Return the `config.json` of diffusers' AutoencoderKLWan; arguments and errors as `convert_wan_vae`."""
    text: str = _meta_vae(vae_config).to_json_string()
    return text


def _meta_vae(vae_config: Mapping[str, Any] | None) -> Any:
    try:
        from diffusers import AutoencoderKLWan
    except ImportError as error:
        raise InputError("the VAE needs the diffusers package: pip install 'cosmos-engine[2b]'") from error
    with torch.device("meta"):
        return AutoencoderKLWan(**(vae_config or {}))


def _relevant(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fills a network, under its keys there."""
    prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in tensors)), "")
    return {
        key: value
        for name, value in tensors.items()
        if name.startswith(prefix) or not name.startswith(_PREFIXES)
        if not (key := name.removeprefix(prefix)).startswith(_IGNORED_STARTS) and not key.endswith(_IGNORED_END)
    }


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in tensors.items()}
