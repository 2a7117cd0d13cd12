"""The window of the extension: choose, record, augment, watch, look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import omni.ui as ui

from cosmos_engine.errors import InputError
from isaac_ext import kit, stage
from isaac_ext.recorder_config import MODES
from isaac_ext.session import Session

TITLE = "Cosmos Engine"
GENERATORS = ("transfer25-tiny", "transfer25-2b", "transfer25-2b-distilled", "texture", "photometric")
"""What `--generator` of the engine takes."""
_LABEL_PX = 130
_ROW_PX = 24
_PICTURE_PX = 160
_PICTURES_IN_A_ROW = 3
_LOG_LINES = 8


class AugmentWindow(ui.Window):  # type: ignore[misc]
    """Show a session; its buttons start coroutines and return at once."""

    def __init__(self, session: Session) -> None:
        """Build the window and keep it up to date until `destroy`."""
        super().__init__(TITLE, width=520, height=760, dockPreference=ui.DockPreference.MAIN)
        self._session = session
        self._shown_pictures: list[Any] = []
        self._alive = True
        with self.frame, ui.ScrollingFrame(), ui.VStack(spacing=4):
            with ui.CollapsableFrame("Record episode"), ui.VStack(spacing=4):
                self._build_recording()
            with ui.CollapsableFrame("Augment episode"), ui.VStack(spacing=4):
                self._build_job()
            with ui.CollapsableFrame("Result"), ui.VStack(spacing=4):
                self._pictures = ui.VStack(spacing=4)
                ui.Button("Open report", height=_ROW_PX, clicked_fn=self._starts(session.open_report))
        kit.run(self._refresh())

    def destroy(self) -> None:
        """Take the window away; the session lives on."""
        self._alive = False
        super().destroy()

    def _build_recording(self) -> None:
        now = self._session.settings
        change = self._session.change
        self._fields = {
            "cameras": self._text("Cameras", " ".join(now.cameras), lambda text: change(cameras=tuple(text.split()))),
            "robot": self._text("Robot", now.robot, lambda text: change(robot=text)),
            "manipulated": self._text(
                "Manipulated", " ".join(now.manipulated), lambda text: change(manipulated=tuple(text.split()))
            ),
        }
        ui.Button("Find cameras, robot and objects on the stage", height=_ROW_PX, clicked_fn=self._find)
        self._text("Task", now.task, lambda text: change(task=text))
        self._text("Instruction", now.instruction, lambda text: change(instruction=text))
        self._text("Recording folder", now.folder, lambda text: change(folder=text))
        self._number("Height", now.height, lambda number: change(height=number))
        self._number("Width", now.width, lambda number: change(width=number))
        self._number("Control steps / s", int(now.control_hz), lambda number: change(control_hz=float(number)))
        self._choice("Passes", MODES, now.mode, lambda word: change(mode=word))
        with ui.HStack(height=_ROW_PX, spacing=4):
            self._record = ui.Button("Record", clicked_fn=self._starts(self._session.toggle_recording))
            ui.Button("Success", clicked_fn=self._session.mark_success)
            ui.Button("Discard", clicked_fn=self._session.discard)
            ui.Button("Render pending", clicked_fn=self._starts(self._session.render_pending))
        self._recorder_line = ui.Label("", height=_ROW_PX)

    def _build_job(self) -> None:
        job = self._session.settings.job
        change = self._session.change_job
        self._text("Recording", job.recording, lambda text: change(recording=text))
        self._text("Dataset (.zarr)", job.out, lambda text: change(out=text))
        self._choice("Generator", GENERATORS, job.generator, lambda word: change(generator=word))
        self._text("Recipe", job.recipe, lambda text: change(recipe=text))
        self._text("Prompts", job.prompts, lambda text: change(prompts=text))
        self._number("Variants", job.variants, lambda number: change(variants=number))
        self._text("Weights (2b)", job.weights, lambda text: change(weights=text))
        with ui.HStack(height=_ROW_PX, spacing=4):
            ui.Button("Augment", clicked_fn=self._starts(self._session.augment))
            ui.Button("Cancel", clicked_fn=self._session.cancel)
        self._progress = ui.ProgressBar(height=_ROW_PX)
        self._progress_line = ui.Label("", height=_ROW_PX)
        self._log = ui.Label("", height=_LOG_LINES * _ROW_PX, word_wrap=True, alignment=ui.Alignment.LEFT_TOP)

    def _text(self, label: str, value: str, changed: Callable[[str], None]) -> Any:
        model = self._row(label, ui.StringField).model
        model.set_value(value)
        model.add_end_edit_fn(lambda edited: changed(edited.get_value_as_string().strip()))
        return model

    def _number(self, label: str, value: int, changed: Callable[[int], None]) -> None:
        model = self._row(label, ui.IntField).model
        model.set_value(value)
        model.add_end_edit_fn(lambda edited: changed(edited.get_value_as_int()))

    def _choice(self, label: str, words: tuple[str, ...], value: str, changed: Callable[[str], None]) -> None:
        with ui.HStack(height=_ROW_PX):
            ui.Label(label, width=_LABEL_PX)
            model = ui.ComboBox(words.index(value) if value in words else 0, *words).model
        model.add_item_changed_fn(lambda chosen, item: changed(words[chosen.get_item_value_model().get_value_as_int()]))

    def _row(self, label: str, field: Any) -> Any:
        with ui.HStack(height=_ROW_PX):
            ui.Label(label, width=_LABEL_PX)
            return field()

    def _starts(self, coroutine: Callable[[], Any]) -> Callable[[], None]:
        """Return a function that begins a coroutine and does not wait for it."""

        def clicked() -> None:
            kit.run(coroutine())

        return clicked

    def _find(self) -> None:
        """Fill in what the stage has: all cameras, the first articulation, the bodies that are not of it."""
        try:
            opened = kit.stage()
        except InputError as error:
            kit.notify(str(error), True)
            return
        cameras, robots = stage.camera_paths(opened), stage.articulation_paths(opened)
        objects = [
            path for path in stage.body_paths(opened) if not any(stage.is_under(path, robot) for robot in robots)
        ]
        self._session.change(cameras=tuple(cameras), robot=robots[0] if robots else "", manipulated=tuple(objects))
        for name, value in (("cameras", cameras), ("robot", robots[:1]), ("manipulated", objects)):
            self._fields[name].set_value(" ".join(value))
        missing = [what for what, found in (("camera", cameras), ("robot", robots), ("body", objects)) if not found]
        if missing:
            kit.notify(f"the stage has no {' and no '.join(missing)}", True)

    async def _refresh(self) -> None:
        while self._alive:
            self._show()
            await kit.next_update()

    def _show(self) -> None:
        session = self._session
        for widget, text in (
            (self._record, "Stop" if session.is_recording else "Record"),
            (self._recorder_line, session.recorder_state),
            (self._progress_line, progress_line(session)),
            (self._log, "\n".join(session.log[-_LOG_LINES:])),
        ):
            if widget.text != text:  # a new text lays the window out anew
                widget.text = text
        self._progress.model.set_value(session.status.fraction)
        if session.pictures != self._shown_pictures:
            self._shown_pictures = list(session.pictures)
            self._pictures.clear()
            with self._pictures:
                self._build_pictures()

    def _build_pictures(self) -> None:
        """Show the recorded frame beside its variants, camera by camera."""
        for camera in dict.fromkeys(picture.camera for picture in self._shown_pictures):
            ui.Label(camera, height=_ROW_PX)
            of_camera = [picture for picture in self._shown_pictures if picture.camera == camera]
            for first in range(0, len(of_camera), _PICTURES_IN_A_ROW):
                with ui.HStack(height=_PICTURE_PX + _ROW_PX, spacing=4):
                    for picture in of_camera[first : first + _PICTURES_IN_A_ROW]:
                        with ui.VStack(width=_PICTURE_PX):
                            ui.Image(picture.path, width=_PICTURE_PX, height=_PICTURE_PX)
                            ui.Label(f"variant {picture.variant}" if picture.variant else "recorded", height=_ROW_PX)


def progress_line(session: Session) -> str:
    """Return how far the engine is, in words."""
    status = session.status
    if status.exit_code is None and session.task:
        rest = "" if status.eta_s is None else f", {status.eta_s:.0f} s to go"
        return f"{status.stage or session.task}: {status.done} of {status.total}{rest}"
    if status.cancelled:
        return "stopped; 'Augment' goes on from here"
    if status.exit_code == 0 and "accepted" in status.result:
        return f"done: {status.result['accepted']} of {status.result.get('asked')} variants accepted"
    return status.error or ("done" if status.exit_code == 0 else "")
