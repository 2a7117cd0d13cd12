"""One training stage: updates of a module on a loss, with EMA, a JSON-lines log, checkpoints and exact resume."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from cosmos_engine.data import make_folder, write_file
from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes
from cosmos_engine.transfer.weights import write_safetensors


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained.

    Attributes:
        updates: optimiser updates; the learning rate is constant and falls linearly to 0 over the last `decay_share`.
            0 leaves the stage out.
        batch: clips an update, of all processes together.
        frames: frames a clip, 4k + 1.
        single_share: share of the updates that show single frames in place of clips, as many as all clips have.
        shrink: at first clips are shown at one part in so many of their size, which is that much squared cheaper.
        shrink_share: share of the updates in which they are.
        rate: AdamW's learning rate; betas 0.9 and 0.95, no weight decay.
        warmup: updates in which the rate rises.
        ema: decay of the weights' moving average.
        save_every: updates between checkpoints.

    Raises:
        InputError: a number out of range.
    """

    updates: int = 1000
    batch: int = 8
    frames: int = 9
    single_share: float = 0.0
    shrink: int = 1
    shrink_share: float = 0.5
    rate: float = 1e-3
    warmup: int = 50
    decay_share: float = 0.3
    ema: float = 0.995
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        least_of = {"updates": 0, "batch": 1, "frames": 1, "shrink": 1, "warmup": 1, "save_every": 1, "seed": 0}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        for name in ("ema", "decay_share", "single_share", "shrink_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: expected a number in [0, 1], got {getattr(self, name):g}")
        if not self.rate > 0:
            raise InputError(f"rate: expected a number above 0, got {self.rate:g}")

    def shrink_at(self, update: int) -> int:
        """Return one part in how many of their size clips are shown at in an update."""
        return self.shrink if update < self.shrink_share * self.updates else 1


