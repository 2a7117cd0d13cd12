"""A pool of training clips: short pieces of expert episodes, rendered under random looks.

clips/
    groups/000000.safetensors   the clips of one expert episode, written atomically:
                                rgb uint8 (n, t, h, w, 3), depth float16 (n, t, h, w) in metres (inf = no hit),
                                instance uint8 (n, t, h, w); metadata "clips": words and foreground ids, as JSON
    manifest.json               written last: its existence means that the pool is complete
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from cosmos_engine.data import CameraPasses, atomic_file, write_file
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Appearance, sample_appearance
from cosmos_engine.sim.environment import CameraFrame
from cosmos_engine.sim.experts import Expert
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.prompt import SceneWords

ACTION_NOISE = 0.15  # of the expert that moves the scene: more poses than the demos themselves
RECOLOR_SHARE = 0.5  # looks whose objects take other colours than the task's instruction says
LOOKS_PER_GROUP = 2  # one expert episode serves this many looks, each seen by both cameras
CLIPS_PER_GROUP = 2 * LOOKS_PER_GROUP


@dataclass(frozen=True)
class ClipPoolConfig:
    """How many clips to render, and of what.

    Attributes:
        clips: number of clips, a multiple of 4.
        frames: frames a clip, 4k + 1.
        image_size: height and width, a multiple of 16.
        seed: every start, look and camera follows from it.
        workers: processes.
    """

    clips: int = 2800
    frames: int = 17
    image_size: int = 128
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        if self.clips % CLIPS_PER_GROUP or self.clips <= 0:
            raise InputError(f"clips: expected a positive multiple of {CLIPS_PER_GROUP}, got {self.clips}")
        if self.frames % 4 != 1:
            raise InputError(f"frames: expected 4k + 1, got {self.frames}")
        if self.image_size % 16:
            raise InputError(f"image_size: expected a multiple of 16, got {self.image_size}")


@dataclass(frozen=True)
class TrainingClip:
    """One clip of the pool with the words that describe its look.

    Attributes:
        rgb, depth_m, instance: the render passes; depth in metres, inf = no hit.
        words: the look in words.
        foreground: instance ids of robot and manipulated objects.
    """

    rgb: UInt8[np.ndarray, "t h w 3"]
    depth_m: Float32[np.ndarray, "t h w"]
    instance: UInt16[np.ndarray, "t h w"]
    words: SceneWords
    foreground: tuple[int, ...]


class ClipPool:
    """Read a complete pool; a clip is read from disk when it is asked for.

    Raises:
        InputError: no complete pool at `folder`.
    """

    def __init__(self, folder: Path) -> None:
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise InputError(f"{folder}: no complete clip pool here (manifest.json is missing)")
        self.config = ClipPoolConfig(**json.loads(manifest.read_text()))
        groups = range(self.config.clips // CLIPS_PER_GROUP)
        self._groups = [safe_open(_group_file(folder, group), "numpy") for group in groups]
        self._described = [json.loads(file.metadata()["clips"]) for file in self._groups]

    def __len__(self) -> int:
        return self.config.clips

    def clip(self, index: int, start: int = 0, frames: int | None = None) -> TrainingClip:
        """Return frames `start : start + frames` of clip `index`."""
        group, place = divmod(index, CLIPS_PER_GROUP)
        stop = self.config.frames if frames is None else start + frames
        rgb, depth, instance = (
            self._groups[group].get_slice(name)[place, start:stop] for name in ("rgb", "depth", "instance")
        )
        described = self._described[group][place]
        return TrainingClip(
            rgb,
            depth.astype(np.float32),
            instance.astype(np.uint16),
            SceneWords(**described["words"]),
            tuple(described["foreground"]),
        )


def render_clips(folder: Path, config: ClipPoolConfig) -> ClipPool:
    """Render the pool with the embedded simulator, or go on where an earlier call was stopped.

    A group follows from (seed, group) alone, so a pool may be made larger later.

    Raises:
        InputError: `folder` holds a pool of another config.
    """
    (folder / "groups").mkdir(parents=True, exist_ok=True)
    wanted = {name: getattr(config, name) for name in ("frames", "image_size", "seed")}
    begun = folder / "config.json"
    if begun.is_file() and json.loads(begun.read_text()) != wanted:
        raise InputError(f"{folder}: holds clips of {begun.read_text()}, expected {json.dumps(wanted)}")
    write_file(begun, json.dumps(wanted).encode())
    todo = [g for g in range(config.clips // CLIPS_PER_GROUP) if not _group_file(folder, g).is_file()]
    if todo:
        shares = [todo[worker :: config.workers] for worker in range(min(config.workers, len(todo)))]
        with ProcessPoolExecutor(config.workers, multiprocessing.get_context("spawn")) as workers:
            list(workers.map(partial(_render_groups, folder, config), shares))
    write_file(folder / "manifest.json", json.dumps({**wanted, "clips": config.clips}).encode())
    return ClipPool(folder)


def scene_words(appearance: Appearance, shapes: dict[str, str]) -> SceneWords:
    """Describe a look; `shapes` says what each object is ("cube", "bowl")."""
    return SceneWords(
        table=appearance.table.words(),
        wall=appearance.wall.words(),
        floor=appearance.floor.words(),
        robot=appearance.robot.words(),
        light=appearance.lighting_words(),
        objects={name: f"{appearance.objects[name].color} {shapes[name]}" for name in sorted(shapes)},
    )


def _group_file(folder: Path, group: int) -> Path:
    return folder / "groups" / f"{group:06d}.safetensors"


def _render_groups(folder: Path, config: ClipPoolConfig, groups: Sequence[int]) -> None:
    environments = {task: TabletopEnvironment(task, image_size=config.image_size, render=False) for task in TASKS}
    for group in tqdm(groups, desc="render clips", unit="group", position=groups[0] % config.workers):
        rng = np.random.default_rng((config.seed, group))
        environment = environments[list(TASKS)[group % len(TASKS)]]
        passes, described = [], []
        for clip, words, foreground in _group_clips(environment, config, rng):
            passes.append(clip)
            described.append({"words": dataclasses.asdict(words), "foreground": foreground})
        arrays = {
            "rgb": np.stack([clip.rgb for clip in passes]),
            "depth": np.stack([clip.depth_m for clip in passes]).astype(np.float16),
            "instance": np.stack([clip.instance for clip in passes]).astype(np.uint8),
        }
        with atomic_file(_group_file(folder, group)) as file:
            save_file(arrays, file, {"clips": json.dumps(described)})
    for environment in environments.values():
        environment.close()


def _group_clips(
    environment: TabletopEnvironment, config: ClipPoolConfig, rng: np.random.Generator
) -> Iterator[tuple[CameraPasses, SceneWords, list[int]]]:
    states = _expert_states(environment, rng, config.frames)
    shapes: dict[str, str] = {name: item.shape for name, item in environment.objects.items()}
    foreground = [key for key, label in environment.labels.items() if label.role != "scene"]
    for _ in range(LOOKS_PER_GROUP):
        recolor = bool(rng.random() < RECOLOR_SHARE)
        environment.appearance = sample_appearance(rng, environment.object_colors, recolor_objects=recolor)
        words = scene_words(environment.appearance, shapes)
        for camera in environment.camera_names:
            start = rng.integers(len(states) - config.frames + 1)
            frames = []
            for state in states[start : start + config.frames]:
                environment.set_state(state)
                frames.append(environment.render_passes(camera))
            yield _stacked(frames), words, foreground


def _stacked(frames: Sequence[CameraFrame]) -> CameraPasses:
    return CameraPasses(
        np.stack([frame.rgb for frame in frames]),
        np.stack([frame.depth_m for frame in frames]),
        np.stack([frame.instance for frame in frames]),
        frames[0].intrinsics_px,
        np.stack([frame.world_from_camera for frame in frames]),
    )


def _expert_states(environment: TabletopEnvironment, rng: np.random.Generator, frames: int) -> list[np.ndarray]:
    """Return the states of one expert episode with noisy actions, at least `frames` of them."""
    environment.reset(int(rng.integers(2**31)))
    expert = Expert(environment.task, action_noise=ACTION_NOISE, rng=rng)
    states = [environment.get_state()]
    while len(states) < environment.horizon:
        done = environment.step(expert.act(environment)).terminated
        states.append(environment.get_state())
        if done and len(states) >= frames:
            break
    return states
