"""Isaac Sim, as far as it can be stood in for, for the tests of what runs inside it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not sync: it matters after a power cut, which no test makes, and takes minutes on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def make_kit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Install a strict stand-in for Kit of one version over a small stage."""
    pytest.importorskip("pxr")
    from fake_kit import FakeKit, World, small_stage

    from isaac_ext import kit

    def make(version: str = "5.1", *, labelled: bool = False, **world: Any) -> Any:
        made = FakeKit(version, World(small_stage(labelled=labelled), **world))
        made.install(monkeypatch)
        kit.isaac_sim_version.cache_clear()
        for name in ("isaac_ext.window", "isaac_ext.extension", "isaac_ext.in_kit_tests"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        return made

    yield make
    kit.isaac_sim_version.cache_clear()


@pytest.fixture
def in_kit() -> Callable[[Any, Any], Any]:
    """Run a coroutine on the application's loop, which goes on updating meanwhile, and return its result."""

    def run(kit: Any, coroutine: Any) -> Any:
        async def main() -> Any:
            updates = asyncio.ensure_future(kit.run_updates())
            try:
                return await asyncio.wait_for(coroutine, 300)
            finally:
                updates.cancel()
                for task in kit.tasks:
                    task.cancel()
                await asyncio.gather(updates, *kit.tasks, return_exceptions=True)
                kit.tasks.clear()
                kit.waiting.clear()

        return asyncio.run(main())

    return run
