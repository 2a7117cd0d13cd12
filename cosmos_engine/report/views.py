"""Recorded demos and success rates as the page's template prints them: text and data URIs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosmos_engine.data.episode import CameraPasses
from cosmos_engine.report.benchmark import PAIRED_NOTE, SEQUENTIAL_MARK, SEQUENTIAL_NOTE, Benchmark, Cell
from cosmos_engine.report.clips import Clip, data_uri
from cosmos_engine.report.colour import Rgb, depth_range_m, depth_to_rgb, instance_palette, instance_to_rgb, turbo
from cosmos_engine.report.content import RecordedDemo
from cosmos_engine.report.sheet import film_strip, webp
from cosmos_engine.report.video import read_mp4

# Frames in a film strip: six fit a projector's width at a size where an object can be seen.
STRIP_FRAMES = 6
ROLLOUTS_PER_CELL = 4
# Strips whose colours stand for values; the others may be stored with loss.
LOSSLESS_STRIPS = frozenset({"instance ids", "edge", "seg"})
GRADIENT_STOPS = 9


@dataclass(frozen=True)
class StripView:
    """One row of a film strip: what it is, and its picture."""

    label: str
    kind: str
    image: str


@dataclass(frozen=True)
class CameraView:
    """All passes and controls of one camera."""

    name: str
    size: str
    strips: tuple[StripView, ...]
    near_m: float
    far_m: float


@dataclass(frozen=True)
class LegendView:
    """What a colour of the instance ids stands for."""

    color: str
    name: str
    class_name: str
    role: str


@dataclass(frozen=True)
class DemoView:
    """One recorded demo."""

    title: str
    instruction: str
    facts: tuple[str, ...]
    cameras: tuple[CameraView, ...]
    legend: tuple[LegendView, ...]
    depth_gradient: str


@dataclass(frozen=True)
class RolloutView:
    """One rollout video, or why it is not there."""

    caption: str
    outcome: str
    video: str


@dataclass(frozen=True)
class CellView:
    """One row of a success table, percentages ready to print; the bar's bounds in percent."""

    policy: str
    count: str
    rate: str
    interval: str
    rate_percent: float | None
    low_percent: float
    high_percent: float
    crashes: int
    mean_steps: str
    paired: str
    rollouts: tuple[RolloutView, ...]
    rollouts_left_out: int


@dataclass(frozen=True)
class TableView:
    """The success table of one task: shift -> rows."""

    task: str
    created: str
    references: tuple[str, ...]
    """Policies that others are compared with."""
    shifts: tuple[tuple[str, tuple[CellView, ...]], ...]


def demo_view(demo: RecordedDemo) -> DemoView:
    """Return the strips, the legend and the facts of one recorded demo."""
    episode = demo.episode
    palette = instance_palette(episode.labels)
    visible = {
        int(instance_id) for passes in episode.cameras.values() for instance_id in np.unique(passes.instance)
    } & set(palette)
    legend = tuple(
        LegendView(_css(palette[instance_id]), label.name, label.class_name, label.role)
        for instance_id, label in sorted(episode.labels.items())
        if instance_id in visible
    )
    return DemoView(
        title=f"demo {demo.demo}",
        instruction=episode.instruction,
        facts=(
            episode.task,
            "success" if episode.success else "no success",
            f"{episode.length} control steps at {episode.step_hz:g} Hz",
            f"seed {episode.seed}",
            episode.source,
        ),
        cameras=tuple(
            _camera_view(name, passes, palette, demo.controls.get(name, {})) for name, passes in episode.cameras.items()
        ),
        legend=legend,
        depth_gradient=_gradient(),
    )


def table_views(benchmarks: Iterable[Benchmark]) -> tuple[TableView, ...]:
    """Return one success table for each task, with the cells of all benchmarks of that task, grouped by shift."""
    by_task: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        by_task.setdefault(benchmark.task, []).append(benchmark)
    tables = []
    for task, results in by_task.items():
        shifts: dict[str, list[CellView]] = {}
        for cell in (cell for benchmark in results for cell in benchmark.cells):
            shifts.setdefault(cell.shift, []).append(_cell_view(cell))
        rows = tuple((shift, tuple(cells)) for shift, cells in shifts.items())
        created = ", ".join(benchmark.created for benchmark in results)
        compared = [cell.paired.reference for benchmark in results for cell in benchmark.cells if cell.paired]
        tables.append(TableView(task, created, tuple(dict.fromkeys(compared)), rows))
    return tuple(tables)


