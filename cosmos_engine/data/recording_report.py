"""What a recording holds: the intact, the broken and the unfinished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_engine.data.atomic import temporaries
from cosmos_engine.data.episode_file import read_env_args, read_episode, reading_own
from cosmos_engine.data.lock import writer_of
from cosmos_engine.data.recording import INDEX, Recording
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class RecordingReport:
    """The outcome of `verify_recording`."""

    episodes: int
    """Committed episodes."""
    intact: int
    """Episodes whose every array was read and agrees with the others."""
    control_steps: int
    """Of the intact episodes."""
    broken: tuple[str, ...]
    """One line for each file that is damaged."""
    writer: str | None
    """Who is writing now, or None."""
    leftovers: tuple[str, ...]
    """Temporary files: of the writer at work, or of one that was killed (the next writer removes them)."""

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return not self.broken


def verify_recording(folder: str | Path) -> RecordingReport:
    """Read every array of every episode and say what is there.

    Raises:
        InputError: if the folder holds no recording, or an episode is missing between others.
    """
    recording = Recording(folder)
    broken: list[str] = []
    control_steps = 0
    for index in range(len(recording)):
        try:
            control_steps += read_episode(recording.path(index), extras=True).length
        except InputError as error:
            broken.append(str(error))
    intact = len(recording) - len(broken)
    broken.extend(_index_faults(recording))
    return RecordingReport(
        episodes=len(recording),
        intact=intact,
        control_steps=control_steps,
        broken=tuple(broken),
        writer=writer_of(recording.folder),
        leftovers=tuple(str(path) for path in temporaries(recording.folder)),
    )


def _index_faults(recording: Recording) -> list[str]:
    path = recording.folder / INDEX
    try:
        read_env_args(path)
        with reading_own(path) as index:
            listed = len(index["data"])
    except InputError as error:
        return [str(error)]
    if listed == len(recording):
        return []
    return [f"{path}: lists {listed} of {len(recording)} episodes; opening the recording for writing mends it"]
