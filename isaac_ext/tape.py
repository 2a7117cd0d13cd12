"""A tape: what a simulator did, state by state, without pictures; passes are rendered from it later."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_engine.data.array_check import check_array
from cosmos_engine.data.atomic import write_file
from cosmos_engine.errors import InputError
from isaac_ext.stage import BodyPoses


@dataclass(frozen=True)
class Tape:
    """Hold t control steps of one robot and b bodies: row t is what was there before target t was followed."""

    joint_names: tuple[str, ...]
    body_paths: tuple[str, ...]
    positions: np.ndarray
    """float64 (t, j): joints, radians or metres."""
    velocities: np.ndarray
    """float64 (t, j): a second."""
    targets: np.ndarray
    """float64 (t, j): position targets that the drives follow until the next row."""
    poses: np.ndarray
    """float64 (t, b * 7): see `BodyPoses.flat`."""
    physics_step: np.ndarray
    """int64 (t,): the physics step that each row precedes, counted from the start of the episode."""
    step_hz: float
    seed: int
    episode_id: str
    task: str
    instruction: str
    success: bool

    def __post_init__(self) -> None:
        """Raise InputError, naming the array, if types or shapes do not fit each other."""
        steps, joints, bodies = len(self.physics_step), len(self.joint_names), len(self.body_paths)
        for name in ("positions", "velocities", "targets"):
            check_array(f"tape {name}", getattr(self, name), "f8", (steps, joints))
        check_array("tape poses", self.poses, "f8", (steps, bodies * 7))
        check_array("tape physics_step", self.physics_step, "i8", (steps,))

    def __len__(self) -> int:
        """Return the number of control steps."""
        return len(self.physics_step)

    def bodies(self, step: int) -> BodyPoses:
        """Return where the bodies were at a control step."""
        return BodyPoses.unflat(self.poses[step])

    def save(self, path: Path) -> None:
        """Write the tape to one file, atomically.

        Raises:
            InputError: the file system refuses; names the path.
        """
        arrays: dict[str, Any] = {}
        plain = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            else:
                plain[field.name] = value
        buffer = io.BytesIO()
        np.savez(buffer, plain=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays)
        write_file(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> Tape:
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or one that is truncated or damaged; names the path.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                stored: dict[str, Any] = {name: file[name] for name in file.files if name != "plain"}
                stored |= json.loads(file["plain"].tobytes())
            for name in ("joint_names", "body_paths"):
                stored[name] = tuple(stored[name])
            return Tape(**stored)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: no readable tape: {error}") from error


class TapeRows:
    """Gather the rows of a tape as they come."""

    def __init__(self, joint_names: Sequence[str], body_paths: Sequence[str]) -> None:
        """Begin with none."""
        self.joint_names = tuple(joint_names)
        self.body_paths = tuple(body_paths)
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self.steps: list[int] = []

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.steps)

    def add(
        self, step: int, positions: np.ndarray, velocities: np.ndarray, targets: np.ndarray, bodies: BodyPoses
    ) -> None:
        """Add what was there before physics step `step`."""
        self._rows.append((positions.copy(), velocities.copy(), targets.copy(), bodies.flat()))
        self.steps.append(step)

    def tape(self, *, step_hz: float, seed: int, episode_id: str, task: str, instruction: str, success: bool) -> Tape:
        """Return the tape of the rows.

        Raises:
            InputError: there are no rows.
        """
        if not self._rows:
            raise InputError("nothing was recorded: the timeline made no control step")
        positions, velocities, targets, poses = (
            np.stack(column).astype(np.float64) for column in zip(*self._rows, strict=True)
        )
        return Tape(
            joint_names=self.joint_names,
            body_paths=self.body_paths,
            positions=positions,
            velocities=velocities,
            targets=targets,
            poses=poses,
            physics_step=np.array(self.steps, np.int64),
            step_hz=step_hz,
            seed=seed,
            episode_id=episode_id,
            task=task,
            instruction=instruction,
            success=success,
        )
