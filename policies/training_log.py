"""The log of a training run: a JSON line per entry, and the same figures for TensorBoard where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from cosmos_engine.errors import InputError
from policies.run_folder import truncate_log

LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class TrainingLog:
    """Own the log of the run in `folder`; entries beyond the update that the run resumes from are dropped.

    Args:
        folder: of the run.
        update: the one that the run resumes from; 0 for a fresh run.
        tensorboard: also write event files to `folder`/tensorboard (extra `tensorboard`).

    Raises:
        InputError: if TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, update: int, *, tensorboard: bool = False) -> None:
        self._curves = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise InputError("--tensorboard: needs the extra `tensorboard` (pip install tensorboard)") from error
            self._curves = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=update + 1)
        truncate_log(folder / LOG_FILE, "update", update)
        self._lines = (folder / LOG_FILE).open("a", encoding="utf-8")

    def write(self, entry: Mapping[str, int | float]) -> None:
        """Append the figures of one update; `entry["update"]` says which."""
        self._lines.write(json.dumps(dict(entry)) + "\n")
        self._lines.flush()
        if self._curves is not None:
            for name in entry.keys() - {"update"}:
                self._curves.add_scalar(f"train/{name}", entry[name], int(entry["update"]))

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        if self._curves is not None:
            self._curves.close()
