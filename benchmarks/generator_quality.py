"""Measure the quality of generators on held-out episodes of all tasks of the embedded table-top.

    python benchmarks/generator_quality.py [--generator NAME ...] [--episodes 2] [--variants 3] [--json FILE]
                                           [--sheet PNG]

Every episode is shown in `--variants` looks, drawn as in training; the prompt is the look in words. A generator sees
the controls and the prompt, never the look. Beside the generators the table has two columns that nothing can beat by
much: `source`, the recorded frames, and `true render`, the recorded states rendered under the look. Rows are the fields
of `cosmos_engine.quality.Measures`, and diversity: the mean over pairs of variants of one episode.

Episodes start at seeds that no training uses. The looks do come from the family that the tiny checkpoint and the reader
were trained on; its draws are new.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from cosmos_engine.config import load_config
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import Episode
from cosmos_engine.quality import (
    GeometryReader,
    Measures,
    Reader,
    diversity,
    embedded_poses,
    mean_measures,
    measure,
)
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.sim.appearance import Appearance, sample_appearance
from cosmos_engine.sim.demo import record_demo
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.generator import Generator
from cosmos_engine.transfer.prompt import SceneWords, scene_prompt
from cosmos_engine.transfer.training.clips import scene_words
from cosmos_engine.transfer.transfer25 import Transfer25

FIRST_SEED = 7_000_000
ACTION_NOISE = 0.02
SOURCE, TRUE_RENDER = "source", "true render"
TARGETS = {"miou": ">= 0.90", "edge_f1": ">= 0.60", "si_rmse": "<= 0.50", "diversity": ">= that of texture"}

Videos = dict[str, UInt8[np.ndarray, "t h w 3"]]
"""By camera."""


@dataclass(frozen=True)
class Look:
    """One look of one episode: its words, its prompt, the generator's seed, and its true render."""

    words: SceneWords
    prompt: str
    seed: int
    truth: Videos


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", nargs="*", default=["transfer25-tiny"], choices=sorted(GENERATORS))
    parser.add_argument("--episodes", type=int, default=2, help="of each task")
    parser.add_argument("--variants", type=int, default=3, help="of each episode; diversity needs two")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--checkpoint", type=Path, help="of transfer25-tiny, in place of the one that ships")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="write a picture of the first episode of each task")
    args = parser.parse_args()
    reader = GeometryReader.shipped()
    generators = {name: GENERATORS[name](args.checkpoint) for name in args.generator}
    results: dict[str, list[Measures]] = {name: [] for name in (SOURCE, TRUE_RENDER, *generators)}
    spread: dict[str, list[float]] = {name: [] for name in results}
    pictures: Videos = {}
    for task in args.tasks:
        for number in tqdm(range(args.episodes), desc=task, unit="episode"):
            episode, looks = recorded(task, number, args.variants)
            videos = {SOURCE: [source(episode)] * args.variants, TRUE_RENDER: [look.truth for look in looks]}
            videos |= {name: generated(generator, episode, looks) for name, generator in generators.items()}
            for name, variants in videos.items():
                results[name] += measured(name, variants, episode, looks, reader)
                spread[name] += diversities(variants, episode)
            if args.sheet and number == 0:
                pictures |= rows_of_sheet(task, videos)
    table = {
        name: {**dataclasses.asdict(mean_measures(results[name])), "diversity": float(np.mean(spread[name]))}
        for name in results
    }
    print_table(table)
    if args.json:
        described = {"reader": reader.name, "episodes": args.episodes, "variants": args.variants, "tasks": args.tasks}
        args.json.write_text(json.dumps({**described, "targets": TARGETS, "table": table}, indent=2))
    if args.sheet:
        args.sheet.write_bytes(contact_sheet(pictures, 6))


def recorded(task: str, number: int, variants: int) -> tuple[Episode, list[Look]]:
    """Record one held-out demo, and render it again under every look."""
    environment = TabletopEnvironment(task, render=False)
    try:
        plain = environment.appearance
        seed = FIRST_SEED + 1000 * number
        episode = None
        while episode is None:  # the expert fails now and then
            episode = record_demo(environment, seed, ACTION_NOISE, {"env_name": task})
            seed += 1
        rng = np.random.default_rng((episode.seed, list(TASKS).index(task)))
        looks = []
        for _ in range(variants):
            environment.appearance = sample_appearance(rng, environment.object_colors)
            looks.append(look(environment, environment.appearance, episode, rng))
        environment.appearance = plain
    finally:
        environment.close()
    return episode, looks


