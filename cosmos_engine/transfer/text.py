"""Text encoders: prompt -> [L, D].

Shape legend: B prompt, W word, L token, D channel.

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
    """Words by hashed n-grams, one transformer layer, and a few queries that gather what is said of each part.

    The network sees the queries' answers: token 0 is about the table, token 1 about the wall, and so on in the order
    that `training/text_stage.py` teaches. A small network finds a fixed token far sooner than a word that stands at
    another place in every phrasing.

    Args:
        width: D.
        tokens: L, the number of queries.
        words: W; shorter prompts are padded with a learned vector, as NVIDIA pads to a fixed length without a mask.
        buckets: rows of the n-gram table.
    """

    def __init__(self, width: int = 256, tokens: int = 12, words: int = 64, buckets: int = 2048) -> None:
        super().__init__()
        self.words = words
        self.buckets = buckets
        self.table = nn.EmbeddingBag(buckets, width, mode="mean")
        self.padding = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.zeros(words, width))
        self.layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.zeros(tokens, width))
        self.gather = nn.MultiheadAttention(width, num_heads=4, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        nn.init.normal_(self.table.weight, std=0.5)
        nn.init.normal_(self.position, std=0.1)
        nn.init.normal_(self.queries, std=1.0)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return (B, L, D) embeddings of `prompts`."""
        rows = [WORD.findall(prompt.lower()) for prompt in prompts]
        for prompt, words in zip(prompts, rows, strict=True):
            if len(words) > self.words:
                raise InputError(f"prompt {prompt[:40]!r}...: expected at most {self.words} words, got {len(words)}")
        bags = [[zlib.crc32(gram.encode()) % self.buckets for gram in ngrams(word)] for words in rows for word in words]
        device = self.padding.device
        x_BWD = self.padding.expand(len(rows), self.words, -1).clone()
        if bags:
            flat = torch.tensor([bucket for bag in bags for bucket in bag], device=device)
            starts = torch.tensor([0, *[len(bag) for bag in bags[:-1]]], device=device).cumsum(0)
            at_row = torch.tensor([row for row, words in enumerate(rows) for _ in words], device=device)
            at_place = torch.tensor([place for words in rows for place in range(len(words))], device=device)
            x_BWD[at_row, at_place] = self.table(flat, starts).to(x_BWD.dtype)
        x_BWD = self.norm(self.layer(x_BWD + self.position))
        queries_BLD = self.queries.expand(len(rows), -1, -1)
        answers_BLD, _ = self.gather(queries_BLD, x_BWD, x_BWD, need_weights=False)
        return answers_BLD + self.mix(answers_BLD)

    forward = encode
