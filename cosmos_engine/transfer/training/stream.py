"""The batches of a training stage, drawn ahead of need in threads so that a GPU does not wait for controls.

Batch i follows from (seed, stage, i) alone, whoever draws it and when.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
import torch
from torch import Tensor

from cosmos_engine.controls import Modality
from cosmos_engine.processes import Processes
from cosmos_engine.transfer.training.batch import Batch, DrawConfig, LoadedBatch, draw_batch, load_batch
from cosmos_engine.transfer.training.clips import ClipPool, training_indices
from cosmos_engine.transfer.training.stage import StageConfig


class Noise:
    """Random tensors of one update: drawn for the batch of all processes on the CPU, so the same on every device."""

    def __init__(self, seed: int, processes: Processes) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._processes = processes

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers of this process's share of a batch; `shape` is the share's."""
        return self._share(torch.randn(self._whole(shape), generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers even in [0, 1), as `normal`."""
        return self._share(torch.rand(self._whole(shape), generator=self._generator))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self._processes.count, *shape[1:])

    def _share(self, whole: Tensor) -> Tensor:
        return whole[self._processes.share(len(whole))].to(self._processes.device)


@dataclass(frozen=True)
class Drawn:
    """What one update computes on.

    Attributes:
        batch: this process's share of the batch, on its device.
        rng: for choices that all processes make alike.
        noise: for tensors.
    """

    batch: Batch
    rng: np.random.Generator
    noise: Noise


@dataclass(frozen=True)
class BatchSource:
    """Where batches come from.

    Attributes:
        pool: the clips.
        config: what a batch shows of them.
        processes: who shares a batch.
        only: the one control of every batch; None draws subsets.
        threads: batches drawn at the same time, ahead of need; 0 draws each when it is asked for.
        bfloat16: whether losses are computed in bfloat16 where that is safe; weights and their updates stay float32.
    """

    pool: ClipPool
    config: DrawConfig
    processes: Processes
    only: Modality | None = None
    threads: int = 0
    bfloat16: bool = True

    def autocast(self) -> torch.autocast:
        """Return the context in which losses are computed."""
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bfloat16)

    def stream(self, stage: int, config: StageConfig) -> BatchStream:
        """Return the batches of a stage, which is told from others by its number."""
        return BatchStream(self, stage, config)


class BatchStream:
    """Hand out the batches of one stage; a context manager."""

    def __init__(self, source: BatchSource, stage: int, config: StageConfig) -> None:
        self._source, self._stage, self._config = source, stage, config
        self._pending: dict[int, Future[tuple[LoadedBatch, np.random.Generator, int]]] = {}
        self._threads = ThreadPoolExecutor(source.threads) if source.threads else None
        if self._threads is not None:
            cv2.setNumThreads(1)  # threads of threads would only get in each other's way

    def __enter__(self) -> BatchStream:
        """Return the stream."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Forget what was drawn ahead."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def __getitem__(self, update: int) -> Drawn:
        """Return the batch of an update; asked in order, the next ones are being drawn already."""
        if self._threads is None:
            loaded, rng, seed = self._load(update)
        else:
            ahead = range(update, min(update + 2 * self._source.threads, self._config.updates))
            for coming in ahead:
                if coming not in self._pending:
                    self._pending[coming] = self._threads.submit(self._load, coming)
            loaded, rng, seed = self._pending.pop(update).result()
        processes = self._source.processes
        return Drawn(loaded.on(processes.device), rng, Noise(seed, processes))

    def _load(self, update: int) -> tuple[LoadedBatch, np.random.Generator, int]:
        source, config = self._source, self._config
        rng = np.random.default_rng((config.seed, self._stage, update))
        seed = int(rng.integers(2**31))
        indices = training_indices(source.pool)
        shrink = config.shrink_at(update)
        single = config.single_share > 0 and rng.random() < config.single_share
        size, frames = (config.batch * config.frames, 1) if single else (config.batch, config.frames)
        draw = draw_batch(source.pool, indices, size, frames, rng, source.config, source.only, shrink)
        own = type(draw)(draw.present, tuple(draw.clips[source.processes.share(len(draw.clips))]))
        loaded = load_batch(source.pool, own)
        return (loaded.pinned() if source.processes.device.type == "cuda" else loaded), rng, seed
