"""The augmentation job: recording -> originals and variants in a zarr dataset; resumable at any moment."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from cosmos_engine import __version__
from cosmos_engine.augment.prompts import variant_prompt
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import DatasetWriter, Episode, Recording, build_certificate
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.generator import Generator


@dataclass(frozen=True)
class AugmentConfig:
    """What is made of each demo.

    Attributes:
        variants: variants of each demo, beside the original.
        seed: prompts and noise follow from it, the demo's index and the variant's number.
        palette: seed of the seg control's instance colours; the tiny checkpoint knows palette 0 best.
        recipe: which controls condition the generator, and how strongly.
    """

    variants: int = 5
    seed: int = 0
    palette: int = 0
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.variants < 0:
            raise InputError(f"variants: expected 0 or more, got {self.variants}")


def augment(
    recording: Recording, out: Path, generator: Generator, config: AugmentConfig, prompts: Sequence[str] = ()
) -> None:
    """Write every demo and its variants to the dataset `out`, or go on where an earlier call was stopped.

    Actions, states and times come from the recording, never from the generator. All cameras of a variant share its
    prompt and its seed. Every prompt is checked before the first frame is generated.

    Args:
        prompts: the user's own prompts, used in turn; by default they are drawn from slots.

    Raises:
        InputError: an episode lacks passes, a prompt does not fit, or `out` holds another job's dataset.
    """
    total = len(recording) * (1 + config.variants)
    job = {
        "engine": __version__,
        "generator": {"name": generator.name, **generator.provenance},
        "config": dataclasses.asdict(config),
        "prompts": list(prompts) or "slots",
        "env_args": recording.env_args,
    }
    plans = [_plan(recording, index, config, prompts) for index in range(len(recording))]
    if config.variants:
        line = _made_ready(recording, generator, config, plans)
        if line:
            print(line, file=sys.stderr)
    with DatasetWriter(out, attrs={"job": job}) as writer:
        with tqdm(total=total, initial=writer.episodes_written, desc="augment", unit="episode") as bar:
            for index, plan in enumerate(plans):
                first = index * (1 + config.variants)
                if writer.episodes_written >= first + 1 + config.variants:
                    continue
                episode = recording.episode(index)
                for variant, images in enumerate(_variants(episode, plan, generator, config)):
                    if writer.episodes_written > first + variant:
                        continue  # written before a stop; made again so that its siblings get the same bytes
                    writer.append(
                        rows(episode, images),
                        source_demo=index,
                        variant=variant,
                        accepted=True,
                        info=plan.info(episode, variant, generator),
                    )
                    bar.update()
        weights = generator.provenance["weights_sha256"]
        writer.finish(build_certificate(recording, writer, config=job, weights_sha256=weights))


@dataclass(frozen=True)
class _Plan:
    """Prompts and seeds of one demo's variants."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def info(self, episode: Episode, variant: int, generator: Generator) -> dict[str, Any]:
        """Return what provenance keeps of one written episode; variant 0 is the original."""
        source = {
            "episode_id": episode.episode_id,
            "demo_seed": episode.seed,
            "task": episode.task,
            "instruction": episode.instruction,
        }
        if variant == 0:
            return source
        prompt = self.prompts[variant - 1] if generator.uses_prompts else ""
        return source | {"generator": generator.name, "prompt": prompt, "seed": self.seeds[variant - 1]}


def _plan(recording: Recording, index: int, config: AugmentConfig, prompts: Sequence[str]) -> _Plan:
    labels = recording.header(index).labels
    chosen, seeds = [], []
    for variant in range(1, config.variants + 1):
        rng = np.random.default_rng((config.seed, index, variant))
        seeds.append(int(rng.integers(2**31)))
        drawn = variant_prompt(labels, rng)
        chosen.append(prompts[(index * config.variants + variant - 1) % len(prompts)] if prompts else drawn)
    return _Plan(tuple(chosen), tuple(seeds))


def _made_ready(recording: Recording, generator: Generator, config: AugmentConfig, plans: Sequence[_Plan]) -> str:
    """Check all that can be checked before work, encode every prompt, and return the generator's memory plan."""
    for warning in config.recipe.warnings:
        print(warning, file=sys.stderr)
    cameras: set[tuple[int, int]] = set()
    most_cameras = 1
    for index in range(len(recording)):
        header = recording.header(index)
        config.recipe.check_labels(header.labels)
        cameras |= set(header.cameras.values())
        most_cameras = max(most_cameras, len(header.cameras))
    generator.prepare([prompt for plan in plans for prompt in plan.prompts])
    sizes = sorted(generator.framing(*size).size for size in cameras)
    return generator.plan(sizes, list(config.recipe.weights), most_cameras * config.variants)


def _variants(
    episode: Episode, plan: _Plan, generator: Generator, config: AugmentConfig
) -> Iterator[dict[str, UInt8[np.ndarray, "t h w 3"]]]:
    """Yield the images of the original, then of each variant, by camera."""
    yield {camera: passes.rgb for camera, passes in episode.cameras.items()}
    if not plan.prompts:
        return
    framings = {camera: generator.framing(*passes.size) for camera, passes in episode.cameras.items()}
    clips = [
        control_clip(passes, episode.labels, config.recipe, config.palette, framings[camera])
        for camera, passes in episode.cameras.items()
    ]
    made = dict(zip(episode.cameras, generator.generate(clips, plan.prompts, plan.seeds), strict=True))
    for number in range(len(plan.prompts)):
        yield {
            camera: framings[camera].restored(videos[number], episode.cameras[camera].rgb)
            for camera, videos in made.items()
        }


def rows(episode: Episode, images: dict[str, UInt8[np.ndarray, "t h w 3"]]) -> dict[str, np.ndarray]:
    """Return the dataset's rows of one variant: the recording's arrays with `images` in place of its rgb.

    Raises:
        ValueError: a camera's images differ from its source in length, size or type.
    """
    for camera, passes in episode.cameras.items():
        if images[camera].shape != passes.rgb.shape or images[camera].dtype != np.uint8:
            raise ValueError(
                f"camera {camera!r}: the generator returned {images[camera].dtype} {images[camera].shape}, "
                f"expected uint8 {passes.rgb.shape}"
            )
    return {
        "action": episode.actions,
        "state": episode.states,
        "timestamp": episode.timestamps_s,
        **episode.observations,
        **{f"{camera}_image": frames for camera, frames in images.items()},
    }
