"""What the window was last set to, kept by Kit between runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cosmos_engine.errors import InputError
from isaac_ext import kit
from isaac_ext.engine import AugmentJob
from isaac_ext.recorder_config import RecorderConfig

EXTENSION = "cosmos.engine"
_KEPT = f"/persistent/exts/{EXTENSION}/window"
_UNFINISHED = f"/persistent/exts/{EXTENSION}/unfinished"
_ENGINE_PYTHON = f"/exts/{EXTENSION}/engine_python"


@dataclass(frozen=True)
class Settings:
    """Hold every field of the window."""

    folder: str = ""
    cameras: tuple[str, ...] = ()
    robot: str = ""
    manipulated: tuple[str, ...] = ()
    task: str = "task"
    instruction: str = ""
    height: int = 256
    width: int = 256
    control_hz: float = 20.0
    mode: str = "replay"
    job: AugmentJob = field(default_factory=AugmentJob)

    def recorder_config(self) -> RecorderConfig:
        """Return what to record.

        Raises:
            InputError: a field that no recording can be made with; names it.
        """
        return RecorderConfig(
            folder=absolute("recording folder", self.folder),
            cameras=self.cameras,
            robot=self.robot,
            manipulated=self.manipulated,
            task=self.task,
            instruction=self.instruction,
            height=self.height,
            width=self.width,
            control_hz=self.control_hz,
            mode=self.mode,
        )


def absolute(field: str, text: str) -> str:
    """Return a path that was typed into a field, `~` filled in; empty stays empty.

    Raises:
        InputError: it would depend on where Isaac Sim was started from.
    """
    if not text or Path(text).is_absolute():
        return text
    home, slash, rest = text.partition("/")
    if home == "~":
        return f"{Path.home()}{slash}{rest}"
    raise InputError(f"{field}: expected an absolute path, as in {Path.home() / text}, got {text!r}")


def to_json(settings: Settings) -> str:
    """Return settings as text that `from_json` reads."""
    return json.dumps(asdict(settings))


def from_json(text: str) -> Settings:
    """Return settings from text; what it lacks or is of another version keeps its default."""
    try:
        stored = json.loads(text)
    except ValueError:
        return Settings()
    if not isinstance(stored, dict):
        return Settings()
    job = stored.pop("job", None)
    return Settings(**_known(Settings(), stored), job=AugmentJob(**_known(AugmentJob(), job or {})))


def load() -> Settings:
    """Return what was kept, or the defaults."""
    return from_json(kit.read_setting(_KEPT))


def keep(settings: Settings) -> None:
    """Keep settings for the next run."""
    kit.write_setting(_KEPT, to_json(settings))


def engine_python() -> str:
    """Return the interpreter of the engine's environment that `isaac install` set, empty without one."""
    return kit.read_setting(_ENGINE_PYTHON)


def unfinished_job() -> AugmentJob | None:
    """Return the job that was running when Isaac Sim ended, if one was."""
    text = kit.read_setting(_UNFINISHED)
    return from_json(json.dumps({"job": json.loads(text)})).job if text else None


def keep_unfinished(job: AugmentJob | None) -> None:
    """Keep the job that is running, or that none is."""
    kit.write_setting(_UNFINISHED, "" if job is None else json.dumps(asdict(job)))


def _known(defaults: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """Return the stored values that the class still has, of the type that it has."""
    found = {}
    for known in fields(defaults):
        default = getattr(defaults, known.name)
        if known.name not in stored or known.name == "job":
            continue
        value = stored[known.name]
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(str(item) for item in value)
        if isinstance(value, type(default)):
            found[known.name] = value
    return found
