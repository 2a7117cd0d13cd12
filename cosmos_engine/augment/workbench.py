"""The workbench: where one process makes variants, has them judged, and stages what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.curation import GATE, STATIC, clip_faults, look, source_fault
from cosmos_engine.augment.judge import Judge
from cosmos_engine.augment.ladder import Rung, rungs, stricter_recipe, try_seed
from cosmos_engine.augment.staging import TriedVariant, Unit, keep_try, read_try, try_file
from cosmos_engine.controls import ControlClip, Framing, Recipe, control_clip
from cosmos_engine.data import Episode, Recording
from cosmos_engine.data.rejected import Try
from cosmos_engine.transfer.generator import Generator

Opener: TypeAlias = Callable[[], tuple[Generator, Judge | None]]
"""Opens a process's own generator and gate; it can be pickled."""

STRIP_FRAMES = 8
STRIP_HEIGHT_PX = 128
STRIP_QUALITY = 85


@dataclass(frozen=True)
class WorkOrder:
    """What every process of a job has to know; it can be pickled.

    Attributes:
        recording: its folder.
        staging: folder of the tries.
        config: what is made.
        prompts: all of the job, to be prepared before work.
        sizes: (height, width) of every kind of camera.
        cameras: the most that a demo has.
    """

    recording: Path
    staging: Path
    config: AugmentConfig
    prompts: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    cameras: int


