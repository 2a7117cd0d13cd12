"""A study as a page and as a chart: success by arm and shift, with intervals and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cosmos_engine.data.atomic import write_file
from cosmos_engine.report.paired import Paired

# Okabe and Ito's colours, which people with colour blindness tell apart.
COLORS = ("#5b6270", "#b8860b", "#56b4e9", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#8a6d00")
PLOT_WIDTH, PLOT_HEIGHT = 1180.0, 210.0
LEFT, TOP, PANEL_GAP = 46.0, 34.0, 64.0


@dataclass(frozen=True)
class StudyCell:
    """All trials of one arm under one shift, over its training seeds.

    Attributes:
        arm: what the policies were trained on.
        shift: the changed look.
        successes: trials that ended in success.
        finished: trials that ended in success or failure.
        crashes: trials that broke; in no rate.
        rate: successes / finished; None where none finished.
        wilson_95: its 95 % interval; None where none finished.
        paired: compared with the reference; None for the reference itself.
    """

    arm: str
    shift: str
    successes: int
    finished: int
    crashes: int
    rate: float | None
    wilson_95: tuple[float, float] | None
    paired: Paired | None

    @property
    def mark(self) -> str:
        """An arrow where the difference from the reference is significant, else nothing."""
        return self.paired.mark if self.paired else ""


@dataclass(frozen=True)
class Target:
    """A success rate to reach; without one, to be no worse than the reference by the paired test."""

    shift: str
    cell: StudyCell
    least: float | None
    published: float | None

    @property
    def met(self) -> bool:
        """Whether the rate reaches the target; the interval says how sure that is."""
        if self.cell.rate is None:
            return False
        return self.cell.mark != "▼" if self.least is None else self.cell.rate >= self.least


@dataclass(frozen=True)
class StudyTable:
    """The cells of one task; what has not run is not among them."""

    task: str
    arms: tuple[str, ...]
    shifts: tuple[str, ...]
    cells: tuple[StudyCell, ...]
    targets: tuple[Target, ...]

    def cell(self, arm: str, shift: str) -> StudyCell | None:
        """Return a cell, None where it has not run."""
        return next((cell for cell in self.cells if (cell.arm, cell.shift) == (arm, shift)), None)


@dataclass(frozen=True)
class StudyPage:
    """Everything that the page shows."""

    tables: tuple[StudyTable, ...]
    reference: str
    target_arm: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    low_y: float
    high_y: float
    color: str
    caption: str


@dataclass(frozen=True)
class _Panel:
    task: str
    top: float
    points: tuple[_Point, ...]
    labels: tuple[tuple[float, str], ...]
    separators: tuple[float, ...]


def chart(tables: Sequence[StudyTable]) -> str:
    """Return all success rates with their 95 % intervals as an SVG picture, one panel for each task."""
    arms = tables[0].arms if tables else ()
    colors = {arm: COLORS[index % len(COLORS)] for index, arm in enumerate(arms)}
    panels = [_panel(table, colors, TOP + index * (PLOT_HEIGHT + PANEL_GAP)) for index, table in enumerate(tables)]
    environment = Environment(loader=PackageLoader("cosmos_engine.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("study_chart.svg.j2").render(
        panels=panels,
        arms=[(arm, color, LEFT + 165.0 * index) for index, (arm, color) in enumerate(colors.items())],
        left=LEFT,
        width=PLOT_WIDTH,
        height=PLOT_HEIGHT,
        total_width=math.ceil(LEFT + PLOT_WIDTH + 10),
        total_height=math.ceil(TOP + len(panels) * (PLOT_HEIGHT + PANEL_GAP)),
    )


def _panel(table: StudyTable, colors: dict[str, str], top: float) -> _Panel:
    group = PLOT_WIDTH / max(len(table.shifts), 1)
    points, labels = [], []
    for column, shift in enumerate(table.shifts):
        labels.append((LEFT + (column + 0.5) * group, shift.replace("_", " ")))
        for row, arm in enumerate(table.arms):
            cell = table.cell(arm, shift)
            if cell is None or cell.rate is None or cell.wilson_95 is None:
                continue
            low, high = cell.wilson_95
            points.append(
                _Point(
                    x=LEFT + column * group + (row + 1) * group / (len(table.arms) + 1),
                    y=top + (1 - cell.rate) * PLOT_HEIGHT,
                    low_y=top + (1 - low) * PLOT_HEIGHT,
                    high_y=top + (1 - high) * PLOT_HEIGHT,
                    color=colors[arm],
                    caption=f"{arm}, {shift}: {cell.successes}/{cell.finished}",
                )
            )
    separators = tuple(LEFT + column * group for column in range(1, len(table.shifts)))
    return _Panel(table.task, top, tuple(points), tuple(labels), separators)


def write_study_page(page: StudyPage, path: Path) -> None:
    """Write the study as one self-contained HTML file, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    style = (resources.files("cosmos_engine.report") / "templates" / "style.css").read_text(encoding="utf-8")
    environment = Environment(loader=PackageLoader("cosmos_engine.report"), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("study.html.j2").render(
        page=page, chart=Markup(chart(page.tables)), style=Markup(style)
    )
    write_file(path, html.encode())
