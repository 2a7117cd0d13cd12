"""Measure what each control and each denoise step is worth, on held-out episodes of all tasks.

    python benchmarks/generator_ablations.py [--episodes 1] [--variants 2] [--json FILE] [--sheet PNG]

One table: the tiny checkpoint under each control alone, under recipes, and in 1, 2, 4 and 8 steps of the default
recipe. Episodes, looks and measures are those of `generator_quality.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from generator_quality import Videos, diversities, measured, recorded
from tqdm import tqdm

from cosmos_engine.config import load_config
from cosmos_engine.controls import MODALITIES, Recipe, control_clip
from cosmos_engine.quality import GeometryReader, Measures, mean_measures
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.transfer25 import Transfer25

NO_CONTROL = dict.fromkeys(MODALITIES, 0.0)
RECIPES = ("tiny", "strict", "loose", "isaaclab", "keep_foreground")
STEPS = (1, 2, 4, 8)
SHOWN = ("miou", "boundary_f1", "contour_adherence", "si_rmse", "flicker_scene", "color_adherence", "psnr_db")


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1, help="of each task")
    parser.add_argument("--variants", type=int, default=2, help="of each episode; diversity needs two")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="write a picture of the first episode")
    args = parser.parse_args()
    reader = GeometryReader.shipped()
    generator = Transfer25.tiny(args.checkpoint)
    arms = {name: (recipe, generator) for name, recipe in recipes().items()}
    for steps in STEPS:
        sampling = dataclasses.replace(generator.sampling, steps=steps)
        arms[f"{steps} steps" if steps > 1 else "1 step"] = (shipped("tiny"), generator.with_sampling(sampling))
    results: dict[str, list[Measures]] = {name: [] for name in arms}
    spread: dict[str, list[float]] = {name: [] for name in arms}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    pictures: Videos = {}
    for task in args.tasks:
        for number in range(args.episodes):
            episode, looks = recorded(task, number, args.variants)
            prompts, seeds = [look.prompt for look in looks], [look.seed for look in looks]
            for name, (recipe, with_steps) in tqdm(arms.items(), desc=f"{task} {number}", unit="arm"):
                clips = [control_clip(passes, episode.labels, recipe, 0) for passes in episode.cameras.values()]
                started = time.perf_counter()
                made = with_steps.generate(clips, prompts, seeds)
                seconds[name].append((time.perf_counter() - started) / len(looks))
                videos = [
                    {camera: made[place][i] for place, camera in enumerate(episode.cameras)} for i in range(len(looks))
                ]
                results[name] += measured(name, videos, episode, looks, reader)
                spread[name] += diversities(videos, episode)
                if not pictures or len(pictures) < len(arms):
                    camera = next(iter(episode.cameras))
                    pictures[name] = videos[0][camera]
    table: dict[str, dict[str, Any]] = {}
    for name, measures in results.items():
        mean = dataclasses.asdict(mean_measures(measures))
        table[name] = {measure: mean[measure] for measure in SHOWN}
        table[name] |= {"diversity": float(np.mean(spread[name])), "s_a_variant": float(np.median(seconds[name]))}
    print_table(table)
    if args.json:
        args.json.write_text(json.dumps({"reader": reader.name, "table": table}, indent=2))
    if args.sheet:
        args.sheet.write_bytes(contact_sheet(pictures, 6))


def recipes() -> dict[str, Recipe]:
    """Return each control alone, all of them, and recipes that ship."""
    alone = {f"{modality} alone": Recipe(**{**NO_CONTROL, modality: 1.0}) for modality in MODALITIES}
    everywhere = {"edge everywhere": Recipe()}
    return (
        alone
        | everywhere
        | {"all four": Recipe(**dict.fromkeys(MODALITIES, 1.0))}
        | {name: shipped(name) for name in RECIPES}
    )


def shipped(name: str) -> Recipe:
    """Return a recipe of `configs/recipe`."""
    return load_config(Recipe, f"recipe/{name}")


def print_table(table: dict[str, dict[str, Any]]) -> None:
    """Print a Markdown table with a row for each arm."""
    columns = list(next(iter(table.values())))
    print("| | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, row in table.items():
        values = ["-" if row[column] is None else f"{row[column]:.3g}" for column in columns]
        print(f"| {name} | " + " | ".join(values) + " |")


if __name__ == "__main__":
    main()
