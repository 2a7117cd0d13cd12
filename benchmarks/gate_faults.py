"""Measure the gate on seeded faults, and set its thresholds.

    python benchmarks/gate_faults.py [--calibrate configs/gate/default.yaml] [--generators NAME ...] [--work DIR]

Every episode is turned into variants that are right: true renders of other looks, and what the generators make of it.
Into each of them faults are put, a few of each variant's, in turn, so that every kind and severity comes equally often.
`--calibrate` sets thresholds, writes them, and counts recall and false rejects by cross-validation: every episode is
judged by thresholds that were set without it. Without it the shipped thresholds are evaluated on episodes beyond those.
What was measured is kept in `--work`, a file for each variant, so that a stopped run goes on where it was and other
thresholds cost nothing. After a change of a measure, name a new folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from cosmos_engine.augment.gate import Gate, between_cameras
from cosmos_engine.augment.gate_calibration import JudgedVariant, calibrated
from cosmos_engine.augment.gate_config import GateConfig
from cosmos_engine.config import as_yaml, load_config
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import Episode, atomic_file
from cosmos_engine.quality import GeometryReader, Readings, embedded_poses
from cosmos_engine.quality.adherence import flow_measures, pixel_measures, reader_measures
from cosmos_engine.quality.clip_geometry import ClipGeometry
from cosmos_engine.quality.faults import FAULTS, Videos, inject, severities_of
from cosmos_engine.quality.object_color import prompted_colors
from cosmos_engine.sim.appearance import sample_appearance
from cosmos_engine.sim.demo import record_demo
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.generator import Generator
from cosmos_engine.transfer.prompt import scene_prompt
from cosmos_engine.transfer.training.clips import scene_words

FIRST_SEED, SEEDS_PER_EPISODE = 8_200_000, 1000
"""No training and no other benchmark uses them."""
CALIBRATED_ON = 12
"""Episodes of each task that the shipped thresholds were set on: numbers 0 to 11."""
FOLDS, SHUFFLES = 6, 4
DONOR = 900
"""Number of the episode whose variants stand in for those of others."""
ACTION_NOISE = 0.02
RENDER = "render"
KINDS = [(name, severity) for name, fault in FAULTS.items() for severity in fault.severities]
"""Every fault at every severity."""
STEP = 5  # through the kinds, to which it is coprime: it spreads them over a variant


@dataclass(frozen=True)
class Recorded:
    """An episode with looks: prompt, generator's seed and true render of each."""

    episode: Episode
    prompts: list[str]
    seeds: list[int]
    renders: list[Videos]


@dataclass(frozen=True)
class Measured:
    """A variant with faults or without, of an episode (task, number), by a generator."""

    episode: tuple[str, int]
    generator: str
    variant: JudgedVariant


