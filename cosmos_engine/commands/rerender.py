"""`cosmos-engine rerender`: the demos of a robomimic file, rendered anew with every pass."""

from __future__ import annotations

import argparse
from pathlib import Path

from cosmos_engine.config import load_config


def add_rerender_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rerender` to a command line."""
    parser = subparsers.add_parser(
        "rerender", help="render the states of a robomimic file of robosuite's tasks anew, as a recording"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="robomimic's HDF5 of Lift, Stack, Can or Square")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in image_size=84, own_model=true")
    parser.add_argument("--out", type=Path, required=True, help="folder of the recording; the same command goes on")
    parser.set_defaults(run=_rerender)


def _rerender(args: argparse.Namespace) -> int:
    from cosmos_engine.sim.robosuite_rerender import RerenderConfig, rerender

    count = rerender(args.file, args.out, load_config(RerenderConfig, None, args.overrides))
    print(f"recording: {args.out} ({count} episodes)")
    return 0
