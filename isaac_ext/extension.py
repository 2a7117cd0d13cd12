"""The extension `cosmos.engine` as Kit starts it: menu, hotkeys, window. Imported in Kit only."""

from __future__ import annotations

import omni.ext

from isaac_ext import kit
from isaac_ext.session import Session
from isaac_ext.settings import EXTENSION
from isaac_ext.window import AugmentWindow

MENU = "Cosmos Engine"
AUGMENT, RECORD, REPORT = "Augment episode", "Record episode", "Open report"


class CosmosEngineExtension(omni.ext.IExt):  # type: ignore[misc]
    """Own the session, the menu and the hotkeys from startup to shutdown."""

    def on_startup(self, ext_id: str) -> None:
        """Add the menu and listen to the hotkeys; the window is made when it is first asked for."""
        kit.add_packages()
        self._window: AugmentWindow | None = None
        self._keys: kit.Keys | None = None
        self._session = Session()
        entries = {AUGMENT: self.show_window, RECORD: self.show_window, REPORT: self.open_report}
        self._menu = kit.add_menu(MENU, entries)
        keys = {
            self._key("record", "F8"): self.toggle_recording,
            self._key("success", "F9"): self._session.mark_success,
            self._key("discard", "F6"): self._session.discard,
        }
        try:
            self._keys = kit.Keys(keys)
        except ValueError as error:
            kit.notify(str(error), True)

    def on_shutdown(self) -> None:
        """Stop what runs, keep what is recorded, take menu and window away."""
        if self._keys is not None:
            self._keys.close()
        kit.remove_menu(MENU, self._menu)
        if self._window is not None:
            self._window.destroy()
            self._window = None
        self._session.close()

    @property
    def session(self) -> Session:
        """What the window shows; scripts may drive it."""
        return self._session

    def show_window(self) -> None:
        """Show the window."""
        if self._window is None:
            self._window = AugmentWindow(self._session)
        self._window.visible = True

    def toggle_recording(self) -> None:
        """Begin or end an episode."""
        kit.run(self._session.toggle_recording())

    def open_report(self) -> None:
        """Write the report of the last dataset and open it."""
        kit.run(self._session.open_report())

    def _key(self, name: str, default: str) -> str:
        return kit.read_setting(f"/exts/{EXTENSION}/hotkey_{name}") or default
