"""Draw the baselines beside the tiny generator: source, photometric, texture and transfer25-tiny, frames from demos.

    python benchmarks/baseline_pictures.py [--out docs/images/baselines.png] [--tasks lift stack] [--seed 0]

A row is one variant: three frames of all cameras of all tasks, made at 128 x 128 and shown smaller. Texture and tiny
have the same prompts, row by row, which are printed. The picture has a palette of 256 colours, to be small.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cosmos_engine.augment.photometric import Photometric
from cosmos_engine.augment.prompts import variant_prompt
from cosmos_engine.augment.texture import Texture
from cosmos_engine.config import find_config, load_config
from cosmos_engine.controls import ControlClip, Recipe, control_clip
from cosmos_engine.data import Episode, Recording
from cosmos_engine.report.sheet import contact_sheet, frame_indices
from cosmos_engine.sim.recorder import RecordConfig, record_demos
from cosmos_engine.transfer.generator import Generator
from cosmos_engine.transfer.transfer25 import Transfer25

VARIANTS = (("photometric", 2), ("texture", 3), ("tiny", 2))
FRAMES = 3
MADE_PX, SHOWN_PX = 128, 108


def main() -> None:
    """Record one demo of each task, make the variants, write the sheet and print the prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/baselines.png"))
    parser.add_argument("--tasks", nargs="+", default=["lift", "stack"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    episodes = [recorded(task) for task in args.tasks]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(with_palette(baseline_sheet(episodes, args.seed)))
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB")


def recorded(task: str) -> Episode:
    """Record one demo in a temporary folder and return it."""
    with tempfile.TemporaryDirectory() as folder:
        record_demos(RecordConfig(task=task, episodes=1, image_size=MADE_PX), folder)
        return Recording(folder).episode(0)


def baseline_sheet(episodes: Sequence[Episode], seed: int) -> bytes:
    """Return a PNG with one row for the source and one for each variant."""
    recipe = load_config(Recipe, find_config("recipe/tiny"))
    shown = [
        control_clip(passes, episode.labels, recipe, seed=0)
        for episode in episodes
        for passes in episode.cameras.values()
    ]
    generators: dict[str, Generator] = {"photometric": Photometric(), "texture": Texture(), "tiny": Transfer25.tiny()}
    # Of the last task, whose objects are a few more than those of the first.
    prompts = [variant_prompt(episodes[-1].labels, np.random.default_rng((seed, number))) for number in range(3)]
    rows = {"source": beside([clip.rgb for clip in shown])}
    for name, count in VARIANTS:
        for number in range(count):
            if name != "photometric":
                print(f"{name} {number + 1}: {prompts[number]}")
            rows[f"{name} {number + 1}"] = beside(made(generators[name], shown, prompts[number], seed + number))
    return contact_sheet(rows, FRAMES)


def made(generator: Generator, clips: Sequence[ControlClip], prompt: str, seed: int) -> list[np.ndarray]:
    """Return one variant of every clip."""
    return [variants[0] for variants in generator.generate(clips, [prompt], [seed])]


def beside(videos: Sequence[np.ndarray]) -> np.ndarray:
    """Return `FRAMES` frames of every video, evenly spread, with the videos side by side."""
    frames = [video[frame_indices(len(video), FRAMES + 2)[1:-1]] for video in videos]
    shown = [
        [cv2.resize(frame, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_AREA) for frame in clip] for clip in frames
    ]
    return np.concatenate([np.stack(clip) for clip in shown], axis=2)


def with_palette(png: bytes) -> bytes:
    """Return a PNG in 256 colours, without dithering, which would look like a texture."""
    picture = Image.open(io.BytesIO(png)).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
