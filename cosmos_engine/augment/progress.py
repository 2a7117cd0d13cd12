"""Progress of a job: one line a stage with an estimate, for a person (tqdm) or for a program (JSON lines)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

from tqdm import tqdm

Advance = Callable[[int], None]
"""Tell that so many more are done."""


@runtime_checkable
class Progress(Protocol):
    """Where a job tells how far it is."""

    def stage(self, name: str, total: int, done: int, unit: str) -> AbstractContextManager[Advance]:
        """Begin a stage of `total` units, of which `done` were done by an earlier run."""
        ...


class Bars:
    """A bar a stage on stderr."""

    @contextmanager
    def stage(self, name: str, total: int, done: int, unit: str) -> Iterator[Advance]:
        """Show a bar; as `Progress.stage`."""
        with tqdm(total=total, initial=done, desc=name, unit=unit) as bar:

            def advance(count: int) -> None:
                bar.update(count)

            yield advance


class JsonLines:
    """JSON lines {"stage", "done", "total", "eta_s"} on stdout, which then carries nothing else.

    eta_s is null until this run has done something.
    """

    @contextmanager
    def stage(self, name: str, total: int, done: int, unit: str) -> Iterator[Advance]:
        """Write a line at the start and one at each advance; as `Progress.stage`."""
        began_s, before = time.monotonic(), done

        def say() -> None:
            made = done - before
            rate_s = (time.monotonic() - began_s) / made if made else None
            eta_s = None if rate_s is None else round(rate_s * (total - done), 1)
            self._write({"stage": name, "done": done, "total": total, "eta_s": eta_s})

        def advance(count: int) -> None:
            nonlocal done
            done += count
            say()

        say()
        yield advance

    def finish(self, **result: object) -> None:
        """Write the last line: {"stage": "finished"} and what came of the job."""
        self._write({"stage": "finished", **result})

    def _write(self, line: dict[str, object]) -> None:
        print(json.dumps(line), flush=True)
