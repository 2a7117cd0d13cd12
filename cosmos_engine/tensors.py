"""Digests of tensors: safetensors has no checksum, so a flipped bit would be a weight like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch


def tensors_sha256(tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> str:
    """Return the digest of named tensors (names, types, shapes and bits) and of JSON values told beside them."""
    digest = hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
