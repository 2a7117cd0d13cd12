"""What the window's buttons do: one recorder, one process of the engine, and what came of it. Draws nothing."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cosmos_engine.errors import InputError
from isaac_ext import kit, settings
from isaac_ext.engine import AugmentJob, EngineProcess, EngineStatus
from isaac_ext.recorder import DemoRecorder
from isaac_ext.recorder_config import RecorderConfig
from isaac_ext.settings import absolute

_LOG_LINES = 200
Task = Literal["", "augment", "pictures", "report"]


@dataclass(frozen=True)
class Picture:
    """Name one picture of the finished dataset."""

    path: str
    camera: str
    variant: int
    """0 is the recorded one."""


class Session:
    """Hold the state behind the window; what goes wrong in a coroutine is shown as a notification."""

    def __init__(self, notify: Callable[[str, bool], None] = kit.notify) -> None:
        """Begin with the settings that were kept.

        Args:
            notify: shows a line; the flag says whether it is an error.
        """
        self.settings = settings.load()
        self.engine_python = settings.engine_python()
        self.pictures: list[Picture] = []
        self.status = EngineStatus()
        self.task: Task = ""
        self.rendered = (0, 0)
        """Frames of the present episode that are rendered, of how many."""
        self._notify = notify
        self._told: list[str] = []
        self._recorder: DemoRecorder | None = None
        self._process: EngineProcess | None = None
        if (job := settings.unfinished_job()) is not None:
            self.change(job=job)
            self._notify(f"{job.out}: was not finished when Isaac Sim ended; 'Augment' goes on with it", False)

    def change(self, **values: Any) -> None:
        """Change fields of the settings and keep them."""
        self.settings = replace(self.settings, **values)
        settings.keep(self.settings)

    def change_job(self, **values: Any) -> None:
        """Change fields of the augmentation job and keep them."""
        self.change(job=replace(self.settings.job, **values))

    @property
    def recorder_state(self) -> str:
        """What the recorder is doing, and how far it is."""
        if self._recorder is None:
            return "not open"
        state = self._recorder.state
        if state == "recording":
            return f"recording, {self._recorder.steps} control steps"
        if state == "rendering":
            return f"rendering frame {self.rendered[0]} of {self.rendered[1]}"
        waiting = len(self._recorder.pending)
        return f"{self._recorder.episodes} episodes" + (f", {waiting} to render" if waiting else "")

    @property
    def is_recording(self) -> bool:
        """Whether an episode is in progress."""
        return self._recorder is not None and self._recorder.state == "recording"

    @property
    def log(self) -> list[str]:
        """The last lines of the engine, and the commands that it was started with."""
        return self._told + (self._process.log if self._process is not None else [])

    # Recording

    async def toggle_recording(self) -> None:
        """Begin an episode, or end the one in progress and keep it."""
        if self.is_recording:
            await self._shown(self._stop())
        else:
            await self._shown(self._start())

    def mark_success(self) -> None:
        """Say that the episode in progress reached its goal."""
        try:
            self._open_recorder().mark_success()
            self._notify("episode marked as a success", False)
        except InputError as error:
            self._notify(str(error), True)

    def discard(self) -> None:
        """Drop the episode in progress."""
        try:
            self._open_recorder().discard()
            self._notify("episode discarded", False)
        except InputError as error:
            self._notify(str(error), True)

    async def render_pending(self) -> None:
        """Render the episodes that only states were kept of."""
        await self._shown(self._render_pending())

    # Augmenting

    async def augment(self) -> None:
        """Run the engine on the recording, then fetch pictures of what it made; the same job goes on where it was."""
        await self._shown(self._augment())

    async def open_report(self) -> None:
        """Have the engine write its report of the dataset, and open it in the browser."""
        await self._shown(self._report())

    def cancel(self) -> None:
        """Stop the engine; what is done is kept."""
        if self._process is not None:
            self._process.cancel()

    def close(self) -> None:
        """Stop the engine and give everything back; an episode in progress is kept where it can be."""
        if self._process is not None:
            self._process.close()
        if self._recorder is not None:
            try:
                self._recorder.close()
            except InputError as error:
                self._notify(str(error), True)
            self._recorder = None

    async def _start(self) -> None:
        recorder = self._open_recorder()
        await recorder.start()
        self._notify("recording", False)

    async def _stop(self) -> None:
        index = await self._open_recorder().stop(on_frame=self._rendered)
        self._notify(f"episode {index} recorded", False)

    async def _render_pending(self) -> None:
        made = await self._open_recorder().render_pending(on_frame=self._rendered)
        self._notify(f"{len(made)} episodes rendered", False)

    def _open_recorder(self) -> DemoRecorder:
        config: RecorderConfig = self.settings.recorder_config()
        if self._recorder is not None and self._recorder.state == "idle" and self._recorder.config != config:
            self._recorder.close()
            self._recorder = None
        if self._recorder is None:
            self._recorder = DemoRecorder(config, say=lambda line: self._notify(line, False))
            if not self.settings.job.recording:
                self.change_job(recording=config.folder)
        return self._recorder

    def _rendered(self, done: int, total: int) -> None:
        self.rendered = (done, total)

    def _job(self) -> AugmentJob:
        """Return the job of the window with whole paths."""
        job = self.settings.job
        paths: dict[str, Any] = {name: absolute(name, getattr(job, name)) for name in ("recording", "out", "weights")}
        return replace(job, **paths)

    async def _augment(self) -> None:
        job = self._job()
        words = job.words()
        self.pictures = []
        settings.keep_unfinished(job)
        status = await self._run("augment", words)
        if status.cancelled:
            self._notify("stopped; 'Augment' goes on from here", False)
            return
        settings.keep_unfinished(None)
        if status.error:
            raise InputError(status.error)
        made = status.result
        self._notify(f"{job.out}: {made.get('accepted')} of {made.get('asked')} variants accepted", False)
        folder = Path(job.out).with_name(f"{Path(job.out).name}.pictures")
        shown = await self._run("pictures", ["isaac", "pictures", job.out, "--out", str(folder)])
        if shown.error:
            raise InputError(shown.error)
        self.status = status
        self.pictures = [
            Picture(str(line["picture"]), str(line["camera"]), int(line["variant"]))
            for line in shown.lines
            if "picture" in line
        ]

    async def _report(self) -> None:
        job = self._job()
        if not job.out:
            raise InputError("out: none is given")
        page = Path(job.out).with_name(f"{Path(job.out).name}.html")
        words = ["view", job.out, "--out", str(page)]
        status = await self._run("report", [*words, "--recording", job.recording] if job.recording else words)
        if status.error:
            raise InputError(status.error)
        webbrowser.open(page.resolve().as_uri())

    async def _run(self, task: Task, words: list[str]) -> EngineStatus:
        if self.task:
            raise InputError(f"engine: busy ({self.task}); cancel it first")
        process = EngineProcess(self.engine_python, words)
        self._told = [*self.log, f"> cosmos-engine {' '.join(words)}"][-_LOG_LINES:]
        self._process = process
        self.task = task
        try:
            self.status = self._process.poll()
            while self.status.exit_code is None:
                await kit.next_update()
                self.status = self._process.poll()
        finally:
            self.task = ""
        return self.status

    async def _shown(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work and show what a user did wrong as a notification."""
        try:
            await work
        except InputError as error:
            self._notify(str(error), True)
        except Exception as error:  # a defect: nobody reads a task's exception, so say that there is one
            self._notify(f"{type(error).__name__}: {error}; the log has the details", True)
            raise
