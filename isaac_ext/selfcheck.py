"""One verdict for every promise that can only be kept inside Isaac Sim; what an RTX owner runs once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError
from isaac_ext import kit
from isaac_ext.demo import state_parts
from isaac_ext.franka import CUBE, FrankaConfig, record_demos
from isaac_ext.selfcheck_looks import looks_show
from isaac_ext.stage import PoseLayer, is_under, world_poses

_CENTRE_PX = 6.0
"""How far the seen cube's centre may be from where its recorded pose is drawn, at 256 pixels."""
_DEPTH_M = 0.06
"""How far the seen cube's depth may be from its recorded centre: half a cube's diagonal and a little."""


@dataclass(frozen=True)
class Verdict:
    """Tell whether a promise holds here."""

    promise: str
    passed: bool
    detail: str


async def check_all(folder: Path) -> list[Verdict]:
    """Record two short demos in an empty folder and check what they show; prints one line a promise.

    Returns:
        the verdicts, also written to `selfcheck.json` in the folder.
    """
    verdicts: list[Verdict] = []

    async def check(promise: str, body: Callable[[], Awaitable[str]]) -> None:
        try:
            verdict = Verdict(promise, True, await body())
        except Exception as error:  # the next promises are still worth knowing
            verdict = Verdict(promise, False, f"{type(error).__name__}: {error}")
        verdicts.append(verdict)
        print(f"{'PASS' if verdict.passed else 'FAIL'}  {verdict.promise}: {verdict.detail}", flush=True)

    recording = folder / "demos"

    async def version() -> str:
        return ".".join(str(part) for part in kit.isaac_sim_version())

    async def packages() -> str:
        import h5py

        return f"numpy {np.__version__}, h5py {h5py.__version__}"

    async def record() -> str:
        made = await record_demos(FrankaConfig(folder=str(recording), episodes=2))
        return f"{made} demos"

    async def live() -> str:
        made = await record_demos(FrankaConfig(folder=str(folder / "live"), episodes=1, mode="live"))
        return f"{made} demo, no physics step while a frame was rendered"

    await check("the version is 5.1 or later", version)
    await check("numpy and h5py are there", packages)
    await check("scripted demos are recorded, states first", record)
    await check("every camera sees something, and robot and object are seen", lambda: _everything_seen(recording))
    await check("passes show the recorded states", lambda: _aligned(recording))
    await check("the first frame is not stale", lambda: _first_frame_fresh(recording))
    await check("targets lead the joints", lambda: _targets_lead(recording))
    await check("the stage is as it was after a replay", _stage_restored)
    await check("scripted demos are recorded live, aligned with physics", live)
    await check("every look shows and is taken back", lambda: looks_show(folder))
    text = json.dumps([vars(verdict) for verdict in verdicts], indent=1)
    (folder / "selfcheck.json").write_text(text, encoding="utf-8")
    passed = sum(verdict.passed for verdict in verdicts)
    print(f"{passed} of {len(verdicts)} promises hold", flush=True)
    return verdicts


