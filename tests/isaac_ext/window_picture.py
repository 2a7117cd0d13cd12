"""Draw the extension's window as a mock-up, from the widgets that it makes on the stand-in for Kit.

    python tests/isaac_ext/window_picture.py docs/images

Widgets, sizes, texts and values are the window's own; a demo is recorded on the stand-in, and the variants shown are
made by the real engine from a demo of the embedded table-top. Fonts, colours and spacing are not Kit's. Each picture
carries the widgets that it was drawn from, and a test compares them with the window of today.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from cosmos_engine.cli import main as engine

HERE = Path(__file__).resolve().parent
WIDTH_PX, MARGIN_PX, ROW_PX, TITLE_PX = 520, 8, 24, 28
WIDGETS = "widgets"
"""Name of the PNG's text that holds what `outline` returned."""
PICTURES = {"isaac_record.png": ("Record episode",), "isaac_augment.png": ("Augment episode", "Result")}
"""File -> the frames of the window that it shows."""
BANNER = "MOCK-UP drawn from the window's widgets; not a picture of Isaac Sim"
GROUND, PANEL, FIELD, BUTTON, TEXT, DIM, ACCENT = (
    *("#2b2b2b", "#3a3a3a", "#1f1f1f", "#55585c", "#d8d8d8", "#9a9a9a", "#76b900"),
)


def kind_of(widget: Any) -> str:
    """Return the last word of a widget's class."""
    return str(widget.kit_name).rpartition(".")[2]


def frames_of(window: Any) -> dict[str, Any]:
    """Return title -> frame of a window, in their order."""
    found = {}
    waiting = [window.frame]
    while waiting:
        widget = waiting.pop(0)
        if kind_of(widget) == "CollapsableFrame":
            found[widget.given["title"]] = widget
        else:
            waiting += widget.children
    return found


def outline(widget: Any) -> list[Any]:
    """Return what a widget is and holds, without the values of the day: texts that change and pictures."""
    kept = {
        name: value
        for name, value in widget.given.items()
        if name in ("title", "width", "height", "spacing", "items")
        or (name == "text" and kind_of(widget) in ("Label", "Button"))
    }
    children = [outline(child) for child in widget.children]
    return [kind_of(widget), {name: kept[name] for name in sorted(kept)}, children]


def outlines(window: Any, titles: tuple[str, ...]) -> str:
    """Return the outlines of some frames of a window as JSON; the pictures of the result are left out."""
    found = {title: outline(frame) for title, frame in frames_of(window).items() if title in titles}
    if "Result" in found:
        found["Result"][2][0][2] = found["Result"][2][0][2][1:]
    return json.dumps(found)


