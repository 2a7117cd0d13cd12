"""The commands `cosmos-engine isaac ...`, added through the entry point `cosmos_engine.commands`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from cosmos_engine.config import find_config, load_config
from cosmos_engine.errors import InputError


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `isaac` to a command line."""
    isaac = subparsers.add_parser("isaac", help="the extension inside Isaac Sim 5.1 and 6.0: install, check, generate")
    actions = isaac.add_subparsers(dest="action", required=True, metavar="ACTION")
    where = "an unpacked Isaac Sim, or a Python environment with the package isaacsim (default: where it usually is)"
    into = "folder of extensions (default: extsUser of Isaac Sim, which it looks into by itself)"

    install = actions.add_parser("install", help="put the extension where Isaac Sim finds it")
    install.add_argument("--isaac-path", type=Path, metavar="DIR", help=where)
    install.add_argument("--to", type=Path, metavar="DIR", help=into)
    install.set_defaults(run=_install)

    uninstall = actions.add_parser("uninstall", help="take it away")
    uninstall.add_argument("--isaac-path", type=Path, metavar="DIR", help=where)
    uninstall.add_argument("--to", type=Path, metavar="DIR", help=into)
    uninstall.set_defaults(run=_uninstall)

    doctor = actions.add_parser("doctor", help="say what is there and what is missing")
    doctor.add_argument("--isaac-path", type=Path, metavar="DIR", help=where)
    doctor.add_argument("--to", type=Path, metavar="DIR", help=into)
    doctor.set_defaults(run=_doctor)

    selfcheck = actions.add_parser("selfcheck", help="run Isaac Sim and print one verdict for every promise")
    selfcheck.add_argument("--isaac-path", type=Path, metavar="DIR", help=where)
    selfcheck.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for what it records")
    selfcheck.set_defaults(run=_selfcheck)

    generate = actions.add_parser("generate", help="record scripted demos headless, then augment them")
    generate.add_argument("config", metavar="CONFIG", help="a YAML file, or franka_pick_place")
    generate.add_argument("overrides", nargs="*", metavar="key=value", help="changes, as in out=here demos.episodes=50")
    generate.set_defaults(run=_generate)

    benchmark = actions.add_parser("benchmark", help="measure policies in Isaac Sim, under the benchmark's shifts")
    benchmark.add_argument(
        "policies",
        nargs="+",
        metavar="RUN",
        help="folders of `cosmos-engine train`; shifts.<shift>.<key>=value changes a strength",
    )
    benchmark.add_argument("--config", default="franka_pick_place", help="as of generate; its demos' scene is used")
    benchmark.add_argument("--shifts", default="all", help="names separated by commas, or all (the default)")
    benchmark.add_argument(
        "--strengths", default="default", metavar="NAME", help="a name in configs/shifts or a YAML file"
    )
    benchmark.add_argument("--trials", type=int, default=20, help="per policy and shift (default 20)")
    benchmark.add_argument("--isaac-path", type=Path, metavar="DIR", help=where)
    benchmark.add_argument("--device", default="auto", help="of the policies: auto, cpu or cuda[:n]")
    benchmark.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same command resumes it")
    benchmark.set_defaults(run=_benchmark, overrides=[])

    pictures = actions.add_parser("pictures", help="write the middle frame of a demo and its variants (PNG)")
    pictures.add_argument("dataset", type=Path, metavar="DATASET")
    pictures.add_argument("--out", type=Path, required=True, metavar="DIR")
    pictures.add_argument("--demo", type=int, default=0, help="number of the demo (default 0)")
    pictures.add_argument("--variants", type=int, default=5, help="at most so many (default 5)")
    pictures.set_defaults(run=_pictures)


def _install(args: argparse.Namespace) -> int:
    from isaac_ext.outside.isaac_sim import find_isaac_sim
    from isaac_ext.outside.layout import bring_h5py, install, this_python
    from isaac_ext.settings import EXTENSION

    isaac = find_isaac_sim(args.isaac_path)
    isaac.check()
    folder = args.to or isaac.user_extensions
    target = install(folder, this_python())
    print(f"installed: {target}")
    print(bring_h5py(isaac, target))
    found_by_itself = [] if args.to is None else ["--ext-folder", str(folder.absolute())]
    print(f"start it with: {shlex.join([str(isaac.program), *found_by_itself, '--enable', EXTENSION])}")
    print("or switch it on, with Autoload, under Window > Extensions > Third party")
    if not isaac.supported:
        print(f"note: Isaac Sim {isaac.version[0]}.{isaac.version[1]} is another version than this was written for")
    return 0