class Stage:
    """Train `module`; `module` itself ends as its EMA.

    A checkpoint is one safetensors file (weights, EMA, optimiser state, number of updates) that replaces the one before
    atomically. Randomness of update i must come from (seed, i) alone; then a resumed run equals an uninterrupted one.

    Args:
        name: of the stage's file, `<name>.safetensors`, and of its rows in `log.jsonl`.
        module: on the device of `processes`; of several processes all hold the same weights.
        config: how it is trained.
        folder: the run's.
        processes: whose gradients are averaged; the first one writes the files.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        config: StageConfig,
        folder: Path,
        processes: Processes | None = None,
    ) -> None:
        self.name, self.module, self.config, self.folder = name, module, config, folder
        self.average = copy.deepcopy(module).requires_grad_(False)
        self.processes = processes or Processes()
        self.optimizer = adam(module, config.rate, self.processes.device)
        self.done = 0
        self.figures: dict[str, float] = {}
        """What the loss wants logged of this update beside itself."""
        make_folder(folder)
        self._file = folder / f"{name}.safetensors"
        self._log = folder / "log.jsonl"
        if self._file.is_file():
            self._load()
        self._kept = self.done
        if self.processes.is_first:
            self._forget_lost_rows()

    def run(self, loss: Callable[[int], Tensor], after_save: Callable[[int], None] | None = None) -> None:
        """Run the updates that are left.

        Args:
            loss: update number -> scalar loss with its graph.
            after_save: called in the first process after each checkpoint with the number of updates done; the EMA is
                `self.average`.

        Raises:
            InputError: the loss or its gradient is not finite; the last checkpoint is kept.
        """
        config = self.config
        first = self.processes.is_first
        self.module.train()
        updates = range(self.done, config.updates)
        with (
            self._log.open("a") as log,
            tqdm(updates, self.name, config.updates, initial=self.done, unit="update", disable=not first) as bar,
        ):
            for update in bar:
                started = time.perf_counter()
                self.figures = {}
                value = self._update(update, loss)
                self.done = update + 1
                if first:
                    figures = {name: round(figure, 5) for name, figure in self.figures.items()}
                    row = {"stage": self.name, "update": update, "loss": round(value, 5), **figures}
                    log.write(json.dumps({**row, "s": round(time.perf_counter() - started, 3)}) + "\n")
                    bar.set_postfix(loss=f"{value:.4f}")
                if self.done % config.save_every == 0 or self.done == config.updates:
                    if first:
                        log.flush()
                        self._save()
                        if after_save is not None:
                            after_save(self.done)
                    self._kept = self.done
        self.module.load_state_dict(self.average.state_dict())
        self.module.eval()

    def _update(self, update: int, loss: Callable[[int], Tensor]) -> float:
        """Make one update and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * _rate_factor(update, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        value = loss(update)
        value.backward()
        self.processes.average_gradients(self.module.parameters())
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        shown = torch.stack(
            [self.processes.mean(value.detach()).float(), norm.float()]
        ).tolist()  # one wait for the device, not two
        for name, number in zip(("loss", "the gradient"), shown, strict=True):
            if not math.isfinite(number):
                kept = f"the state of update {self._kept} is kept in {self._file}" if self._kept else "nothing was kept"
                raise InputError(f"{self.name}: {name} is {number} at update {update}; {kept}")
        self.optimizer.step()
        self._update_average(update)
        return float(shown[0])

    @torch.no_grad()
    def _update_average(self, update: int) -> None:
        decay = min(self.config.ema, (1 + update) / (10 + update))
        averages: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(self.module.parameters())
        if self.processes.device.type == "cuda":
            torch._foreach_lerp_(averages, values, 1 - decay)  # hundreds of small tensors: one kernel, not one each
        else:
            for average, value in zip(averages, values, strict=True):
                average.lerp_(value, 1 - decay)
        for kept, latest in zip(self.average.buffers(), self.module.buffers(), strict=True):
            kept.copy_(latest)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        tensors |= {f"optimizer.{key}": value for key, value in optimizer_state(self.optimizer).items()}
        return {key: value.contiguous() for key, value in tensors.items()}

    def _save(self) -> None:
        write_safetensors(self._file, self._tensors(), {"updates": str(self.done)})

    def _load(self) -> None:
        try:
            with safe_open(self._file, "pt") as stored:
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
                self.done = int((stored.metadata() or {})["updates"])
            self.module.load_state_dict(_under(tensors, "module."))
            self.average.load_state_dict(_under(tensors, "average."))
            load_optimizer(self.optimizer, _under(tensors, "optimizer."))
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{self._file}: no checkpoint of this training: {str(error).splitlines()[0]}") from error

    def _forget_lost_rows(self) -> None:
        """Drop log rows of updates that were lost with a killed process, since they will be made again."""
        rows = self._log.read_text().splitlines() if self._log.is_file() else []
        kept = [row for row in rows if not self._is_lost(row)]
        if len(kept) < len(rows):
            write_file(self._log, "".join(f"{row}\n" for row in kept).encode())

    def _is_lost(self, row: str) -> bool:
        try:
            told = dict(json.loads(row))
        except ValueError:
            return True  # cut off when the process was killed
        return told.get("stage") == self.name and told.get("update", 0) >= self.done


def adam(
    module: nn.Module, rate: float, device: torch.device, betas: tuple[float, float] = (0.9, 0.95)
) -> torch.optim.AdamW:
    """Return AdamW without weight decay; on a GPU as one kernel."""
    fused = True if device.type == "cuda" else None
    return torch.optim.AdamW(module.parameters(), lr=rate, betas=betas, weight_decay=0.0, fused=fused)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser as tensors named `<parameter>.<slot>`."""
    states = optimizer.state_dict()["state"].items()
    return {f"{number}.{slot}": torch.as_tensor(value) for number, slots in states for slot, value in slots.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Go on from what `optimizer_state` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        parameter, slot = key.split(".", 1)
        state.setdefault(int(parameter), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _rate_factor(update: int, config: StageConfig) -> float:
    """Return the factor of the learning rate: warm-up, constant, linear decay to 0."""
    decay_from = config.updates * (1 - config.decay_share)
    falling = (config.updates - update) / max(config.updates - decay_from, 1)
    return min((update + 1) / config.warmup, 1.0, falling)