def main() -> None:
    """Measure what is not yet measured, calibrate if asked, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=list(OPENERS), choices=sorted(OPENERS))
    parser.add_argument("--episodes", type=int, help="of each task (default: 12 to calibrate, 4 to evaluate)")
    parser.add_argument("--variants", type=int, default=1, help="of each episode and generator")
    parser.add_argument("--faults", type=int, default=4, help="put into each variant, one at a time")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--work", type=Path, default=Path("gate_faults"), help="what was measured, to go on from")
    parser.add_argument("--calibrate", type=Path, metavar="YAML", help="set thresholds, and write them here")
    parser.add_argument("--config", type=Path, help="thresholds to evaluate (default: those that ship)")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--time", action="store_true", help="measure what one verdict costs, and do no more")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.time:
        print_time(args.tasks)
        return
    started = time.perf_counter()
    first = 0 if args.calibrate else CALIBRATED_ON
    count = args.episodes or (CALIBRATED_ON if args.calibrate else 4)
    variants = list(measured(range(first, first + count), args))
    print(f"measured in {time.perf_counter() - started:.0f} s (what was kept from earlier runs apart)")
    if args.calibrate:
        config = calibrated([one.variant for one in variants])
        write_config(args.calibrate, config, count, args.generators)
        print_table("the episodes that thresholds are set on", [judged(one, config) for one in variants])
        figures = print_table(
            f"cross-validated, {FOLDS} folds of episodes, {SHUFFLES} times", cross_validated(variants)
        )
    else:
        config = load_config(GateConfig, args.config or "gate/default")
        figures = print_table("episodes that thresholds have not seen", [judged(one, config) for one in variants])
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2))


def judged(one: Measured, config: GateConfig) -> tuple[Measured, list[str]]:
    """Return a variant with its failures."""
    return one, one.variant.failures(config)


def cross_validated(variants: Sequence[Measured]) -> list[tuple[Measured, list[str]]]:
    """Return every variant with its failures under thresholds that were set without its episode."""
    rng = np.random.default_rng(0)
    episodes = sorted({one.episode for one in variants})
    verdicts = []
    for _ in range(SHUFFLES):
        order = rng.permutation(len(episodes))
        for fold in range(FOLDS):
            left_out = {episodes[index] for index in order[fold::FOLDS]}
            config = calibrated([one.variant for one in variants if one.episode not in left_out])
            verdicts += [judged(one, config) for one in variants if one.episode in left_out]
    return verdicts


def measured(numbers: range, args: argparse.Namespace) -> Iterator[Measured]:
    """Yield every judged variant of these episodes of each task, measuring those that no earlier run has measured."""
    reader = FrameReader(GeometryReader.shipped())
    generators = {which: OPENERS[which]() for which in args.generators}
    donors: dict[tuple[str, str], Videos] = {}
    cases = [(task, number) for number in numbers for task in args.tasks]
    for task, number in tqdm(cases, desc="measure", unit="episode"):
        recorded = None
        for which, look in product(args.generators, range(args.variants)):
            file = case_file(args, task, number, which, look, generators[which], reader.name)
            if not file.is_file():
                recorded = recorded or record(task, FIRST_SEED + SEEDS_PER_EPISODE * number, args.variants)
                if (task, which) not in donors:
                    donor = record(task, FIRST_SEED + SEEDS_PER_EPISODE * DONOR, 1)
                    donors[task, which] = variant_of(donor, which, 0, generators)
                place = (number * len(TASKS) + list(TASKS).index(task)) * len(OPENERS) + list(OPENERS).index(which)
                turn = place * args.variants + look
                rows = judged_rows(recorded, which, look, generators, reader, donors[task, which], turn, args.faults)
                with atomic_file(file) as temporary:
                    temporary.write_text(json.dumps(rows))
            for row in json.loads(file.read_text()):
                variant = JudgedVariant(row["measures"], frozenset(row["fixed"]), row["fault"], row["severity"])
                yield Measured((task, number), which, variant)


def case_file(args: argparse.Namespace, *case: Any) -> Path:
    """Return the file of one variant; its name changes with generator, reader and faults."""
    task, number, which, look, generator, reader = case
    provenance = generator.provenance if generator else {}
    told = json.dumps([provenance, reader, KINDS, args.faults], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    args.work.mkdir(parents=True, exist_ok=True)
    return Path(args.work) / f"{task}_{number:03d}_{which}_{look}_{digest}.json"


def record(task: str, first_seed: int, variants: int) -> Recorded:
    """Record one demo and render it again under every look; the looks keep the objects' colours."""
    environment = TabletopEnvironment(task, render=False)
    try:
        seed, episode = first_seed, None
        while episode is None:  # the expert fails now and then
            episode = record_demo(environment, seed, ACTION_NOISE, {"env_name": task})
            seed += 1
        rng = np.random.default_rng((episode.seed, list(TASKS).index(task)))
        shapes = {name: item.shape for name, item in environment.objects.items()}
        made = Recorded(episode, [], [], [])
        for _ in range(variants):
            environment.appearance = sample_appearance(rng, environment.object_colors)
            frames: dict[str, list[np.ndarray]] = {camera: [] for camera in episode.cameras}
            for state in episode.states:
                environment.set_state(state)
                for camera, shots in frames.items():
                    shots.append(environment.render_passes(camera).rgb)
            made.prompts.append(scene_prompt(scene_words(environment.appearance, shapes), rng))
            made.seeds.append(int(rng.integers(2**31)))
            made.renders.append({camera: np.stack(shots) for camera, shots in frames.items()})
    finally:
        environment.close()
    return made


