"""Where torch computes, and what it is good at there."""

from __future__ import annotations

import torch

from cosmos_engine.errors import InputError


def choose_device(name: str) -> torch.device:
    """Return the device that `name` means; "auto" is a CUDA device if there is one, else the CPU.

    Raises:
        InputError: if the name is unknown or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: expected auto, cpu or cuda[:n], got {name!r}") from error
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"device: expected auto, cpu or cuda[:n], got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: {name!r} is not there; {torch.cuda.device_count()} CUDA devices found")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 natively; where it does not, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older releases of torch cannot tell; they train in float32.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