class Drawing:
    """Lay out and draw frames of the window, one below the other."""

    def __init__(self, frames: list[Any], replaced: dict[str, str]) -> None:
        """Take what to draw, and parts of texts that are shown otherwise."""
        self._frames = frames
        self._replaced = replaced
        self._font = ImageFont.load_default(13)
        self._small = ImageFont.load_default(11)

    def image(self) -> Image.Image:
        """Draw."""
        inner = WIDTH_PX - 2 * MARGIN_PX
        height = sum(self._height(frame) + MARGIN_PX for frame in self._frames)
        image = Image.new("RGB", (WIDTH_PX, TITLE_PX + ROW_PX + height + MARGIN_PX), GROUND)
        self._image, self._draw = image, ImageDraw.Draw(image)
        self._draw.rectangle((0, 0, WIDTH_PX, TITLE_PX), fill="#202020")
        self._text("Cosmos Engine", MARGIN_PX, 0, TITLE_PX)
        self._draw.rectangle((0, TITLE_PX, WIDTH_PX, TITLE_PX + ROW_PX), fill="#6b4a00")
        self._text(BANNER, MARGIN_PX, TITLE_PX, ROW_PX, font=self._small)
        top = TITLE_PX + ROW_PX + MARGIN_PX
        for frame in self._frames:
            self._draw_widget(frame, MARGIN_PX, top, inner)
            top += self._height(frame) + MARGIN_PX
        return image

    def _height(self, widget: Any) -> int:
        if widget.given.get("height") is not None:
            return int(widget.given["height"])
        kind, heights = kind_of(widget), [self._height(child) for child in widget.children]
        if kind == "CollapsableFrame":
            return ROW_PX + MARGIN_PX + sum(heights)
        if kind == "VStack":
            return sum(heights) + int(widget.given.get("spacing", 0)) * max(0, len(heights) - 1)
        return max(heights, default=ROW_PX)

    def _draw_widget(self, widget: Any, left: int, top: int, width: int) -> None:
        height, kind = self._height(widget), kind_of(widget)
        box = (left, top, left + width, top + height)
        if kind == "CollapsableFrame":
            self._draw.rounded_rectangle(box, 4, fill=PANEL)
            self._draw.polygon([(left + 8, top + 9), (left + 18, top + 9), (left + 13, top + 16)], fill=TEXT)
            self._text(widget.given["title"], left + 24, top, ROW_PX)
            self._stack(widget, left + MARGIN_PX, top + ROW_PX, width - 2 * MARGIN_PX)
        elif kind == "VStack":
            self._stack(widget, left, top, width)
        elif kind == "HStack":
            self._row(widget, left, top, width)
        elif kind == "Label":
            self._lines(widget.__dict__.get("text", widget.given["text"]), left, top, width)
        elif kind == "Button":
            self._draw.rounded_rectangle(box, 3, fill=BUTTON)
            self._text(widget.__dict__.get("text", widget.given["text"]), left + width // 2, top, height, anchor="mm")
        elif kind == "ComboBox":
            self._draw.rounded_rectangle(box, 3, fill=FIELD)
            self._text(widget.given["items"][widget.given["current_index"]], left + 6, top, height)
            right = left + width
            self._draw.polygon([(right - 18, top + 9), (right - 8, top + 9), (right - 13, top + 15)], fill=DIM)
        elif kind in ("StringField", "IntField"):
            self._draw.rounded_rectangle(box, 3, fill=FIELD)
            self._text(str(widget.model.value), left + 6, top, height)
        elif kind == "ProgressBar":
            fraction = float(widget.model.value)
            self._draw.rounded_rectangle(box, 3, fill=FIELD)
            if fraction:
                self._draw.rounded_rectangle((left, top, left + round(width * fraction), top + height), 3, fill=ACCENT)
            self._text(f"{fraction:.0%}", left + width // 2, top, height, anchor="mm")
        elif kind == "Image":
            with Image.open(widget.given["source_url"]) as picture:
                self._image.paste(picture.convert("RGB").resize((width, height)), (left, top))
        else:
            raise ValueError(f"widget {kind}: the mock-up cannot draw it")

    def _stack(self, widget: Any, left: int, top: int, width: int) -> None:
        for child in widget.children:
            self._draw_widget(child, left, top, width)
            top += self._height(child) + int(widget.given.get("spacing", 0))

    def _row(self, widget: Any, left: int, top: int, width: int) -> None:
        spacing = int(widget.given.get("spacing", 0))
        fixed = [child.given.get("width") for child in widget.children]
        free = width - spacing * (len(fixed) - 1) - sum(size or 0 for size in fixed)
        shares = fixed.count(None)
        for child, size in zip(widget.children, fixed, strict=True):
            taken = int(size) if size is not None else free // shares
            self._draw_widget(child, left, top, taken)
            left += taken + spacing

    def _lines(self, text: str, left: int, top: int, width: int) -> None:
        lines = [part for line in self._shown(text).splitlines() for part in textwrap.wrap(line, width // 7) or [""]]
        for number, line in enumerate(lines):
            self._text(line, left, top + number * 18, ROW_PX, fill=TEXT if len(lines) == 1 else DIM)

    def _text(
        self, text: str, left: int, top: int, height: int, *, anchor: str = "lm", fill: str = TEXT, font: Any = None
    ) -> None:
        self._draw.text((left, top + height // 2), self._shown(text), fill=fill, font=font or self._font, anchor=anchor)

    def _shown(self, text: str) -> str:
        for part, other in self._replaced.items():
            text = text.replace(part, other)
        return text


def save(window: Any, name: str, folder: Path, replaced: dict[str, str]) -> None:
    """Draw the frames that a picture shows, as they are now."""
    titles = PICTURES[name]
    about = PngImagePlugin.PngInfo()
    about.add_text(WIDGETS, outlines(window, titles))
    frames = [frame for title, frame in frames_of(window).items() if title in titles]
    Drawing(frames, replaced).image().save(folder / name, pnginfo=about, optimize=True)
    print(folder / name)


async def use(kit: Any, scratch: Path, folder: Path) -> None:
    """Use the window as a user does, and draw it while recording and when variants are there."""
    from isaac_ext import kit as kit_module
    from isaac_ext import settings
    from isaac_ext.engine import AugmentJob
    from isaac_ext.extension import CosmosEngineExtension

    job = AugmentJob(str(scratch / "demos"), str(scratch / "pushes.zarr"), "transfer25-tiny", variants=2)
    kept = settings.Settings(
        folder=str(scratch / "pushes"), task="push", instruction="push the cube to the wall", job=job
    )
    kit.settings["/exts/cosmos.engine/engine_python"] = sys.executable
    kit.settings["/persistent/exts/cosmos.engine/window"] = settings.to_json(kept)
    kit.update_s = 0.01
    extension = CosmosEngineExtension()
    extension.on_startup("cosmos.engine-0.1.0")
    session = extension.session
    updates = asyncio.ensure_future(kit.run_updates())
    kit.click_menu("Cosmos Engine", "Record episode")
    (window,) = kit.windows
    kit.button("Find cameras, robot and objects on the stage").given["clicked_fn"]()
    kit.button("Record").given["clicked_fn"]()
    while not session.is_recording or session._recorder.steps < 20:
        await kit_module.next_update()
    replaced = {str(scratch / "demos"): "/data/pushes", str(scratch): "/data"}
    save(window, "isaac_record.png", folder, replaced)
    session.discard()
    await session.augment()
    for _ in range(2):
        await kit_module.next_update()
    assert session.pictures, kit.notifications
    save(window, "isaac_augment.png", folder, replaced)
    extension.on_shutdown()
    updates.cancel()


def main(folder: Path) -> None:
    """Make the demo, use the window, draw it."""
    sys.path.insert(0, str(HERE))
    from fake_kit import FakeKit, World, small_stage

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        scratch = Path(name)
        words = ["record", "--task", "lift", "--episodes", "1", "--out", str(scratch / "demos")]
        assert engine(words) == 0
        kit = FakeKit("6.0", World(small_stage()))
        kit.install(patch)
        asyncio.run(use(kit, scratch, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
