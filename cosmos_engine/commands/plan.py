"""The command `cosmos-engine plan`: hours, devices, storage and cost of a job before it is run."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_engine.commands.generator import (
    BASELINES,
    DEFAULT_FIT,
    DEFAULT_RECIPES,
    DEFAULT_RESOLUTION,
    TINY,
    add_generator_arguments,
    check_generator,
    open_generator,
    sampling_config,
)
from cosmos_engine.config import as_yaml, load_config
from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.augment.estimate import Figures, JobSize, SegmentFigure
    from cosmos_engine.controls import Recipe
    from cosmos_engine.data import Recording

SHIPPED_FIGURES = "plan/figures"


def add_plan_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plan` to a command line."""
    plan = commands.add_parser("plan", help="estimate hours, devices, storage and cost of a job before it is run")
    plan.add_argument(
        "recording", nargs="?", type=Path, metavar="RECORDING", help="take demos, cameras, sizes and lengths from it"
    )
    plan.add_argument("--recipe", help="a name in configs/recipe or a YAML file: which controls")
    plan.add_argument("--figures", metavar="FILE", help="measured figures (default: those of the package)")
    plan.add_argument("--figure", metavar="NAME", help="one of them (default: the generator's first)")
    plan.add_argument(
        "--measure",
        action="store_true",
        help="time one variant of RECORDING's first demo on this machine, keep it in --figures, and plan with it",
    )
    add_generator_arguments(plan, default=TINY)
    plan.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="as demos=10000 variants=5 gpus=8 hours=24 price=2.5 tries=1.2",
    )
    plan.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    from cosmos_engine.augment.estimate import Figures, JobSize, choose_figure, estimate, report_lines
    from cosmos_engine.controls import Recipe
    from cosmos_engine.data import Recording

    if args.recording is not None and "=" in str(args.recording):
        args.overrides, args.recording = [str(args.recording), *args.overrides], None
    check_generator(args.generator)
    name = args.recipe or DEFAULT_RECIPES[args.generator]
    recipe = load_config(Recipe, name if Path(name).suffix in {".yaml", ".yml"} else f"recipe/{name}")
    recording = None if args.recording is None else Recording(args.recording)
    size = load_config(JobSize, None, args.overrides, _size(recording, JobSize(controls=len(recipe.weights))))
    size = _generated(args, size)
    chosen = args.figure
    if args.measure:
        if recording is None or args.figures is None:
            raise InputError("--measure: needs a RECORDING to make a variant of, and --figures FILE to keep it in")
        chosen = chosen or f"{args.generator}-{args.device or 'default'}"
        figures = _kept(Path(args.figures), chosen, _measured(args, recording, recipe))
    else:
        figures = load_config(Figures, args.figures or SHIPPED_FIGURES)
    name, figure = choose_figure(figures, args.generator, chosen)
    result = estimate(size, figure, figures.bytes_per_pixel)
    for line in report_lines(size, name, figure, figures.bytes_per_pixel, result):
        print(line)
    return 0


def _size(recording: Recording | None, default: JobSize) -> JobSize:
    """Return the size of a job on this recording: its largest camera and its mean length stand for all."""
    if recording is None or not len(recording):
        return default
    headers = [recording.header(index) for index in range(len(recording))]
    height, width = max((size for header in headers for size in header.cameras.values()), default=(0, 0))
    if not height:
        raise InputError(f"{recording.folder}: its demos have no camera; there is nothing to generate")
    return dataclasses.replace(
        default,
        demos=len(headers),
        control_steps=max(1, round(sum(header.length for header in headers) / len(headers))),
        cameras=max(len(header.cameras) for header in headers),
        height=height,
        width=width,
    )


def _generated(args: argparse.Namespace, size: JobSize) -> JobSize:
    """Return the size with what the generator makes of a camera: the 2B knows some sizes only."""
    if args.generator == TINY or args.generator in BASELINES or size.generated_height or size.generated_width:
        return size
    from cosmos_engine.controls.framing import frame_for

    framing = frame_for(size.height, size.width, args.resolution or DEFAULT_RESOLUTION, args.fit or DEFAULT_FIT)
    return dataclasses.replace(size, generated_height=framing.size[0], generated_width=framing.size[1])


def _measured(args: argparse.Namespace, recording: Recording, recipe: Recipe) -> SegmentFigure:
    """Time the second of two variants of the first demo: the first also loads and compiles."""
    import platform
    import time

    import numpy as np

    from cosmos_engine import __version__
    from cosmos_engine.augment.estimate import SegmentFigure
    from cosmos_engine.augment.prompts import LookPrompts, PromptRequest
    from cosmos_engine.controls import control_clip
    from cosmos_engine.transfer.sampling import SAMPLING
    from cosmos_engine.transfer.segments import plan_segments

    if not len(recording):
        raise InputError(f"{recording.folder}: holds no demo to measure with")
    episode, header = recording.episode(0), recording.header(0)
    if not episode.cameras:
        raise InputError(f"{recording.folder}: its first demo has no camera; there is nothing to generate")
    sampling = SAMPLING.get(args.generator)
    generator = open_generator(args, list(recipe.weights), sampling_config(args.generator, ()))
    try:
        rng = np.random.default_rng(0)
        prompt = LookPrompts().write(PromptRequest(0, 1, 0, header.task, header.instruction, header.labels, rng))
        generator.prepare([prompt])
        framings = [generator.framing(*passes.size) for passes in episode.cameras.values()]
        generator.plan(sorted({framing.size for framing in framings}), list(recipe.weights), len(framings))
        for seed in (0, 1):
            start = time.perf_counter()
            clips = [
                control_clip(passes, episode.labels, recipe, 0, framing)
                for passes, framing in zip(episode.cameras.values(), framings, strict=True)
            ]
            generator.generate(clips, [prompt], [seed])
            seconds = time.perf_counter() - start
    finally:
        generator.close()
    frames = sampling.segment_frames if sampling else episode.length
    conditional = sampling.conditional_frames if sampling else 0
    segments = len(plan_segments(episode.length, segment_frames=frames, conditional_frames=conditional))
    height, width = framings[0].size
    return SegmentFigure(
        generator=args.generator,
        device=args.device or platform.processor() or platform.machine(),
        height=height,
        width=width,
        segment_frames=frames,
        conditional_frames=conditional,
        controls=len(recipe.weights),
        seconds=seconds / segments / len(framings),
        source=f"measured by cosmos-engine {__version__} plan --measure on {platform.node()}: one variant of "
        f"{episode.length} frames of {len(framings)} cameras took {seconds:.2f} s, controls and codec included",
    )


def _kept(file: Path, name: str, figure: SegmentFigure) -> Figures:
    """Add a figure to a file, which may not exist yet, and return all that it holds."""
    from cosmos_engine.augment.estimate import Figures
    from cosmos_engine.data.atomic import write_file

    there = load_config(Figures, file if file.exists() else SHIPPED_FIGURES)
    segments = {name: figure, **({} if not file.exists() else there.segments)}
    segments[name] = figure
    kept = Figures(segments, there.bytes_per_pixel)
    write_file(file, as_yaml(kept).encode())
    return kept
