"""The mock-up pictures of the window show the window of today."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("pxr")

from window_picture import PICTURES, WIDGETS, outlines

from isaac_ext.session import Session

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture
def outlines_now(make_kit, in_kit) -> dict[str, str]:
    """What each picture would be drawn from today, and after a button was given another name."""
    kit = make_kit("6.0")
    found: dict[str, str] = {}

    async def look() -> None:
        from isaac_ext.window import AugmentWindow

        window = AugmentWindow(Session())
        found.update({name: outlines(window, titles) for name, titles in PICTURES.items()})
        kit.button("Success").given["text"] = "Reached"
        found.update({f"renamed {name}": outlines(window, titles) for name, titles in PICTURES.items()})
        window.destroy()

    in_kit(kit, look())
    return found


@pytest.mark.parametrize("name", PICTURES)
def test_picture_was_drawn_from_the_widgets_that_the_window_has(outlines_now: dict[str, str], name: str) -> None:
    """Where this fails: python tests/isaac_ext/window_picture.py docs/images"""
    with Image.open(IMAGES / name) as picture:
        assert picture.text[WIDGETS] == outlines_now[name]


def test_picture_of_another_window_is_noticed(outlines_now: dict[str, str]) -> None:
    changed = [name for name in PICTURES if outlines_now[name] != outlines_now[f"renamed {name}"]]
    assert changed == ["isaac_record.png"]