def variant_of(recorded: Recorded, which: str, look: int, generators: dict[str, Generator | None]) -> Videos:
    """Return a right variant: the true render, or what the generator makes."""
    generator = generators[which]
    if generator is None:
        return recorded.renders[look]
    prompts, seeds = [recorded.prompts[look]], [recorded.seeds[look]]
    generator.prepare(prompts)
    episode = recorded.episode
    clips = [control_clip(passes, episode.labels, Recipe(), 0) for passes in episode.cameras.values()]
    made = generator.generate(clips, prompts, seeds)
    return {camera: videos[0] for camera, videos in zip(episode.cameras, made, strict=True)}


def judged_rows(
    recorded: Recorded,
    which: str,
    look: int,
    generators: dict[str, Generator | None],
    reader: FrameReader,
    donor: Videos,
    turn: int,
    count: int,
) -> list[dict[str, Any]]:
    """Return the measures of one variant as it is, and with each of its faults."""
    episode, images = recorded.episode, variant_of(recorded, which, look, generators)
    poses = embedded_poses(episode)
    clips = {camera: ClipGeometry(passes, episode.labels, poses) for camera, passes in episode.cameras.items()}
    colors = prompted_colors(recorded.prompts[look], episode.labels)
    reader.forget()

    def of_camera(camera: str, rgb: np.ndarray) -> dict[str, float]:
        clip = clips[camera]
        measures = pixel_measures(rgb, clip, colors) | flow_measures(rgb, clip)
        return measures | reader_measures(rgb, clip, reader.read(rgb))

    def row(fault: str, severity: int, videos: Videos, parts: dict[str, dict[str, float]]) -> dict[str, Any]:
        measures = {f"{camera}/{name}": value for camera, part in parts.items() for name, value in part.items()}
        measures |= between_cameras(clips, videos)
        fixed = [camera for camera, clip in clips.items() if clip.is_fixed]
        return {"fault": fault, "severity": severity, "fixed": fixed, "measures": measures}

    right = {camera: of_camera(camera, rgb) for camera, rgb in images.items()}
    rows = [row("", 0, images, right)]
    for place in range(len(KINDS)):
        name, severity = KINDS[(turn * count + place) * STEP % len(KINDS)]
        rng = np.random.default_rng([episode.seed, severity, *name.encode(), *which.encode(), look])
        made = inject(name, severity, episode, images, rng, donor)
        if made is None:
            continue
        changed = {camera: of_camera(camera, made.images[camera]) for camera in made.cameras}
        rows.append(row(name, severity, made.images, right | changed))
        if len(rows) == 1 + count:
            break
    return rows


