"""Memory: what a segment needs on the device, and the offload policy and batch that fit a limit.

The estimate is linear: weights, plus tokens times a number of activations that live at once, plus the codec's bytes a
pixel. The constants were counted tensor by tensor on the shapes alone (`benchmarks/memory.py`), 2B in bfloat16 with
PyTorch's own attention; MARGIN is for what that count does not see (workspaces, fragmentation).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.codec import SPATIAL_STRIDE
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.placement import OFFLOADS, Offload
from cosmos_engine.transfer.segments import latent_frames

GIB = 2**30
MARGIN = 1.15
# Activations of one token's width that live at once in an evaluation, and how many each branch adds. Clips of over
# `block.MLP_TOKENS` tokens need two less, since the MLP sees them in parts.
ACTIVATIONS_PER_TOKEN = 16.9
ACTIVATIONS_PER_BRANCH = 1.35
# diffusers' AutoencoderKLWan in bfloat16, decoding 93 frames: what a pixel of the frame costs at the peak.
WAN_BYTES_PER_PIXEL = 10_700
WAN_WEIGHT_BYTES = 254_000_000
# Beyond this many tokens a batch is no faster: every matrix product fills the device already.
USEFUL_TOKENS = 100_000
UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": GIB, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class SegmentWork:
    """What is generated at once, at most.

    Attributes:
        height, width: pixels of a frame at the generator's size.
        frames: of a segment.
        branches: control branches that run.
        rows: clips that there are to batch: cameras times variants.
    """

    height: int
    width: int
    frames: int
    branches: int
    rows: int

    def tokens(self, config: TransferConfig) -> int:
        """Return the tokens of one row."""
        cells = latent_frames(self.frames) * (self.height // SPATIAL_STRIDE) * (self.width // SPATIAL_STRIDE)
        return cells // (config.patch[0] * config.patch[1] * config.patch[2])


@dataclass(frozen=True)
class MemoryPlan:
    """How a job uses the device.

    Attributes:
        offload: which weights wait in the machine's memory.
        rows: rows generated in one batch.
        peak_bytes: estimate of the most that is on the device at once.
        weight_bytes: of it, network weights.
    """

    offload: Offload
    rows: int
    peak_bytes: int
    weight_bytes: int

    def __str__(self) -> str:
        kept = {"resident": "all weights on the device", "turns": "network and codec take turns on the device"}
        how = kept.get(self.offload, "the network's blocks come from the machine's memory one by one")
        return (
            f"memory: about {self.peak_bytes / GIB:.1f} GiB ({self.weight_bytes / GIB:.1f} GiB of network weights), "
            f"{how}, {self.rows} clip{'s' if self.rows > 1 else ''} at a time"
        )


def estimate(
    config: TransferConfig, weight_bytes: int, work: SegmentWork, offload: Offload, rows: int, element_bytes: int = 2
) -> MemoryPlan:
    """Return what `rows` rows of `work` need on the device under an offload policy.

    Args:
        config: of the network.
        weight_bytes: of the network with its branches.
        element_bytes: of an activation.
    """
    activations = ACTIVATIONS_PER_TOKEN + ACTIVATIONS_PER_BRANCH * work.branches
    network = work.tokens(config) * rows * config.width * element_bytes * activations
    # The codec works row by row; its decoded rows stay, once as they come and once as float32.
    decoded = rows * work.frames * 3 * (4 + element_bytes)
    codec = work.height * work.width * (WAN_BYTES_PER_PIXEL * element_bytes / 2 + decoded)
    blocks = config.blocks + work.branches * config.control_blocks
    # Two blocks are on the device at a time; a tenth of the weights is in no block.
    on_device = weight_bytes * min(1.0, 2 / blocks + 0.1) if offload == "blocks" else weight_bytes
    if offload == "resident":
        peak = on_device + WAN_WEIGHT_BYTES + max(network, codec)
    else:
        peak = max(on_device + network, WAN_WEIGHT_BYTES + codec)
    return MemoryPlan(offload, rows, int(peak * MARGIN), int(on_device))


def plan_memory(config: TransferConfig, weight_bytes: int, work: SegmentWork, limit_bytes: int) -> MemoryPlan:
    """Choose the policy that moves least, then the largest batch that is of use.

    Raises:
        InputError: even one row with the network's blocks in the machine's memory does not fit.
    """
    most = max(1, min(work.rows, USEFUL_TOKENS // work.tokens(config)))
    for offload in OFFLOADS:
        for rows in range(most, 0, -1):
            plan = estimate(config, weight_bytes, work, offload, rows)
            if plan.peak_bytes <= limit_bytes:
                return plan
    raise InputError(
        f"memory: {work.frames} frames of {work.width}x{work.height} with {work.branches} controls need about "
        f"{plan.peak_bytes / GIB:.1f} GiB even with offload, {limit_bytes / GIB:.1f} GiB are allowed; "
        "a smaller resolution or fewer segment_frames need less"
    )


def parse_bytes(text: str) -> int:
    """Read a size such as 24GiB, 24GB or 800MiB.

    Raises:
        InputError: anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in UNITS or float(found[1]) <= 0:
        raise InputError(f"memory size {text!r}: expected a number and a unit, such as 24GiB")
    return int(float(found[1]) * UNITS[found[2].upper()])
