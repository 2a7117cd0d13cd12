"""Draw a contact sheet for each task: source, controls, and six variants with their prompts, in both cameras.

    python benchmarks/variant_pictures.py --out docs/images [--generator-seed 0]

Demos and prompts are drawn as `record` and `augment` draw them; nothing is chosen by hand.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from generator_quality import recorded
from PIL import Image

from cosmos_engine.augment.prompts import variant_prompt
from cosmos_engine.config import load_config
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.transfer25 import Transfer25

VARIANTS = 6
FRAMES = 7


def main() -> None:
    """Write the sheets and print the prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--generator-seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    generator = Transfer25.tiny(args.checkpoint)
    for task in args.tasks:
        episode, _ = recorded(task, 0, 0)
        rng = np.random.default_rng((args.generator_seed, list(TASKS).index(task)))
        prompts = [variant_prompt(episode.labels, rng) for _ in range(VARIANTS)]
        seeds = rng.integers(2**31, size=VARIANTS).tolist()
        clips = {
            name: control_clip(passes, episode.labels, load_config(Recipe, "recipe/tiny"), 0)
            for name, passes in episode.cameras.items()
        }
        made = dict(zip(clips, generator.generate(list(clips.values()), prompts, seeds), strict=True))
        rows = {}
        for camera, clip in clips.items():
            short = "hand" if "hand" in camera else "front"
            rows[f"{short} source"] = clip.rgb
            rows |= {f"{short} {modality}": video for modality, video in clip.controls.items()}
            rows |= {f"{short} {number + 1}": made[camera][number] for number in range(VARIANTS)}
        file = args.out / f"variants_{task}.jpg"
        Image.open(io.BytesIO(contact_sheet(rows, FRAMES))).save(file, quality=88, optimize=True)
        print(f"\n{file}")
        for number, prompt in enumerate(prompts, 1):
            print(f"{number}. {prompt}")


if __name__ == "__main__":
    main()
