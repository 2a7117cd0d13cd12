"""A pool of training clips: short pieces of episodes with their passes, and words for what they look like.

clips/
    groups/000000.safetensors   the clips of one episode, written atomically: rgb uint8 (n, t, h, w, 3), depth float16
                                (n, t, h, w) in metres (inf = no hit), instance uint8 or uint16 (n, t, h, w),
                                intrinsics_px (n, 3, 3), world_from_camera (n, t, 4, 4);
                                metadata "clips": words or prompts, and labels by id, as JSON
    manifest.json               written last: its existence means that the pool is complete

`render_clips` makes a pool with the embedded simulator under random looks, `recorded.record_clips` from recordings.
Files are mapped into memory: a clip costs what is read of it.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from cosmos_engine.data import CameraPasses, InstanceLabel, make_folder, write_file
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Appearance, sample_appearance
from cosmos_engine.sim.environment import stacked
from cosmos_engine.transfer.prompt import SceneWords, scene_prompt

if TYPE_CHECKING:  # MuJoCo is needed to render only, not to read a pool
    from cosmos_engine.sim.tabletop import TabletopEnvironment

MANIFEST = "manifest.json"
HELD_OUT_SHARE = 0.02  # clips at the end of a pool that no update sees; sample sheets show them
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

    clips: int = 4800
    frames: int = 5
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
    """One clip of the pool with what says how it looks.

    Attributes:
        passes: the render passes.
        labels: what each instance id is.
        words: the look in words; None where it is not known part by part.
        prompts: what is said in place of `words`, one of them at a time.
    """

    passes: CameraPasses
    labels: Mapping[int, InstanceLabel]
    words: SceneWords | None
    prompts: tuple[str, ...] = ()

    @property
    def rgb(self) -> UInt8[np.ndarray, "t h w 3"]:
        """Colour, 0 to 255."""
        return self.passes.rgb

    @property
    def depth_m(self) -> Float32[np.ndarray, "t h w"]:
        """Depth in metres, inf = no hit."""
        return self.passes.depth_m

    @property
    def instance(self) -> UInt16[np.ndarray, "t h w"]:
        """Instance ids."""
        return self.passes.instance

    @property
    def foreground(self) -> tuple[int, ...]:
        """Instance ids of robot and manipulated objects."""
        return tuple(instance_id for instance_id, label in self.labels.items() if label.role != "scene")

    def prompt(self, rng: np.random.Generator) -> str:
        """Return a prompt for this clip in one of its phrasings."""
        return scene_prompt(self.words, rng) if self.words else self.prompts[rng.integers(len(self.prompts))]


class ClipPool:
    """Read a complete pool; a clip is read from disk when it is asked for.

    Attributes:
        folder: where it is.
        frames: frames of every clip.
        size: height and width of every clip in pixels.
        groups: the number of clips of each group; clips of one group may be of one episode.

    Raises:
        InputError: no complete pool at `folder`, or a group of it is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        try:
            if "groups" in self.manifest:
                self.groups = [int(count) for count in self.manifest["groups"]]
                height, width = self.manifest["size"]
            else:
                self.groups = [CLIPS_PER_GROUP] * (self.config.clips // CLIPS_PER_GROUP)
                height = width = self.config.image_size
            self.frames = int(self.manifest["frames"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder / MANIFEST}: not the manifest of a clip pool: {error}") from error
        self.size = (int(height), int(width))
        self._ends = list(accumulate(self.groups))
        self._files = [_opened(group_file(folder, group)) for group in range(len(self.groups))]
        self._described: list[list[dict[str, Any]]] = [
            json.loads((file.metadata() or {})["clips"]) for file in self._files
        ]

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def config(self) -> ClipPoolConfig:
        """What the pool was rendered from.

        Raises:
            InputError: it was made from recordings.
        """
        if "groups" in self.manifest:
            raise InputError(f"{self.folder}: expected clips of the embedded simulator, got clips of recordings")
        return ClipPoolConfig(**self.manifest)

    def clip(self, index: int, start: int = 0, frames: int | None = None) -> TrainingClip:
        """Return frames `start : start + frames` of clip `index`."""
        group, place = self._at(index)
        stop = self.frames if frames is None else start + frames
        described = self._described[group][place]
        try:
            rgb, depth, instance, pose = (
                self._files[group].get_slice(name)[place, start:stop]
                for name in ("rgb", "depth", "instance", "world_from_camera")
            )
            intrinsics = self._files[group].get_slice("intrinsics_px")[place]
        except SafetensorError as error:
            raise InputError(f"{group_file(self.folder, group)}: no group of this version: {error}") from error
        words = SceneWords(**described["words"]) if described.get("words") else None
        return TrainingClip(
            CameraPasses(rgb, depth.astype(np.float32), instance.astype(np.uint16), intrinsics, pose),
            {int(key): InstanceLabel(*label) for key, label in described["labels"].items()},
            words,
            tuple(described.get("prompts", ())),
        )

    def prompt(self, index: int, rng: np.random.Generator) -> str:
        """Return what `clip(index).prompt(rng)` does, without reading a pixel."""
        described = self.described(index)
        if described.get("words"):
            return scene_prompt(SceneWords(**described["words"]), rng)
        return str(described["prompts"][rng.integers(len(described["prompts"]))])

    def described(self, index: int) -> Mapping[str, Any]:
        """Return what the pool's file says of a clip: its words or prompts, and its foreground ids."""
        group, place = self._at(index)
        return self._described[group][place]

    def _at(self, index: int) -> tuple[int, int]:
        group = bisect.bisect_right(self._ends, index)
        return group, index - self._ends[group] + self.groups[group]


def training_indices(pool: ClipPool) -> range:
    """Return the clips that updates may see; of clips of recordings, whole episodes."""
    share = int(len(pool) * (1 - HELD_OUT_SHARE))
    if "groups" not in pool.manifest:
        return range(share)
    begins = accumulate(pool.groups[:-1], initial=0)
    return range(max(begin for begin in begins if begin <= share) or share)


def held_out_indices(pool: ClipPool) -> range:
    """Return the clips that no update sees."""
    return range(training_indices(pool).stop, len(pool))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what a complete pool says about itself.

    Raises:
        InputError: no complete pool, or a damaged manifest.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{folder}: no complete clip pool here ({MANIFEST} is missing)")
    try:
        return dict(json.loads(manifest.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{manifest}: cannot be read: {error}") from error


def group_file(folder: Path, group: int) -> Path:
    """Return where a pool keeps a group of clips."""
    return folder / "groups" / f"{group:06d}.safetensors"


def write_group(file: Path, clips: Sequence[CameraPasses], described: Sequence[Mapping[str, Any]]) -> None:
    """Write a group of clips and what is said of each."""
    instance = np.stack([clip.instance for clip in clips])
    arrays = {
        "rgb": np.stack([clip.rgb for clip in clips]),
        "depth": np.stack([clip.depth_m for clip in clips]).astype(np.float16),
        "instance": instance.astype(np.uint8) if instance.max() < 256 else instance,
        "intrinsics_px": np.stack([clip.intrinsics_px for clip in clips]),
        "world_from_camera": np.stack([clip.world_from_camera for clip in clips]),
    }
    write_file(file, save(arrays, {"clips": json.dumps(list(described))}))


def labels_as_json(labels: Mapping[int, InstanceLabel]) -> dict[str, list[str]]:
    """Return labels as a group's description keeps them."""
    return {str(key): [label.name, label.class_name, label.role] for key, label in sorted(labels.items())}


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, "numpy")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: missing, truncated or damaged: {str(error).splitlines()[0]}") from error


def render_clips(folder: Path, config: ClipPoolConfig) -> ClipPool:
    """Render the pool with the embedded simulator, or go on where an earlier call was stopped.

    A group follows from (seed, group) alone, so a pool may be made larger later.

    Raises:
        InputError: `folder` holds a pool of another config.
    """
    make_folder(folder / "groups")
    wanted = {name: getattr(config, name) for name in ("frames", "image_size", "seed")}
    begun = folder / "config.json"
    for file in (begun, folder / MANIFEST):
        kept = json.loads(file.read_text()) if file.is_file() else wanted
        if any(kept.get(name) != value for name, value in wanted.items()):
            raise InputError(f"{folder}: holds clips of {json.dumps(kept)}, expected {json.dumps(wanted)}")
    write_file(begun, json.dumps(wanted).encode())
    todo = [g for g in range(config.clips // CLIPS_PER_GROUP) if not group_file(folder, g).is_file()]
    if todo:
        shares = [todo[worker :: config.workers] for worker in range(min(config.workers, len(todo)))]
        with ProcessPoolExecutor(config.workers, multiprocessing.get_context("spawn")) as workers:
            list(workers.map(partial(_render_groups, folder, config), shares))
    write_file(folder / MANIFEST, json.dumps({**wanted, "clips": config.clips}).encode())
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


def _render_groups(folder: Path, config: ClipPoolConfig, groups: Sequence[int]) -> None:
    from cosmos_engine.sim.tabletop import TabletopEnvironment
    from cosmos_engine.sim.tasks import TASKS

    environments = {task: TabletopEnvironment(task, image_size=config.image_size, render=False) for task in TASKS}
    for group in tqdm(groups, desc="render clips", unit="group", position=groups[0] % config.workers):
        rng = np.random.default_rng((config.seed, group))
        environment = environments[list(TASKS)[group % len(TASKS)]]
        passes, described = [], []
        labels = labels_as_json(environment.labels)
        for clip, words in _group_clips(environment, config, rng):
            passes.append(clip)
            described.append({"words": dataclasses.asdict(words), "labels": labels})
        write_group(group_file(folder, group), passes, described)
    for environment in environments.values():
        environment.close()


def _group_clips(
    environment: TabletopEnvironment, config: ClipPoolConfig, rng: np.random.Generator
) -> Iterator[tuple[CameraPasses, SceneWords]]:
    states = _expert_states(environment, rng, config.frames)
    shapes: dict[str, str] = {name: item.shape for name, item in environment.objects.items()}
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
            yield stacked(frames), words


def _expert_states(environment: TabletopEnvironment, rng: np.random.Generator, frames: int) -> list[np.ndarray]:
    """Return the states of one expert episode with noisy actions, at least `frames` of them."""
    from cosmos_engine.sim.experts import Expert

    environment.reset(int(rng.integers(2**31)))
    expert = Expert(environment.task, action_noise=ACTION_NOISE, rng=rng)
    states = [environment.get_state()]
    while len(states) < environment.horizon:
        done = environment.step(expert.act(environment)).terminated
        states.append(environment.get_state())
        if done and len(states) >= frames:
            break
    return states
