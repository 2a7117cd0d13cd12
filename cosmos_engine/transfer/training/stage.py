"""One training stage: updates of a module on a loss, with EMA, a JSON-lines log, checkpoints and exact resume."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from cosmos_engine.data import atomic_file
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained.

    Attributes:
        updates: optimiser updates; the learning rate is constant and falls linearly to 0 over the last `decay_share`.
        batch: clips an update.
        frames: frames a clip, 4k + 1.
        rate: AdamW's learning rate; betas 0.9 and 0.95, no weight decay.
        warmup: updates in which the rate rises.
        ema: decay of the weights' moving average.
        save_every: updates between checkpoints.
    """

    updates: int = 1000
    batch: int = 8
    frames: int = 9
    rate: float = 1e-3
    warmup: int = 50
    decay_share: float = 0.3
    ema: float = 0.995
    save_every: int = 200
    seed: int = 0


class Stage:
    """Train `module`; `module` itself ends as its EMA.

    A checkpoint is one safetensors file (weights, EMA, optimiser state, number of updates) that replaces the one before
    atomically. Randomness of update i must come from (seed, i) alone; then a resumed run equals an uninterrupted one.
    """

    def __init__(self, name: str, module: nn.Module, config: StageConfig, folder: Path) -> None:
        self.name, self.module, self.config, self.folder = name, module, config, folder
        self.average = copy.deepcopy(module).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=config.rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.done = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{name}.safetensors"
        if self._file.is_file():
            self._load()

    def run(self, loss: Callable[[int], Tensor], after_save: Callable[[int], None] | None = None) -> None:
        """Run the updates that are left.

        Args:
            loss: update number -> scalar loss with its graph.
            after_save: called after each checkpoint with the number of updates done; the EMA is `self.average`.

        Raises:
            InputError: the loss is not finite; the last checkpoint is kept.
        """
        config = self.config
        self.module.train()
        updates = range(self.done, config.updates)
        with (
            (self.folder / "log.jsonl").open("a") as log,
            tqdm(updates, self.name, config.updates, initial=self.done, unit="update") as bar,
        ):
            for update in bar:
                started = time.perf_counter()
                for group in self.optimizer.param_groups:
                    group["lr"] = config.rate * _rate_factor(update, config)
                self.optimizer.zero_grad(set_to_none=True)
                value = loss(update)
                if not math.isfinite(value.item()):
                    raise InputError(
                        f"{self.name}: loss is {value.item()} at update {update}; the state of update "
                        f"{update - update % config.save_every} is kept in {self._file}"
                    )
                value.backward()
                nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
                self.optimizer.step()
                self._update_average(update)
                self.done = update + 1
                seconds = time.perf_counter() - started
                row = {"stage": self.name, "update": update, "loss": round(value.item(), 5), "s": round(seconds, 3)}
                log.write(json.dumps(row) + "\n")
                bar.set_postfix(loss=f"{value.item():.4f}")
                if self.done % config.save_every == 0 or self.done == config.updates:
                    log.flush()
                    self._save()
                    if after_save is not None:
                        after_save(self.done)
        self.module.load_state_dict(self.average.state_dict())
        self.module.eval()

    @torch.no_grad()
    def _update_average(self, update: int) -> None:
        decay = min(self.config.ema, (1 + update) / (10 + update))
        for average, value in zip(self.average.parameters(), self.module.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
        for kept, latest in zip(self.average.buffers(), self.module.buffers(), strict=True):
            kept.copy_(latest)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for parameter, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{parameter}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        return {key: value.contiguous() for key, value in tensors.items()}

    def _save(self) -> None:
        with atomic_file(self._file) as file:
            safetensors.torch.save_file(self._tensors(), file, metadata={"updates": str(self.done)})

    def _load(self) -> None:
        try:
            with safe_open(self._file, "pt") as stored:
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
                self.done = int((stored.metadata() or {})["updates"])
            self.module.load_state_dict(_under(tensors, "module."))
            self.average.load_state_dict(_under(tensors, "average."))
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise InputError(f"{self._file}: no checkpoint of this training: {str(error).splitlines()[0]}") from error
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, "optimizer.").items():
            parameter, slot = key.split(".", 1)
            state.setdefault(int(parameter), {})[slot] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _rate_factor(update: int, config: StageConfig) -> float:
    """Return the factor of the learning rate: warm-up, constant, linear decay to 0."""
    decay_from = config.updates * (1 - config.decay_share)
    falling = (config.updates - update) / max(config.updates - decay_from, 1)
    return min((update + 1) / config.warmup, 1.0, falling)
