"""A window that shows frames as they happen, by Tk, which most Pythons bring."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.errors import InputError

WINDOW_PIXELS = 512
"""Smaller frames are enlarged to about this height."""


class LiveWindow:
    """Own a window. Close it, or use it as a context manager.

    Args:
        title: of the window.
        rate_hz: frames are shown no faster than this.

    Raises:
        InputError: if this Python has no Tk, or there is no display.
    """

    def __init__(self, title: str, rate_hz: float) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise InputError("window: this Python has no Tk (on Debian or Ubuntu: python3-tk); use --out") from error
        try:
            self._root: Any = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(f"window: no display ({' '.join(str(error).split())}); use --out for videos") from error
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._image: Any = None  # Tk keeps no reference to what it shows
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._mark_closed)
        self._period_s = 1.0 / rate_hz
        self._due_s = time.monotonic()

    def show(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Show a frame when its time has come.

        Raises:
            KeyboardInterrupt: if the user closed the window.
        """
        from PIL import Image, ImageTk

        scale = max(1, round(WINDOW_PIXELS / frame.shape[0]))
        picture = Image.fromarray(frame).resize((frame.shape[1] * scale, frame.shape[0] * scale))
        self._image = ImageTk.PhotoImage(picture, master=self._root)
        self._label.configure(image=self._image)
        self._root.update()
        if not self._open:
            raise KeyboardInterrupt
        now_s = time.monotonic()
        # Frames that come late are not caught up on: the next one is due a period after this one.
        self._due_s = max(self._due_s, now_s - self._period_s) + self._period_s
        time.sleep(max(0.0, self._due_s - now_s))

    def close(self) -> None:
        """Take the window away; safe to call twice."""
        self._open = False
        if self._root is not None:
            self._root.destroy()
            self._root = None

    def __enter__(self) -> LiveWindow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mark_closed(self) -> None:
        self._open = False