def sequential_note(benchmarks: Iterable[Benchmark]) -> str:
    """Return what the mark on an interval means; nothing where there is none."""
    is_marked = any(cell.sequence_95 for benchmark in benchmarks for cell in benchmark.cells)
    return f"{SEQUENTIAL_MARK} {SEQUENTIAL_NOTE}" if is_marked else ""


def paired_note(benchmarks: Iterable[Benchmark]) -> str:
    """Return what a comparison says; nothing where there is none."""
    is_compared = any(cell.paired for benchmark in benchmarks for cell in benchmark.cells)
    return f"Against another policy: {PAIRED_NOTE}" if is_compared else ""


def _camera_view(
    name: str, passes: CameraPasses, palette: Mapping[int, Rgb], controls: Mapping[str, Clip]
) -> CameraView:
    near_m, far_m = depth_range_m(passes.depth_m)
    rows: list[tuple[str, str, Clip]] = [
        ("rgb", "pass", passes.rgb),
        ("depth", "pass", depth_to_rgb(passes.depth_m, near_m, far_m)),
        ("instance ids", "pass", instance_to_rgb(passes.instance, palette)),
        *((modality, "control", clip) for modality, clip in controls.items()),
    ]
    height, width = passes.size
    return CameraView(
        name=name,
        size=f"{width} x {height}",
        strips=tuple(StripView(label, kind, _strip(clip, label in LOSSLESS_STRIPS)) for label, kind, clip in rows),
        near_m=near_m,
        far_m=far_m,
    )


def _cell_view(cell: Cell) -> CellView:
    finished = cell.trials - cell.crashes
    low, high = cell.interval_95 or (0.0, 0.0)
    has_rate = cell.success_rate is not None
    return CellView(
        policy=cell.policy,
        count=f"{cell.successes}/{finished}",
        rate=f"{100 * cell.success_rate:.0f} %" if cell.success_rate is not None else "no trial finished",
        interval=f"{100 * low:.0f}–{100 * high:.0f} %{SEQUENTIAL_MARK if cell.sequence_95 else ''}" if has_rate else "",
        rate_percent=None if cell.success_rate is None else 100 * cell.success_rate,
        low_percent=100 * low,
        high_percent=100 * high,
        crashes=cell.crashes,
        mean_steps="–" if cell.mean_steps_to_success is None else f"{cell.mean_steps_to_success:.0f}",
        paired=f"{cell.paired.text} {cell.paired.mark}".rstrip() if cell.paired else "",
        rollouts=tuple(_rollout_view(path, cell) for path in cell.videos[:ROLLOUTS_PER_CELL]),
        rollouts_left_out=max(0, len(cell.videos) - ROLLOUTS_PER_CELL),
    )


def _rollout_view(path: Path, cell: Cell) -> RolloutView:
    """Return a rollout; its seed is the number that ends the file's name, as the benchmark writes it."""
    number = re.search(r"(\d+)$", path.stem)
    outcome = cell.outcomes.get(int(number[1]), "") if number else ""
    caption = f"seed {number[1]}" if number and outcome else path.stem
    if not path.is_file():
        # A benchmark's numbers are worth showing without its videos, which people delete first.
        return RolloutView(f"{caption}: video not found: {path.name}", outcome, "")
    return RolloutView(caption, outcome, data_uri(read_mp4(path), "video/mp4"))


def _strip(clip: Clip, lossless: bool) -> str:
    return data_uri(webp(film_strip(clip, STRIP_FRAMES), lossless=lossless), "image/webp")


def _gradient() -> str:
    colors = turbo()[np.linspace(255, 0, GRADIENT_STOPS).astype(int)]
    return f"linear-gradient(to right, {', '.join(_css((int(r), int(g), int(b))) for r, g, b in colors)})"


def _css(rgb: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