class FrameReader:
    """Read each frame once, however often it comes back: faults leave most frames as they were, or move them."""

    def __init__(self, reader: GeometryReader) -> None:
        self._reader = reader
        self._read: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def name(self) -> str:
        """The name of the reader behind."""
        return self._reader.name

    def forget(self) -> None:
        """Forget all frames."""
        self._read.clear()

    def read(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Readings:
        """Return what is seen."""
        keys = [hashlib.blake2b(frame.tobytes()).digest() for frame in np.ascontiguousarray(rgb)]
        new = {key: place for place, key in enumerate(keys) if key not in self._read}
        if new:
            readings = self._reader.read(rgb[list(new.values())])
            pairs = zip(readings.role_probabilities, readings.log_depth, strict=True)
            self._read |= dict(zip(new, pairs, strict=True))
        roles, depths = zip(*(self._read[key] for key in keys), strict=True)
        return Readings(np.stack(roles), np.stack(depths))


def print_time(tasks: Sequence[str]) -> None:
    """Print the seconds of one core that the gate takes for a variant, and for the first one of an episode."""
    gate = Gate(GateConfig(), GeometryReader.shipped())
    for task in tasks:
        recorded = record(task, FIRST_SEEDS["evaluation"], 1)
        seconds = []
        for _ in range(3):
            started = time.process_time()
            gate.judge(recorded.episode, recorded.renders[0], recorded.prompts[0])
            seconds.append(time.process_time() - started)
        frames = recorded.episode.length
        print(
            f"{task}: {frames} frames, 2 cameras: first {seconds[0]:.1f} s, next {min(seconds[1:]):.1f} s of one core"
        )


def write_config(file: Path, config: GateConfig, episodes: int, generators: Sequence[str]) -> None:
    """Write thresholds with a line that says where they come from."""
    told = f"{episodes} episodes of each task, generators {', '.join(generators)}"
    head = (
        f"# Set by `python benchmarks/gate_faults.py --calibrate` on {told}.\n"
        "# cosmos_engine/quality/adherence.py says what each measure is; null: it does not decide.\n"
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary:
        temporary.write_text(head + as_yaml(config))


def print_table(name: str, variants: Sequence[tuple[Measured, list[str]]]) -> dict[str, Any]:
    """Print recall by fault and severity and false rejects by generator; return them."""
    caught: dict[tuple[str, int], list[bool]] = {}
    rejects: dict[str, list[bool]] = {}
    reasons: dict[str, int] = {}
    for one, failures in variants:
        variant = one.variant
        if variant.fault:
            caught.setdefault((variant.fault, variant.severity), []).append(bool(failures))
        else:
            rejects.setdefault(one.generator, []).append(bool(failures))
            for line in failures:
                measure = line.split()[0]
                reasons[measure] = reasons.get(measure, 0) + 1
    figures: dict[str, Any] = {"set": name, "recall": {}, "false_rejects": {}}
    print(f"\n{name}: {sum(map(len, caught.values()))} faults, {sum(map(len, rejects.values()))} right variants")
    for fault in FAULTS:
        cells = []
        for severity, told in severities_of(fault).items():
            found = caught.get((fault, severity), [])
            if found:
                figures["recall"].setdefault(fault, {})[severity] = [sum(found), len(found)]
                cells.append(f"{told or 'caught'}: {sum(found)}/{len(found)}")
        print(f"  {fault:18} {'   '.join(cells)}")
    shares = [
        float(np.mean([hit / of for hit, of in by_severity.values()])) for by_severity in figures["recall"].values()
    ]
    figures["recall_of_the_mix"] = float(np.mean(shares)) if shares else None
    for which, flags in rejects.items():
        figures["false_rejects"][which] = [sum(flags), len(flags)]
    wrong = [flag for flags in rejects.values() for flag in flags]
    figures["false_reject_share"] = float(np.mean(wrong)) if wrong else None
    print(f"  recall of the mix, every kind alike: {figures['recall_of_the_mix']}")
    print(f"  false rejects: {figures['false_rejects']}, in all {figures['false_reject_share']}")
    if reasons:
        print(f"  right variants fail by: {dict(sorted(reasons.items(), key=lambda item: -item[1]))}")
    return figures


def photometric() -> Generator:
    """Load the photometric baseline."""
    from cosmos_engine.augment.photometric import Photometric

    return Photometric()


def texture() -> Generator:
    """Load the texture baseline."""
    from cosmos_engine.augment.texture import Texture

    return Texture()


def tiny() -> Generator:
    """Load the checkpoint that ships."""
    from cosmos_engine.transfer.transfer25 import Transfer25

    return Transfer25.tiny()


OPENERS: dict[str, Callable[[], Generator | None]] = {
    RENDER: lambda: None,
    "photometric": photometric,
    "texture": texture,
    "transfer25-tiny": tiny,
}


if __name__ == "__main__":
    main()