def _uninstall(args: argparse.Namespace) -> int:
    from isaac_ext.outside.isaac_sim import find_isaac_sim
    from isaac_ext.outside.layout import uninstall

    print(f"removed: {uninstall(args.to or find_isaac_sim(args.isaac_path).user_extensions)}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from isaac_ext.outside.doctor import examine

    missing = 0
    for finding in examine(args.isaac_path, args.to):
        print(finding, flush=True)
        missing += finding.ok is False
    print({0: "nothing is missing", 1: "1 thing is missing"}.get(missing, f"{missing} things are missing"))
    return 0 if not missing else 1


def _selfcheck(args: argparse.Namespace) -> int:
    from cosmos_engine.data.atomic import make_folder
    from isaac_ext.outside.generate import run_headless
    from isaac_ext.outside.isaac_sim import find_isaac_sim

    isaac = find_isaac_sim(args.isaac_path)
    if args.out.exists() and any(args.out.iterdir()):
        raise InputError(f"{args.out}: expected a new or empty folder")
    make_folder(args.out)
    return run_headless(isaac, "selfcheck", {"folder": str(args.out.absolute())})


def _generate(args: argparse.Namespace) -> int:
    from cosmos_engine.cli import main, parsed
    from cosmos_engine.commands.augment import check_job
    from isaac_ext.outside.generate import GenerateConfig, generate

    config = load_config(GenerateConfig, _config_file("isaac", args.config), args.overrides)
    return generate(config, lambda words: check_job(parsed(words)), main)


def _benchmark(args: argparse.Namespace) -> int:
    from cosmos_engine.device import choose_device
    from cosmos_engine.sim.strengths import ShiftStrengths, overlaps
    from isaac_ext.outside.environment import IsaacArena, as_seen_by
    from isaac_ext.outside.generate import GenerateConfig
    from isaac_ext.outside.isaac_sim import find_isaac_sim
    from policies.benchmark import BenchmarkConfig, Contestant, choose_shifts, run_benchmark
    from policies.benchmark_result import MARKDOWN_FILE
    from policies.checkpoint import load_policy

    overrides = [text for text in args.policies if "=" in text] + args.overrides
    folders = [Path(text) for text in args.policies if "=" not in text]
    if not folders:
        raise InputError("isaac benchmark: expected at least one folder of `cosmos-engine train`")
    strengths = load_config(ShiftStrengths, _config_file("shifts", args.strengths))
    # One Isaac Sim fills a GPU; trials run one after another.
    defaults = BenchmarkConfig(trials=args.trials, environments=1, camera="front", shifts=strengths)
    config = load_config(BenchmarkConfig, None, overrides, defaults)
    for line in overlaps(config.shifts):
        print(f"cosmos-engine isaac benchmark: note: shifts.{line}", file=sys.stderr)
    shifts = choose_shifts(args.shifts, IsaacArena.shifts)
    scene = load_config(GenerateConfig, _config_file("isaac", args.config)).demos
    device = choose_device(args.device)
    contestants = []
    for folder in folders:
        loaded = load_policy(folder, device)
        contestants.append(
            Contestant(
                folder.resolve().name, loaded.policy, str(folder), loaded.weights_sha256, demo_seeds=loaded.seen_seeds
            )
        )
    # Where the policies differ in what they see, `run_benchmark` names the one that does not fit.
    scene = as_seen_by(contestants[0].policy.spec, scene)
    arena = IsaacArena(find_isaac_sim(args.isaac_path), scene, config.shifts)
    run_benchmark(contestants, arena, shifts, config, args.out)
    print((args.out / MARKDOWN_FILE).read_text(encoding="utf-8"))
    return 0


def _config_file(group: str, name: str) -> Path:
    path = Path(name)
    return path if path.suffix in {".yaml", ".yml"} else find_config(f"{group}/{name}")


def _pictures(args: argparse.Namespace) -> int:
    from cosmos_engine.data import Dataset
    from isaac_ext.outside.pictures import write_pictures

    for picture in write_pictures(Dataset(args.dataset), args.out, args.demo, args.variants):
        line = {"picture": str(picture.path.absolute()), "camera": picture.camera, "variant": picture.variant}
        print(json.dumps(line), flush=True)
    return 0
