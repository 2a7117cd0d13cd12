"""The commands `cosmos-engine import` and `cosmos-engine export`: other projects' formats."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

IMPORTS = ("isaaclab", "robomimic", "cosmoswriter")
EXPORTS = ("isaaclab", "robomimic", "lerobot", "dppo")


def add_interop_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `import` and `export` to a command line."""
    bring = subparsers.add_parser("import", help=f"make a recording of another project's data: {', '.join(IMPORTS)}")
    bring.add_argument("format", choices=IMPORTS, metavar="FORMAT", help=", ".join(IMPORTS))
    bring.add_argument("source", type=Path, metavar="SOURCE", help="the other project's file or folder")
    bring.add_argument("--out", type=Path, required=True, help="folder of the recording; the same command resumes it")
    bring.add_argument("--config", metavar="FILE", help="cameras and labels: a YAML, or interop/isaaclab_stack_cosmos")
    bring.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in step_hz=20")
    bring.set_defaults(run=_import)

    give = subparsers.add_parser("export", help=f"write a dataset or a recording for others: {', '.join(EXPORTS)}")
    give.add_argument("format", choices=EXPORTS, metavar="FORMAT", help=", ".join(EXPORTS))
    give.add_argument("source", type=Path, metavar="DATASET|RECORDING")
    give.add_argument("--out", type=Path, required=True, help="the file or folder to make")
    give.add_argument(
        "--recording", type=Path, help="what the dataset was made from: brings rewards, depth, segmentation, extras"
    )
    give.add_argument("overrides", nargs="*", metavar="key=value", help="as in validation_fraction=0.2")
    give.set_defaults(run=_export)


def _import(args: argparse.Namespace) -> int:
    if args.format == "cosmoswriter":
        return _import_cosmoswriter(args)
    from cosmos_engine.config import load_config
    from cosmos_engine.data import Recording
    from cosmos_engine.interop.import_config import ImportConfig
    from cosmos_engine.interop.isaaclab import import_isaaclab
    from cosmos_engine.interop.robomimic import import_robomimic

    config = load_config(ImportConfig, args.config, args.overrides)
    imports = {"isaaclab": import_isaaclab, "robomimic": import_robomimic}
    done = imports[args.format](args.source, args.out, config)
    before = f", {done.before} were there before" if done.before else ""
    print(f"recording: {args.out} ({done.made} episodes imported{before})")
    if config.skip:
        print(f"kept for exports only, neither augmented nor trained on: {', '.join(config.skip)}")
    if not Recording(args.out).header(0).cameras:
        print("it has no camera with depth and segmentation, so there is nothing to augment")
    if done.variants:
        print(f"{done.variants} variants of other demos were left out")
    return 0


def _import_cosmoswriter(args: argparse.Namespace) -> int:
    from cosmos_engine.config import load_config
    from cosmos_engine.interop.cosmoswriter import CosmosWriterConfig, import_cosmoswriter

    config = load_config(CosmosWriterConfig, args.config, args.overrides)
    clips = import_cosmoswriter(args.source, args.out, config)
    print(f"{args.out}: {clips} clips; next: cosmos-engine transfer {args.out / 'spec.jsonl'} --out variants/")
    return 0


def _export(args: argparse.Namespace) -> int:
    from cosmos_engine.config import load_config
    from cosmos_engine.interop.demo_export import ExportOptions

    if args.format in ("isaaclab", "robomimic"):
        from cosmos_engine.interop.isaaclab import export_isaaclab
        from cosmos_engine.interop.robomimic import export_robomimic

        write: Callable[..., int] = {"isaaclab": export_isaaclab, "robomimic": export_robomimic}[args.format]
        options: object = load_config(ExportOptions, None, args.overrides)
    elif args.format == "lerobot":
        from cosmos_engine.interop.lerobot import LeRobotOptions, export_lerobot

        write, options = export_lerobot, load_config(LeRobotOptions, None, args.overrides)
    else:
        from cosmos_engine.interop.dppo import DppoOptions, export_dppo

        write, options = export_dppo, load_config(DppoOptions, None, args.overrides)
    episodes = write(args.source, args.out, args.recording, options)
    print(f"{args.format}: {args.out} ({episodes} episodes)")
    return 0
