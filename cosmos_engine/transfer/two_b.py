"""The 2B model: NVIDIA's weights as a generator, with no more of them in memory than a job uses."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cosmos_engine.controls import Fit, Framing, Modality, frame_for
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.memory import GIB
from cosmos_engine.transfer.model import TransferModel
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.placement import network_blocks
from cosmos_engine.transfer.published.folder import (
    DISTILLED,
    GENERAL,
    REASON1,
    VAE,
    WeightsFolder,
    own_base_name,
    weights_name,
)
from cosmos_engine.transfer.reason import load_reason
from cosmos_engine.transfer.sampling import SAMPLING, SamplingConfig
from cosmos_engine.transfer.text_cache import CachedText
from cosmos_engine.transfer.transfer25 import Transfer25
from cosmos_engine.transfer.wan import load_wan
from cosmos_engine.transfer.weights import load_weights, overlay_weights, read_header

# Reason1's language model in bfloat16 is 13.2 GiB; with less than this it encodes on the CPU.
ENCODER_BYTES = 15 * GIB
SHARE_OF_MEMORY = 0.9  # of what is free, where no limit is given


@dataclass(frozen=True)
class TwoBOptions:
    """How the model is used.

    Attributes:
        resolution: a key of `RESOLUTIONS`.
        fit: how a camera of another aspect is brought to it.
        device: cpu or cuda[:n].
        memory_limit_bytes: what may be used on the device; None means 90 % of what is free.
        compile: compile each block with `torch.compile`: a minute once, then faster.
        text_folder: of the cache of embedded prompts; None for the default.
    """

    resolution: str = "480"
    fit: Fit = "letterbox"
    device: str = "cuda"
    memory_limit_bytes: int | None = None
    compile: bool = False
    text_folder: Path | None = None


def open_two_b(
    weights: WeightsFolder,
    modalities: Sequence[Modality],
    sampling: SamplingConfig | None = None,
    options: TwoBOptions | None = None,
    model: str = GENERAL,
) -> Transfer25:
    """Load the parts of the 2B model that `modalities` need, on the CPU; a job's plan brings them to the device.

    Args:
        weights: the folder that `cosmos-engine weights download` fills.
        modalities: controls that will be used; other branches are not read.
        sampling: how to sample; by default as NVIDIA does.
        options: size, device and memory.
        model: `transfer25-2b`, or `transfer25-2b-distilled` (edge only).

    Raises:
        InputError: no such device, a package or a part of the weights that is missing, truncated or of another size.
    """
    options = options or TwoBOptions()
    sampling = sampling or SAMPLING[model]
    if model == DISTILLED and set(modalities) != {"edge"}:
        raise InputError(f"{model}: has a branch for edge only, the recipe uses {', '.join(modalities)}")
    device = checked_device(options.device)
    limit = options.memory_limit_bytes or int(free_bytes(device) * SHARE_OF_MEMORY)
    names = [weights_name(model, module) for module in ("base", *modalities)]
    sha256 = {name: weights.sha256(name) for name in (*names, VAE, REASON1)}
    text = CachedText(
        load=lambda: load_reason(weights.folder(REASON1), device if limit >= ENCODER_BYTES else "cpu", torch.bfloat16),
        projection=lambda embedding: projection(embedding),
        encoder_sha256=sha256[REASON1],
        projection_sha256=base_sha256(weights, modalities, model),
        folder=options.text_folder,
        dtype=torch.bfloat16,
        device=device,
    )
    network = load_network(weights, modalities, model)
    projection = _projection(network)
    if options.compile:
        compile_blocks(network)
    codec = load_wan(weights.folder(VAE), "cpu", torch.bfloat16)
    return Transfer25(
        model,
        TransferModel(network, codec, text),
        sampling,
        device,
        weights_sha256=sha256,
        framing=lambda height, width: _framed(height, width, options),
        memory_limit_bytes=limit,
    )


def load_network(weights: WeightsFolder, modalities: Sequence[Modality], model: str = GENERAL) -> TransferNetwork:
    """Load the base and the branches of `modalities` in bfloat16 on the CPU.

    NVIDIA's files of a single control have an image path, trained with each branch: a lone branch gets its own, folded
    to what no image adds. NVIDIA's network for several controls has none, nor has the distilled one.
    """
    image_width = read_header(weights.file(weights_name(model, "base"))).config.image_width
    config = dataclasses.replace(SIZES["2b"], modalities=tuple(modalities), image_width=image_width)
    with torch.device("meta"):
        network = TransferNetwork(config).to(torch.bfloat16)
    base = {"base": network.base}
    load_weights(weights.file(weights_name(model, "base")), base, config)
    for modality in modalities:
        file = weights.file(weights_name(model, modality))
        load_weights(file, {modality: network.branch(modality)}, config)
    own = own_base(weights, modalities, model)
    if own is not None:
        overlay_weights(weights.file(own), base, config)
    network.eval().requires_grad_(False)
    network.fold_image_context(absent=len(modalities) > 1)
    return network


def own_base(weights: WeightsFolder, modalities: Sequence[Modality], model: str) -> str | None:
    """Return the file of the base tensors that a lone branch brings with it; None if the base is the common one."""
    if len(modalities) != 1 or weights.own_base(model, modalities[0]) is None:
        return None
    return own_base_name(model, modalities[0])


def base_sha256(weights: WeightsFolder, modalities: Sequence[Modality], model: str) -> str:
    """Return which base `load_network` makes, its text projection included."""
    own = own_base(weights, modalities, model)
    return " ".join(weights.sha256(name) for name in (weights_name(model, "base"), own) if name is not None)


def compile_blocks(network: TransferNetwork) -> None:
    """Compile each block's forward; hooks that stream its weights stay outside."""
    for block in network_blocks(network):
        block.forward = torch.compile(block.forward, dynamic=False)


def checked_device(name: str) -> torch.device:
    """Return a device that exists.

    Raises:
        InputError: none of that name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r}: expected cpu or cuda[:n]") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            found = "PyTorch finds no GPU" if count == 0 else f"PyTorch finds {count}, cuda:0 to cuda:{count - 1}"
            raise InputError(f"--device {name}: {found}")
    elif device.type != "cpu":
        raise InputError(f"--device {name!r}: expected cpu or cuda[:n]")
    return device


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU, or that of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _projection(network: TransferNetwork) -> Callable[[Tensor], Tensor]:
    """Return the network's text projection as the cache wants it; it follows the encoder to its device."""

    def projected(embedding_LE: Tensor) -> Tensor:
        projection = network.base.crossattn_proj.to(embedding_LE.device)
        return network.project_text(embedding_LE[None].to(next(projection.parameters()).dtype))[0]

    return projected


def _framed(height: int, width: int, options: TwoBOptions) -> Framing:
    return frame_for(height, width, options.resolution, options.fit)
