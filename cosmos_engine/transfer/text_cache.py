"""Projected text on disk: the 7B text encoder is loaded once for all new prompts, and not at all for known ones.

Shape legend: B prompt, L token (512), D channel of the cross-attention (1024), E embedding of the encoder (100352).

A file holds the tokens of one prompt and is named by the SHA-256 of everything that they follow from: the prompt, the
encoder, the projection, the stored dtype and this format. What is read is checked against its own checksum; a file that
is truncated, damaged or not ours is made again. Files appear whole or not at all, so processes can share a folder: at
worst two of them make the same file.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from cosmos_engine.data.atomic import make_folder, write_file

FORMAT_VERSION = 1
METADATA_KEY = "cosmos-engine/text-tokens"
CACHE_VARIABLE = "COSMOS_ENGINE_CACHE"


@runtime_checkable
class PromptEmbedder(Protocol):
    """What encodes a prompt before the projection, such as `ReasonEncoder`."""

    def check(self, prompts: Sequence[str]) -> None:
        """Raise InputError if a prompt is too long."""
        ...

    def embeddings(self, prompt: str) -> Tensor:
        """Return (L, E)."""
        ...


def default_text_folder() -> Path:
    """Return `$COSMOS_ENGINE_CACHE/text`, or `~/.cache/cosmos-engine/text` where that is not set."""
    cache = os.environ.get(CACHE_VARIABLE)
    return (Path(cache) if cache else Path.home() / ".cache" / "cosmos-engine") / "text"


class CachedText:
    """A `TextEncoder` whose answers are kept on disk.

    Args:
        load: makes the encoder; called at most once by each `prepare`, and only if a prompt is new.
        projection: (L, E) -> (L, D) tokens ready for cross-attention; gets what the encoder gives, on its device and in
            its dtype.
        encoder_sha256: which encoder `load` makes.
        projection_sha256: which weights the projection has.
        folder: of the cache; `default_text_folder()` if None. It is made when first written to.
        dtype: of the tokens, stored and returned. 512 x 1024 tokens are 2 MB in float32, 1 MB in bfloat16.
        device: where `encode` puts the tokens.
    """

    def __init__(
        self,
        load: Callable[[], PromptEmbedder],
        projection: Callable[[Tensor], Tensor],
        *,
        encoder_sha256: str,
        projection_sha256: str,
        folder: Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder = folder or default_text_folder()
        self._load = load
        self._projection = projection
        self._sources = (encoder_sha256, projection_sha256)
        self._dtype = dtype
        self._device = device

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode the prompts that the folder does not have, with one load of the encoder, which is dropped at the end.

        Every prompt is checked before the first is encoded; those done before an error stay.

        Raises:
            InputError: a prompt that is too long, an encoder that cannot be loaded, or a folder that cannot be written.
        """
        for _ in self._made([prompt for prompt in dict.fromkeys(prompts) if self._read(prompt) is None]):
            pass

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l d"]:
        """Return the tokens of prompts, from the folder; new ones are prepared first.

        Raises:
            InputError: as `prepare`.
        """
        distinct = dict.fromkeys(prompts)
        rows = {prompt: tokens_LD for prompt in distinct if (tokens_LD := self._read(prompt)) is not None}
        rows.update(self._made([prompt for prompt in distinct if prompt not in rows]))
        return torch.stack([rows[prompt] for prompt in prompts]).to(self._device)

    def path(self, prompt: str) -> Path:
        """Return where the tokens of a prompt are or would be."""
        return self.folder / f"{self._key(prompt)}.safetensors"

    def _key(self, prompt: str) -> str:
        content = json.dumps([FORMAT_VERSION, str(self._dtype), *self._sources, prompt])
        return hashlib.sha256(content.encode()).hexdigest()

    def _made(self, prompts: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Encode and write prompts, and yield each with its tokens."""
        if not prompts:
            return
        make_folder(self.folder)  # before the load: a folder that cannot be made should not take a minute to say so
        encoder = self._load()
        try:
            encoder.check(prompts)
            for prompt in tqdm(prompts, desc="encode prompts", unit="prompt"):
                with torch.no_grad():
                    tokens_LD = self._projection(encoder.embeddings(prompt)).to("cpu", self._dtype).contiguous()
                self._write(prompt, tokens_LD)
                yield prompt, tokens_LD
        finally:
            del encoder
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _write(self, prompt: str, tokens_LD: Float[Tensor, "l d"]) -> None:
        if not bool(tokens_LD.isfinite().all()):
            raise ValueError(f"prompt {prompt[:40]!r}...: its tokens are not finite in {self._dtype}")
        # One entry: safetensors writes several in random order. The prompt is there for people who look at the file.
        described = {"key": self._key(prompt), "sha256": _sha256(tokens_LD), "prompt": prompt}
        write_file(self.path(prompt), save({"tokens": tokens_LD}, {METADATA_KEY: json.dumps(described)}))

    def _read(self, prompt: str) -> Tensor | None:
        """Return the tokens of a prompt, or None if there is no file that can be trusted."""
        try:
            with safe_open(self.path(prompt), framework="pt") as file:
                described: Any = json.loads((file.metadata() or {})[METADATA_KEY])
                tokens_LD: Tensor = file.get_tensor("tokens").clone()  # not a view of a file that others replace
            is_ours = described["key"] == self._key(prompt) and described["sha256"] == _sha256(tokens_LD)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        return tokens_LD if is_ours else None


def _sha256(tokens: Tensor) -> str:
    """Return the SHA-256 of a tensor's shape, dtype and bytes."""
    digest = hashlib.sha256(f"{tuple(tokens.shape)} {tokens.dtype}".encode())
    digest.update(tokens.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
