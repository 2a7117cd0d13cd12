"""The command line `cosmos-engine`: record, augment, view, verify, sign, inspect, import, export, posttrain, and the
commands of packages above the engine (train, benchmark), which register themselves under the entry point
`cosmos_engine.commands`.

What a command needs is imported when it runs: `cosmos-engine --help` must not wait for torch, and `record` needs
MuJoCo, which the rest of the engine does without.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from cosmos_engine import __version__
from cosmos_engine.commands.augment import add_augment_command
from cosmos_engine.commands.interop import add_interop_commands
from cosmos_engine.commands.plan import add_plan_command
from cosmos_engine.commands.posttrain import add_posttrain_command
from cosmos_engine.commands.rerender import add_rerender_command
from cosmos_engine.commands.sign import add_sign_commands
from cosmos_engine.commands.transfer import add_transfer_command
from cosmos_engine.commands.verify import add_verify_command, is_dataset
from cosmos_engine.commands.view import add_view_command
from cosmos_engine.commands.weights import add_weights_command
from cosmos_engine.config import load_config
from cosmos_engine.errors import InputError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 130 for Ctrl-C."""
    args = parsed(arguments)
    try:
        return int(args.run(args))
    except InputError as error:
        complaint = str(error)
    except RuntimeError as error:  # MuJoCo's, as it is imported; what it takes differs by platform and version
        if "MUJOCO_GL" not in str(error):
            raise
        complaint = f"{error}; expected egl, glfw or osmesa, or leave it unset"
    except KeyboardInterrupt:
        print(f"\ncosmos-engine {args.command}: stopped; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has closed it: nothing is wrong, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    # Only here, where the exception is gone and with it the progress bars that it had left open on the line.
    print(f"cosmos-engine {args.command}: {complaint}", file=sys.stderr)
    return EXIT_BAD_INPUT


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, taking `key=value` words wherever they stand.

    argparse alone wants all positionals in one place.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    overrides = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(overrides) < len(rest) or (rest and not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(word for word in rest if word not in overrides) or rest[0]}")
    if overrides:
        args.overrides = [*args.overrides, *overrides]
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cosmos-engine", description="Record demos, make photorealistic variants that keep their actions, train."
    )
    parser.add_argument("--version", action="version", version=f"cosmos-engine {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    record = commands.add_parser("record", help="record demos of a task on the embedded table-top")
    record.add_argument("--task", required=True, help="lift, stack or apple_in_bowl")
    record.add_argument("--episodes", type=int, required=True, help="demos in the recording when it is done")
    record.add_argument("--out", type=Path, required=True, help="folder of the recording; the same command resumes it")
    record.add_argument("--workers", type=int, help="processes that make demos (default: 1; on Ray one a core)")
    record.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="workers on Ray, one a CPU core: here, or on the cluster at ADDRESS ('auto': this machine's)",
    )
    _add_overrides(record)
    record.set_defaults(run=_record)

    add_plan_command(commands)
    add_augment_command(commands)

    add_view_command(commands)
    add_verify_command(commands)
    add_sign_commands(commands)

    inspect = commands.add_parser("inspect", help="say what a recording or a dataset holds")
    inspect.add_argument("path", type=Path, metavar="RECORDING|DATASET")
    inspect.set_defaults(run=_inspect)

    add_interop_commands(commands)
    add_rerender_command(commands)
    add_transfer_command(commands)
    add_weights_command(commands)
    add_posttrain_command(commands)

    for point in sorted(entry_points(group="cosmos_engine.commands"), key=lambda point: point.name):
        point.load()(commands)
    return parser


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in seed=3")


def _record(args: argparse.Namespace) -> int:
    from cosmos_engine.sim.recorder import RecordConfig, record_demos

    overrides = [f"task={args.task}", f"episodes={args.episodes}", *args.overrides]
    config = load_config(RecordConfig, None, overrides)
    record_demos(config, args.out, args.workers, args.ray)
    print(f"recording: {args.out}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from cosmos_engine.data import Dataset, Recording

    if is_dataset(args.path):
        dataset = Dataset(args.path)
        originals = int((dataset.variant == 0).sum())
        print(
            f"dataset {args.path}: {dataset.episode_count} episodes ({originals} originals, "
            f"{dataset.episode_count - originals} variants, {int(dataset.accepted.sum())} accepted)"
        )
        for key in dataset.keys:
            array = dataset.array(key)
            print(f"  {key:32} {array.dtype!s:8} {array.shape}")
        return 0
    recording = Recording(args.path)
    print(f"recording {args.path}: {len(recording)} episodes")
    for index in range(len(recording)):
        header = recording.header(index)
        cameras = ", ".join(f"{name} {height}x{width}" for name, (height, width) in header.cameras.items())
        outcome = "success" if header.success else "failure"
        print(f"  {index:6d} {header.task:16} {header.length:5d} frames  {outcome}  seed {header.seed}  {cameras}")
    return 0
