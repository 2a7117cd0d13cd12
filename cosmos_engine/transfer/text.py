"""Text encoders: prompt -> [L, D].

Shape legend: B prompt, L token, D channel.

`HashedTextEncoder` is the encoder of size tiny: words are sums of hashed character n-grams (Bojanowski et al. 2017,
fastText), so a word that training never saw still lands near words it is spelled like, and there is no vocabulary file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cosmos_engine.errors import InputError

WORD = re.compile(r"[a-z0-9]+|[.,:;]")
NGRAM_LENGTHS = (3, 4, 5)


@runtime_checkable
class TextEncoder(Protocol):
    """Embed prompts for the network's cross-attention; an empty prompt is the unconditional one."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return (B, L, D) embeddings; raise InputError for a prompt that is too long."""
        ...


def ngrams(word: str) -> list[str]:
    """Return the word itself and its character n-grams, with `<` and `>` at its ends."""
    marked = f"<{word}>"
    return [marked] + [marked[i : i + n] for n in NGRAM_LENGTHS for i in range(len(marked) - n + 1) if n < len(marked)]


class HashedTextEncoder(nn.Module):
    """Words by hashed n-grams, positions, one transformer layer; trained with the network that reads it.

    Args:
        width: D.
        length: L; shorter prompts are padded with a learned token, as NVIDIA pads to a fixed length without a mask.
        buckets: rows of the n-gram table.
    """

    def __init__(self, width: int = 256, length: int = 64, buckets: int = 2048) -> None:
        super().__init__()
        self.length = length
        self.buckets = buckets
        self.table = nn.EmbeddingBag(buckets, width, mode="mean")
        self.padding = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.zeros(length, width))
        self.layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.table.weight, std=0.5)
        nn.init.normal_(self.position, std=0.1)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return (B, L, D) embeddings of `prompts`."""
        rows = [WORD.findall(prompt.lower()) for prompt in prompts]
        for prompt, words in zip(prompts, rows, strict=True):
            if len(words) > self.length:
                raise InputError(f"prompt {prompt[:40]!r}...: expected at most {self.length} words, got {len(words)}")
        bags = [[zlib.crc32(gram.encode()) % self.buckets for gram in ngrams(word)] for words in rows for word in words]
        device = self.padding.device
        x_BLD = self.padding.expand(len(rows), self.length, -1).clone()
        if bags:
            flat = torch.tensor([bucket for bag in bags for bucket in bag], device=device)
            starts = torch.tensor([0, *[len(bag) for bag in bags[:-1]]], device=device).cumsum(0)
            at_row = torch.tensor([row for row, words in enumerate(rows) for _ in words], device=device)
            at_place = torch.tensor([place for words in rows for place in range(len(words))], device=device)
            x_BLD[at_row, at_place] = self.table(flat, starts).to(x_BLD.dtype)
        return self.norm(self.layer(x_BLD + self.position))

    forward = encode
