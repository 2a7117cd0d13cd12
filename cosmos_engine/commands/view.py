"""The command `cosmos-engine view`: one self-contained HTML report of a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_view_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `view` to a command line."""
    view = subparsers.add_parser("view", help="write one self-contained HTML report")
    view.add_argument("dataset", type=Path, metavar="DATASET")
    view.add_argument("--recording", type=Path, help="the recording it was made from: shows passes and controls")
    view.add_argument("--benchmark", type=Path, action="append", default=[], help="a result.json; may be repeated")
    view.add_argument("--demos", metavar="0-11,40", help="demos to show, or all (default: the first 12)")
    view.add_argument(
        "--public-key", type=Path, metavar="FILE", help="check that the certificate was signed by its owner"
    )
    view.add_argument("--out", type=Path, required=True, help="the HTML file")
    view.set_defaults(run=_view)


def _view(args: argparse.Namespace) -> int:
    from cosmos_engine.report.page import write_report
    from cosmos_engine.view import collect_report

    report = collect_report(args.dataset, args.recording, args.benchmark, args.demos, args.public_key)
    write_report(report, args.out)
    print(f"report: {args.out}")
    shown = report.selection
    if shown is not None:
        size = f"{args.out.stat().st_size / 1e6:.1f} MB"
        rest = "" if len(shown.shown) == shown.total else "; --demos shows others, or all"
        print(f"{len(shown.shown)} of {shown.total} demos, {size}{rest}")
    return 0
