"""The report: one HTML file that needs nothing else, and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cosmos_engine.data.atomic import write_file
from cosmos_engine.report.content import ReportInput
from cosmos_engine.report.views import demo_view, group_view, hero_view, table_views


def build_report(report: ReportInput) -> str:
    """Return the report as one HTML page; pictures, videos, style and script are inside it.

    A content security policy in the page forbids every request, so what it shows cannot depend on the network. All
    text from prompts, labels and files is escaped.

    Raises:
        InputError: a rollout video that is there cannot be played by a browser.
    """
    templates = resources.files("cosmos_engine.report") / "templates"
    style = (templates / "style.css").read_text(encoding="utf-8")
    script = (templates / "sync.js").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    page = environment.from_string((templates / "page.html.j2").read_text(encoding="utf-8"))
    return page.render(
        report=report,
        hero=hero_view(report.groups[0], report.demos) if report.groups else None,
        demos=[demo_view(demo) for demo in report.demos],
        groups=[group_view(group) for group in report.groups],
        tables=table_views(report.benchmarks),
        # Our own two files, which hold no closing tag; everything else stays escaped.
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}",
    )


def write_report(report: ReportInput, path: Path) -> None:
    """Write the report to `path`, whole or not at all; an older report there is replaced.

    Raises:
        InputError: see `build_report`; or the file cannot be written.
    """
    write_file(path, build_report(report).encode())
