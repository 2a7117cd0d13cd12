"""A job with two workers as a program of its own, to be killed: python small_job.py RECORDING OUT LOG WORKERS."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import SeededGate, SeededGenerator

from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.job import augment
from cosmos_engine.data import Recording

CONFIG = AugmentConfig(variants=4, seed=5, batch=2)
PERCENT = 78


class LoggedGenerator(SeededGenerator):
    """Note every call of `generate` in a file that several processes append to."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log

    def generate(self, clips, prompts, seeds):
        handle = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{list(seeds)}\n".encode())
        os.close(handle)
        return super().generate(clips, prompts, seeds)


def opened(log: Path) -> tuple[LoggedGenerator, SeededGate]:
    return LoggedGenerator(log), SeededGate(PERCENT)


def run(recording: Path, out: Path, log: Path, workers: int) -> None:
    openers = [functools.partial(opened, log)] * workers if workers > 1 else ()
    augment(Recording(recording), out, LoggedGenerator(log), CONFIG, gate=SeededGate(PERCENT), workers=openers)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
