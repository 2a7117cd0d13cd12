"""Count, on shapes alone, what the 2B model needs at most, beside what the memory plan estimates.

    python benchmarks/memory.py [--json FILE]

Nothing is computed and no GPU is needed: tensors are fake, and their storage is summed up while an evaluation of the
network, a decoding and an encoding run through them. What the count does not see (workspaces, fragmentation) is what
`memory.MARGIN` is for; `benchmarks/gpu/transfer25_2b.py` measures the truth on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cosmos_engine.controls import MODALITIES
from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.memory import (
    ACTIVATIONS_PER_BRANCH,
    ACTIVATIONS_PER_TOKEN,
    GIB,
    WAN_BYTES_PER_PIXEL,
    SegmentWork,
    estimate,
)
from cosmos_engine.transfer.network import TransferNetwork

FRAMES = 93
SIZES_PX = ((704, 1280), (480, 640), (256, 320))


class PeakCount(TorchDispatchMode):
    """Sum up the storage of all tensors made under this mode, and keep the largest sum."""

    def __init__(self, outside: list[torch.Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._outside = {tensor.untyped_storage()._cdata for tensor in outside}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._outside:
                    self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return made


def main() -> None:
    """Print one row for each size and number of controls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [network_row(height, width, branches) for height, width in SIZES_PX for branches in (1, 4)]
    rows += [codec_row(height, width) for height, width in SIZES_PX]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


def network_row(height: int, width: int, branches: int) -> dict[str, object]:
    """Return counted and estimated activations of one evaluation."""
    config = dataclasses.replace(SIZES["2b"], modalities=MODALITIES[:branches])
    TransferNetwork.reset_parameters = lambda self: None  # type: ignore[method-assign]  # fake tensors hold no numbers
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        network = in_bfloat16(lambda: TransferNetwork(config))
        network.fold_image_context()
        cells = (24, height // 8, width // 8)
        mask, noisy, text = (torch.zeros(1, *shape).bfloat16() for shape in ((1, *cells), (16, *cells), (512, 1024)))
        controls = {modality: noisy.clone() for modality in config.modalities}
        count = PeakCount(list(network.parameters()))
        with count:
            embedded = network.embed_controls(controls, mask)
            network.denoise(
                noisy,
                torch.full((1,), 0.5),
                text,
                condition_mask_B1THW=mask,
                embedded_controls=embedded,
                weights=dict.fromkeys(config.modalities, 1.0 / branches),
            )
        weight_bytes = sum(parameter.numel() * 2 for parameter in network.parameters())
    work = SegmentWork(height, width, FRAMES, branches, 1)
    per_token = work.tokens(config) * config.width * 2
    return {
        "size": f"{width}x{height}",
        "controls": branches,
        "tokens": work.tokens(config),
        "weights_gib": round(weight_bytes / GIB, 2),
        "activations_gib": round(count.peak / GIB, 2),
        "activations_per_token": round(count.peak / per_token, 2),
        "assumed": round(ACTIVATIONS_PER_TOKEN + branches * ACTIVATIONS_PER_BRANCH, 2),
        "planned_gib": round(estimate(config, weight_bytes, work, "resident", 1).peak_bytes / GIB, 1),
    }


def codec_row(height: int, width: int) -> dict[str, object]:
    """Return the counted peak of the Wan VAE."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        vae = in_bfloat16(AutoencoderKLWan)
        peaks = {}
        for name, work in (
            ("encode", lambda: vae.encode(torch.zeros(1, 3, FRAMES, height, width).bfloat16())),
            ("decode", lambda: vae.decode(torch.zeros(1, 16, 24, height // 8, width // 8).bfloat16())),
        ):
            count = PeakCount(list(vae.parameters()))
            with count:
                work()
            peaks[name] = count.peak
    return {
        "size": f"{width}x{height}",
        **{f"{name}_gib": round(peak / GIB, 2) for name, peak in peaks.items()},
        "decode_bytes_per_pixel": round(peaks["decode"] / (height * width)),
        "assumed": WAN_BYTES_PER_PIXEL,
    }


def in_bfloat16(make: Callable[[], Any]) -> Any:
    """Make a module whose parameters are bfloat16 from the start: fake ones cannot be cast in place."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        return make().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    main()
