"""Tests that Kit's own test runner finds and runs inside Isaac Sim (`[[test]]` of the manifest)."""

from __future__ import annotations

import omni.kit.test

from isaac_ext import kit
from isaac_ext.selfcheck import check_all, scratch_folder
from isaac_ext.session import Session
from isaac_ext.window import AugmentWindow


class TestCosmosEngine(omni.kit.test.AsyncTestCase):  # type: ignore[misc]
    """Check the promises that need a renderer."""

    async def test_window_opens_and_closes(self) -> None:
        window = AugmentWindow(Session())
        for _ in range(5):
            await kit.next_update()
        window.destroy()

    async def test_every_promise_of_the_selfcheck_holds(self) -> None:
        verdicts = await check_all(scratch_folder())
        failed = [f"{verdict.promise}: {verdict.detail}" for verdict in verdicts if not verdict.passed]
        assert not failed, failed