class Workbench:
    """Climb the ladder for one unit after another with a generator and a gate, in one process.

    Args:
        order: what to do.
        generator: makes variants.
        gate: judges them; None accepts whatever is neither black nor still.
    """

    def __init__(self, order: WorkOrder, generator: Generator, gate: Judge | None) -> None:
        self._order = order
        self._generator = generator
        self._gate = gate
        self._recording = Recording(order.recording)
        self._episode: tuple[int, Episode] | None = None
        self._clips: tuple[tuple[int, Recipe], list[ControlClip]] | None = None

    def make_ready(self) -> str:
        """Encode every prompt, plan the device's memory, and return that plan in one line, or nothing.

        Raises:
            InputError: a prompt that the generator cannot take, a control that it has no branch for, too little memory.
        """
        order, generator = self._order, self._generator
        recipe, stricter = order.config.recipe, order.config.stricter
        generator.prepare(order.prompts)
        modalities = [*recipe.weights, *(m for m in (stricter.weights if stricter else ()) if m not in recipe.weights)]
        sizes = sorted({generator.framing(*size).size for size in order.sizes})
        return generator.plan(sizes, modalities, order.cameras * min(order.config.batch, order.config.variants))

    def climb(self, unit: Unit) -> None:
        """Make the variants of a unit, again and again until each is accepted or given up, and stage every try.

        Goes on after the last try that is staged.

        Raises:
            InputError: an episode or a recipe that does not fit, or the file system refuses.
        """
        config = self._order.config
        episode = self._read(unit.demo)
        if source_fault(episode.cameras, config.curation):
            return
        roles = {label.role for label in episode.labels.values()}
        ladder = rungs(config.ladder, config.recipe, config.stricter or stricter_recipe(config.recipe, roles))
        left = sorted(unit.prompts)
        for rung in ladder:
            file = try_file(self._order.staging, unit, rung.number)
            made = read_try(file)
            if made is None or sorted(made) != left:
                made = self._tried(episode, unit, left, rung, is_last=rung == ladder[-1])
                keep_try(file, made)
            left = [variant for variant in left if not made[variant].accepted]
            if not left:
                return

    def _tried(
        self, episode: Episode, unit: Unit, variants: Sequence[int], rung: Rung, is_last: bool
    ) -> dict[int, TriedVariant]:
        """Make some variants of a unit in one call and judge each."""
        seeds = [try_seed(self._order.config.seed, unit.demo, variant, rung.number) for variant in variants]
        prompts = [unit.prompts[variant] for variant in variants]
        made = self._generated(episode, unit.demo, rung.recipe, prompts, seeds)
        if not self._generator.uses_prompts:
            prompts = [""] * len(prompts)  # nothing is promised, so nothing is judged by it
        return {
            variant: self._judged(episode, images, prompt, seed, rung, is_last)
            for variant, images, prompt, seed in zip(variants, made, prompts, seeds, strict=True)
        }

    def _generated(
        self, episode: Episode, demo: int, recipe: Recipe, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[dict[str, UInt8[np.ndarray, "t h w 3"]]]:
        """Return the images of each variant by camera, at the camera's size."""
        framings = {camera: self._generator.framing(*passes.size) for camera, passes in episode.cameras.items()}
        if self._clips is None or self._clips[0] != (demo, recipe):
            clips = [
                control_clip(passes, episode.labels, recipe, self._order.config.palette, framings[camera])
                for camera, passes in episode.cameras.items()
            ]
            self._clips = ((demo, recipe), clips)
        made = dict(zip(episode.cameras, self._generator.generate(self._clips[1], prompts, seeds), strict=True))
        return [
            {
                camera: _restored(framings[camera], videos[number], episode.cameras[camera].rgb)
                for camera, videos in made.items()
            }
            for number in range(len(prompts))
        ]

    def _judged(
        self,
        episode: Episode,
        images: Mapping[str, UInt8[np.ndarray, "t h w 3"]],
        prompt: str,
        seed: int,
        rung: Rung,
        is_last: bool,
    ) -> TriedVariant:
        """Look at the cheap things first: shapes, then black and still clips, then the gate."""
        reason, failures = STATIC, tuple[str, ...]()
        measures: dict[str, float] = {}
        fits = all(
            images[camera].shape == passes.rgb.shape and images[camera].dtype == np.uint8
            for camera, passes in episode.cameras.items()
        )
        if not fits and self._gate is None:
            check_images(episode, images)
        if fits:
            failures = clip_faults(images, episode, self._order.config.curation)
        if not failures and self._gate is not None:
            verdict = self._gate.judge(episode, images, prompt)
            reason, failures = GATE, tuple(verdict.failures)
            measures = {name: float(value) for name, value in sorted(verdict.measures.items())}
        tried = Try(seed, rung.recipe_name, failures, measures)
        if failures:
            return TriedVariant(tried, reason, strips=strips(images) if is_last else {})
        return TriedVariant(tried, images=dict(images), look=look(images))

    def _read(self, demo: int) -> Episode:
        if self._episode is None or self._episode[0] != demo:
            self._episode = (demo, self._recording.episode(demo))
        return self._episode[1]


def check_images(episode: Episode, images: Mapping[str, UInt8[np.ndarray, "t h w 3"]]) -> None:
    """Raise ValueError if a camera's images differ from its source in length, size or type."""
    for camera, passes in episode.cameras.items():
        if images[camera].shape != passes.rgb.shape or images[camera].dtype != np.uint8:
            raise ValueError(
                f"camera {camera!r}: the generator returned {images[camera].dtype} {images[camera].shape}, "
                f"expected uint8 {passes.rgb.shape}"
            )


def strips(images: Mapping[str, UInt8[np.ndarray, "t h w 3"]]) -> dict[str, bytes]:
    """Return a JPEG for each camera: up to 8 frames, spread over the clip, side by side."""
    return {camera: _strip(frames) for camera, frames in images.items() if frames.ndim == 4 and frames.size}


@contextmanager
def compute_threads(count: int) -> Iterator[None]:
    """Have torch and OpenCV compute with so many threads, and as before afterwards.

    A sum may be rounded by how it is split, so a job's number of threads does not follow from the machine.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _strip(frames: UInt8[np.ndarray, "t h w 3"]) -> bytes:
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(STRIP_FRAMES, len(frames))).round().astype(int))
    height, width = frames.shape[1:3]
    scale = min(1.0, STRIP_HEIGHT_PX / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    row = np.concatenate([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames[chosen]], axis=1)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(row, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, STRIP_QUALITY])
    return bytes(encoded.tobytes())


def _restored(
    framing: Framing, frames: UInt8[np.ndarray, "t h w 3"], source: UInt8[np.ndarray, "_ hh ww 3"]
) -> UInt8[np.ndarray, "t _ _ 3"]:
    """Bring frames back to the camera; frames that are too few or of another size stay as they are, to be rejected."""
    if frames.shape[1:3] != framing.size or len(frames) != len(source):
        return frames
    return framing.restored(frames, source)