def look(environment: TabletopEnvironment, appearance: Appearance, episode: Episode, rng: np.random.Generator) -> Look:
    """Put an appearance into words and render the recorded states under it."""
    words = scene_words(appearance, {name: item.shape for name, item in environment.objects.items()})
    truth: dict[str, list[np.ndarray]] = {camera: [] for camera in episode.cameras}
    for state in episode.states:
        environment.set_state(state)
        for camera, frames in truth.items():
            frames.append(environment.render_passes(camera).rgb)
    videos = {camera: np.stack(frames) for camera, frames in truth.items()}
    return Look(words, scene_prompt(words, rng), int(rng.integers(2**31)), videos)


def source(episode: Episode) -> Videos:
    """Return the recorded frames."""
    return {camera: passes.rgb for camera, passes in episode.cameras.items()}


def generated(generator: Generator, episode: Episode, looks: list[Look]) -> list[Videos]:
    """Return a variant of the episode for each look, as an augmentation job makes it."""
    prompts, seeds = [look.prompt for look in looks], [look.seed for look in looks]
    generator.prepare(prompts)
    clips = [
        control_clip(passes, episode.labels, load_config(Recipe, "recipe/tiny"), 0)
        for passes in episode.cameras.values()
    ]
    made = generator.generate(clips, prompts, seeds)
    return [{camera: made[place][i] for place, camera in enumerate(episode.cameras)} for i in range(len(looks))]


def measured(name: str, variants: list[Videos], episode: Episode, looks: list[Look], reader: Reader) -> list[Measures]:
    """Measure every variant in every camera; the source is measured once, and has no look to adhere to."""
    poses = embedded_poses(episode)
    made = []
    for variant, look in zip(variants[: 1 if name == SOURCE else None], looks, strict=False):
        for camera, passes in episode.cameras.items():
            judged = {} if name == SOURCE else {"phrases": phrases(look.words, episode), "light": look.words.light}
            truth = look.truth[camera] if name not in (SOURCE, TRUE_RENDER) else None
            made.append(measure(variant[camera], passes, episode.labels, reader, poses=poses, truth=truth, **judged))
    return made


def phrases(words: SceneWords, episode: Episode) -> dict[int, str]:
    """Return what the words say of each instance; the gripper's material is not among them."""
    of_name = {"table": words.table, "wall": words.wall, "floor": words.floor, "robot": words.robot, **words.objects}
    return {i: of_name[label.name] for i, label in episode.labels.items() if label.name in of_name}


def diversities(variants: list[Videos], episode: Episode) -> list[float]:
    """Return the diversity of the variants in each camera."""
    of_cameras = (
        diversity([variant[camera] for variant in variants], passes.instance)
        for camera, passes in episode.cameras.items()
    )
    return [value for value in of_cameras if value is not None]


def rows_of_sheet(task: str, videos: dict[str, list[Videos]]) -> Videos:
    """Return the rows of the contact sheet: both cameras, two looks of every kind of video but the source."""
    rows = {}
    for camera in videos[SOURCE][0]:
        short = f"{task[:5]} {'hand' if 'hand' in camera else 'front'}"  # labels have room for 17 letters
        for name, variants in videos.items():
            for number, variant in enumerate(variants[: 1 if name == SOURCE else 2]):
                rows[f"{short} {name.split('-')[-1][:4]} {number}"] = variant[camera]
    return rows


def print_table(table: dict[str, dict[str, float | None]]) -> None:
    """Print a row for each measure, a column for each kind of video."""
    print(f"{'':22}" + "".join(f"{name:>17}" for name in table) + "   target")
    for measure_name in next(iter(table.values())):
        cells = [row[measure_name] for row in table.values()]
        values = "".join(f"{'-' if value is None else f'{value:.3f}':>17}" for value in cells)
        print(f"{measure_name:22}{values}   {TARGETS.get(measure_name, '')}")


def photometric(_: Path | None) -> Generator:
    """Load the photometric baseline."""
    from cosmos_engine.augment.photometric import Photometric

    return Photometric()


def texture(_: Path | None) -> Generator:
    """Load the texture baseline."""
    from cosmos_engine.augment.texture import Texture

    return Texture()


GENERATORS: dict[str, Callable[[Path | None], Generator]] = {
    "transfer25-tiny": Transfer25.tiny,
    "photometric": photometric,
    "texture": texture,
}


if __name__ == "__main__":
    main()
