"""Measure how far variants of a demo are from each other at a glance, for the threshold `curation.near_duplicate`.

    MUJOCO_GL=egl python benchmarks/near_duplicates.py [--variants 12] [--demos 2]

Three kinds of pairs, of the baselines' variants of recorded demos of each task: other prompt and seed, the same prompt
and another seed, and one variant with and without noise of 8 levels. Distances in CIELAB units (`curation.look`).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from cosmos_engine.augment.curation import look, look_distance
from cosmos_engine.augment.photometric import Photometric
from cosmos_engine.augment.prompts import variant_prompt
from cosmos_engine.augment.texture import Texture
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import Episode, Recording
from cosmos_engine.sim.recorder import RecordConfig, record_demos
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.generator import Generator

NOISE_LEVELS = 8.0


def main() -> None:
    """Print the least, the 5th percentile and the median of each kind of pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=12)
    parser.add_argument("--demos", type=int, default=2)
    args = parser.parse_args()
    distances: dict[str, list[float]] = defaultdict(list)
    for task in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            record_demos(RecordConfig(task=task, episodes=args.demos), folder)
            recording = Recording(Path(folder))
            for demo in range(len(recording)):
                for generator in (Photometric(), Texture()):
                    for kind, found in measured(recording.episode(demo), generator, args.variants).items():
                        distances[f"{generator.name}, {kind}"] += found
    for kind, found in distances.items():
        least, low, median, most = np.quantile(found, [0, 0.05, 0.5, 1])
        print(f"{kind:44} min {least:6.2f}  5 % {low:6.2f}  median {median:6.2f}  max {most:6.2f}")


def measured(episode: Episode, generator: Generator, count: int) -> dict[str, list[float]]:
    """Return the distances between variants of one demo by kind of pair."""
    recipe = Recipe(depth=0.0, seg=0.0)
    clips = [control_clip(passes, episode.labels, recipe, 0) for passes in episode.cameras.values()]
    source = {camera: passes.rgb for camera, passes in episode.cameras.items()}

    def made(prompts: list[str], seeds: list[int]) -> list[dict[str, np.ndarray]]:
        videos = dict(zip(episode.cameras, generator.generate(clips, prompts, seeds), strict=True))
        return [{camera: videos[camera][number] for camera in videos} for number in range(len(prompts))]

    prompts = [variant_prompt(episode.labels, np.random.default_rng(seed)) for seed in range(count)]
    variants = made(prompts, list(range(count)))
    looks = [look(images) for images in variants]
    alike = [look(images) for images in made(prompts[:1] * 4, list(range(100, 104)))]
    rng = np.random.default_rng(0)
    noisy = [look({camera: _noisy(rgb, rng) for camera, rgb in images.items()}) for images in variants]
    return {
        "other prompt and seed": [look_distance(a, b) for a, b in itertools.combinations(looks, 2)],
        "variant and original": [look_distance(one, look(source)) for one in looks],
        "same prompt, other seed": [look_distance(a, b) for a, b in itertools.combinations(alike, 2)],
        "same variant, noise of 8 levels": [look_distance(a, b) for a, b in zip(looks, noisy, strict=True)],
    }


def _noisy(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(rgb + rng.normal(0, NOISE_LEVELS, rgb.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
