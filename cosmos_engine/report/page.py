"""The report: one HTML file that needs nothing else, and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cosmos_engine.data.atomic import atomic_file
from cosmos_engine.report.content import ReportInput
from cosmos_engine.report.outcome_view import outcome_view
from cosmos_engine.report.variant_views import GroupView, group_view, hero_view
from cosmos_engine.report.views import demo_view, paired_note, sequential_note, table_views

SCRIPTS = ("sync.js", "marks.js")


@dataclass
class _Sizes:
    """What the variants on the page take, counted as they are written."""

    variants: int = 0
    size: int = 0

    def count(self, group: GroupView) -> GroupView:
        self.variants += len(group.tiles)
        self.size += sum(tile.size for tile in group.tiles)
        return group

    @property
    def text(self) -> str:
        return f"{self.size / max(self.variants, 1) / 1e6:.2f} MB"


def report_parts(report: ReportInput) -> Iterator[str]:
    """Yield the report as one HTML page, piece by piece; pictures, videos, style and script are inside it.

    Groups are read when it is their turn, so memory holds about one clip and one demo's videos, however many there are.
    A content security policy in the page forbids every request, so what it shows cannot depend on the network. All
    text from prompts, labels and files is escaped.

    Raises:
        InputError: a rollout video that is there cannot be played by a browser; a variant's clip does not fit its
            source, or a strip of a rejected one cannot be read.
    """
    templates = resources.files("cosmos_engine.report") / "templates"
    style = (templates / "style.css").read_text(encoding="utf-8")
    script = "\n".join((templates / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=PackageLoader("cosmos_engine.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    with_variants = next((group for group in report.groups if group.variants), None)
    sizes = _Sizes()
    return environment.get_template("page.html.j2").generate(
        report=report,
        hero=None if with_variants is None else hero_view(with_variants, report.demos),
        demos=[demo_view(demo) for demo in report.demos],
        outcome=None if report.outcome is None else outcome_view(report.outcome),
        groups=(sizes.count(group_view(group)) for group in report.groups),
        sizes=sizes,
        tables=table_views(report.benchmarks),
        sequential_note=sequential_note(report.benchmarks),
        paired_note=paired_note(report.benchmarks),
        # Our own files, which hold no closing tag; everything else stays escaped.
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}",
    )


def build_report(report: ReportInput) -> str:
    """Return the report as one text; as `report_parts`."""
    return "".join(report_parts(report))


def write_report(report: ReportInput, path: Path) -> None:
    """Write the report to `path`, whole or not at all; an older report there is replaced.

    Raises:
        InputError: see `report_parts`; or the file cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(report_parts(report))