def cube_errors(episode: Any, camera: str, lag: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return, for the frames that show the cube whole, how far it is from where its recorded pose is drawn.

    Args:
        episode: an episode of `record_demos`.
        camera: name of a camera.
        lag: the pose of so many rows later is drawn in place of the frame's own.

    Returns:
        pixels between the mask's centre and the projected centre (n,), metres between the mask's median depth and the
        centre's depth (n,).
    """
    passes = episode.cameras[camera]
    instance = next(number for number, label in episode.labels.items() if is_under(label.name, CUBE))
    joints = episode.actions.shape[1]
    height, width = passes.size
    pixels, metres = [], []
    for step in range(1, episode.length - 1):
        rows, columns = np.nonzero(passes.instance[step] == instance)
        if len(rows) < 20 or rows.min() == 0 or columns.min() == 0:
            continue
        if rows.max() == height - 1 or columns.max() == width - 1:
            continue
        _, _, bodies = state_parts(episode.states[step + lag], joints)
        centre = bodies.positions[_cube_row(episode)]
        in_camera = np.linalg.inv(passes.world_from_camera[step]) @ [*centre, 1.0]
        drawn = passes.intrinsics_px @ in_camera[:3] / in_camera[2]
        pixels.append(np.hypot(columns.mean() - drawn[0], rows.mean() - drawn[1]))
        metres.append(abs(np.median(passes.depth_m[step][rows, columns]) - in_camera[2]))
    return np.array(pixels), np.array(metres)


def _cube_row(episode: Any) -> int:
    """Return which body of the states is the cube: the one whose positions are those of `object`."""
    joints = episode.actions.shape[1]
    seen = episode.observations["object"][:, :3]
    table = episode.states[:, 2 * joints :].reshape(episode.length, -1, 7)[:, :, :3]
    return int(np.abs(table - seen[:, np.newaxis]).max(axis=(0, 2)).argmin())


def _read(recording: Path) -> Any:
    from cosmos_engine.data.episode_file import read_episode
    from cosmos_engine.data.recording import episode_path

    return read_episode(episode_path(recording, 0))


async def _everything_seen(recording: Path) -> str:
    episode = _read(recording)
    roles = set()
    for camera, passes in episode.cameras.items():
        seen = {episode.labels[int(number)].role for number in np.unique(passes.instance) if number}
        if not seen:
            raise InputError(f"camera {camera!r} saw nothing")
        roles |= seen
    if not {"robot", "manipulated"} <= roles:
        raise InputError(f"seen were only {', '.join(sorted(roles))}")
    return f"{', '.join(episode.cameras)}; {len(episode.labels)} instances"


async def _aligned(recording: Path) -> str:
    episode = _read(recording)
    pixels, metres = cube_errors(episode, "front")
    by_lag = {lag: float(cube_errors(episode, "front", lag)[0].mean()) for lag in (-1, 0, 1)} if len(pixels) else {}
    if by_lag and by_lag[0] > min(by_lag.values()):
        raise InputError(f"frames fit another row's poses better: mean pixels by rows of lag {by_lag}")
    if not len(pixels) or np.percentile(pixels, 90) > _CENTRE_PX or np.percentile(metres, 90) > _DEPTH_M:
        raise InputError(f"cube off by {pixels.round(1).tolist()} px, {metres.round(3).tolist()} m")
    return f"{len(pixels)} frames, cube within {pixels.max():.1f} px and {100 * metres.max():.1f} cm of its pose"


async def _first_frame_fresh(recording: Path) -> str:
    passes = _read(recording).cameras["front"]
    moved = [float(np.abs(np.diff(passes.rgb[step : step + 2].astype(int), axis=0)).mean()) for step in range(5)]
    if moved[0] > 4 * max(moved[1:]) + 1:
        raise InputError(f"mean change of the first frames: {[round(value, 2) for value in moved]}")
    return f"mean change of the first frames: {[round(value, 2) for value in moved]}"


async def _targets_lead(recording: Path) -> str:
    """Check that an action is what the joints do after its row, not before it."""
    episode = _read(recording)
    joints = episode.actions.shape[1]
    moved = np.diff(episode.states[:, :joints], axis=0)[:, :7]
    asked = (episode.actions - episode.states[:, :joints])[:-1, :7]
    agree = float(np.corrcoef(moved.ravel(), asked.ravel())[0, 1])
    if not agree > 0.3:
        raise InputError(f"correlation of asked and made motion {agree:.2f}")
    return f"correlation of asked and made motion {agree:.2f}"


async def _stage_restored() -> str:
    stage = kit.stage()
    before = world_poses(stage, [CUBE]).flat()
    layer = PoseLayer(stage, [CUBE])
    moved = world_poses(stage, [CUBE])
    layer.show(type(moved)(moved.positions + 0.3, moved.quats_wxyz))
    if np.allclose(world_poses(stage, [CUBE]).flat(), before):
        raise InputError("the layer moved nothing")
    layer.close()
    if not np.allclose(world_poses(stage, [CUBE]).flat(), before):
        raise InputError("the cube stayed where the replay put it")
    return "poses of a replay leave no trace"


def scratch_folder() -> Path:
    """Return an empty folder for a check."""
    return Path(tempfile.mkdtemp(prefix="cosmos_engine_"))
