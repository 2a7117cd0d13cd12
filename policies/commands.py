"""The command line of the policies. The only module here that builds environments.

What a command needs is imported when it runs: `cosmos-engine --help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_engine.config import find_config, load_config

if TYPE_CHECKING:
    from cosmos_engine.sim.environment import Environment
    from cosmos_engine.sim.look import Look
    from cosmos_engine.sim.strengths import ShiftStrengths
    from policies.benchmark import Arena


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train`, `finetune`, `benchmark`, `study` and `rollout` to a command line."""
    train = subparsers.add_parser("train", help="train a policy on a dataset (zarr)")
    train.add_argument("dataset", type=Path, metavar="DATASET", help="a zarr written by `cosmos-engine augment`")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in updates=2000")
    train.add_argument("--out", type=Path, required=True, help="folder of the run; the same command resumes it")
    train.add_argument("--config", help="a name in configs/train (default, demo, vit, state, full) or a YAML file")
    train.add_argument(
        "--algorithm",
        default="diffusion",
        choices=("diffusion", "robomimic-bc", "robomimic-bc-rnn"),
        help="a diffusion policy (the default), or robomimic's behaviour cloning, which also takes a recording and has "
        "no shipped config",
    )
    train.add_argument("--tensorboard", action="store_true", help="also write event files for TensorBoard")
    train.set_defaults(run=_train)

    finetune = subparsers.add_parser(
        "finetune", aliases=["dppo"], help="fine-tune a cloned policy in simulation (DPPO)"
    )
    finetune.add_argument("cloned", type=Path, metavar="RUN", help="folder of `cosmos-engine train`")
    finetune.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in iterations=9")
    finetune.add_argument("--task", required=True, help="task of the embedded table-top, such as lift")
    finetune.add_argument("--out", type=Path, required=True, help="folder of the run; the same command resumes it")
    finetune.add_argument("--config", required=True, help="cpu, cpu_image, state, image (configs/dppo) or a YAML file")
    finetune.add_argument("--workers", type=int, help="processes of environments (default: one per core)")
    finetune.set_defaults(run=_finetune)

    benchmark = subparsers.add_parser("benchmark", help="measure the success of policies under changed looks")
    benchmark.add_argument(
        "policies",
        nargs="+",
        metavar="RUN",
        help="folders of `cosmos-engine train`, named by their last part; the others are compared with the first, "
        "trial by trial. key=value changes the config",
    )
    _add_environment(benchmark)
    benchmark.add_argument(
        "--shifts",
        default="all",
        help="names separated by commas, or all (the default): each shift by itself, and `everything`, which is all in "
        "one picture",
    )
    benchmark.add_argument(
        "--strengths",
        default="default",
        help="a name in configs/shifts or a YAML file: strengths of the shifts; shifts.<shift>.<key>=value changes one",
    )
    benchmark.add_argument("--trials", type=int, help="trials per policy and shift; overrides the config")
    benchmark.add_argument(
        "--out", type=Path, required=True, help="folder of the results; the same command resumes them"
    )
    benchmark.add_argument("--workers", type=int, default=1, help="processes, each with a cell at a time (default 1)")
    benchmark.add_argument("--config", default="default", help="a name in configs/benchmark or a YAML file")
    benchmark.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    benchmark.set_defaults(run=_benchmark, overrides=[])

    study = subparsers.add_parser("study", help="compare training data under changed looks: record to benchmark")
    study.add_argument("config", metavar="STUDY", help="a name in configs/study (cpu, full) or a YAML file")
    study.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in trials=50")
    study.add_argument("--out", type=Path, required=True, help="folder of everything; the same command resumes it")
    study.add_argument("--tasks", metavar="NAMES", help="only these of the study's tasks, separated by commas")
    study.add_argument("--workers", type=int, default=1, help="commands that run at once (default 1)")
    study.add_argument("--list", action="store_true", help="print the commands that are still to run, and stop")
    study.add_argument("--report", action="store_true", help="only write the results of what has run")
    study.set_defaults(run=_study)

    rollout = subparsers.add_parser("rollout", help="watch a policy act: videos, or a window")
    rollout.add_argument("policy", type=Path, metavar="RUN", help="folder of `cosmos-engine train` or `finetune`")
    _add_environment(rollout)
    rollout.add_argument("--episodes", type=int, default=3, help="rollouts (default 3)")
    rollout.add_argument("--seed", type=int, default=1_000_000, help="of the first reset; the others count up from it")
    rollout.add_argument("--shift", default="vanilla", help="a shift of the benchmark (default vanilla)")
    rollout.add_argument("--camera", default="agentview", help="what is shown (default agentview)")
    rollout.add_argument("--image-size", type=int, default=256, help="pixels, where the policy sees no images itself")
    rollout.add_argument("--out", type=Path, help="folder of the videos, one a rollout")
    rollout.add_argument("--window", action="store_true", help="show them live at the policy's rate; needs a display")
    rollout.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    rollout.set_defaults(run=_rollout)


def _add_environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, help="task of the environment, such as lift")
    parser.add_argument(
        "--environment",
        default="tabletop",
        choices=("tabletop", "robosuite"),
        help="the embedded table-top (default), or robosuite's lift, stack, can and square",
    )


def _train(args: argparse.Namespace) -> int:
    from policies.training import TrainConfig, train

    if args.algorithm != "diffusion":
        return _train_robomimic(args)
    config = load_config(TrainConfig, _config_file("train", args.config or "default"), args.overrides)
    folder = train(args.dataset, args.out, config, tensorboard=args.tensorboard)
    if os.environ.get("RANK", "0") == "0":  # one line, however many processes torchrun started
        print(f"policy: {folder}")
    return 0


def _train_robomimic(args: argparse.Namespace) -> int:
    from policies.robomimic_network import BC, BC_RNN
    from policies.robomimic_training import RobomimicTrainConfig, train_robomimic

    defaults = RobomimicTrainConfig(network=BC if args.algorithm == "robomimic-bc" else BC_RNN)
    file = None if args.config is None else Path(args.config)
    config = load_config(RobomimicTrainConfig, file, args.overrides, defaults)
    print(f"policy: {train_robomimic(args.dataset, args.out, config, tensorboard=args.tensorboard)}")
    return 0


def _benchmark(args: argparse.Namespace) -> int:
    from cosmos_engine.data.dataset import IMAGE_SUFFIX
    from cosmos_engine.device import choose_device
    from cosmos_engine.errors import InputError
    from cosmos_engine.sim.strengths import ShiftStrengths, overlaps
    from policies.benchmark import BenchmarkConfig, Contestant, choose_shifts, run_benchmark
    from policies.benchmark_result import MARKDOWN_FILE, PAGE_FILE
    from policies.loading import load_any_policy

    if args.workers < 1:
        raise InputError(f"--workers: expected 1 or more, got {args.workers}")
    folders = [text for text in args.policies if "=" not in text]
    overrides = [text for text in args.policies if "=" in text] + args.overrides
    trials = [] if args.trials is None else [f"trials={args.trials}"]
    defaults = BenchmarkConfig(shifts=load_config(ShiftStrengths, _config_file("shifts", args.strengths)))
    config = load_config(BenchmarkConfig, _config_file("benchmark", args.config), [*overrides, *trials], defaults)
    for line in overlaps(config.shifts):
        print(f"cosmos-engine benchmark: note: shifts.{line}", file=sys.stderr)
    shifts = choose_shifts(args.shifts, _shifts(args.environment, args.shifts.split(",")))
    device = choose_device(args.device)
    loaded = [load_any_policy(Path(folder), device) for folder in folders]
    contestants = [
        Contestant(
            name=Path(folder).resolve().name,
            policy=of_folder.policy,
            checkpoint=folder,
            weights_sha256=of_folder.weights_sha256,
            demo_seeds=of_folder.seen_seeds,
        )
        for folder, of_folder in zip(folders, loaded, strict=True)
    ]
    # Environments give what the policies saw; where these differ in size, `run_benchmark` names the one that differs.
    seen = {name: shape for contestant in contestants for name, shape in contestant.policy.spec.images.items()}
    if config.videos:
        seen.setdefault(f"{config.camera}{IMAGE_SUFFIX}", next(iter(seen.values()), [128, 128, 3]))
    cameras = tuple(name.removesuffix(IMAGE_SUFFIX) for name in seen)
    image_size = next(iter(seen.values()), [128])[0]
    arena = _arena(args, cameras, image_size, config.shifts)
    for folder, of_folder in zip(folders, loaded, strict=True):
        _note_other_task("benchmark", folder, of_folder.record.tasks, arena.task)
    run_benchmark(contestants, arena, shifts, config, args.out, args.workers)
    print((args.out / MARKDOWN_FILE).read_text(encoding="utf-8"))
    print(f"result: {args.out / PAGE_FILE}")
    return 0


def _finetune(args: argparse.Namespace) -> int:
    from functools import partial

    from cosmos_engine.data.dataset import IMAGE_SUFFIX
    from cosmos_engine.errors import InputError
    from cosmos_engine.sim.tabletop import TabletopEnvironment
    from policies.dppo.config import DppoConfig
    from policies.dppo.finetuning import finetune
    from policies.policy import PolicySpec

    def tabletop(spec: PolicySpec) -> Callable[[], Environment]:
        cameras = tuple(name.removesuffix(IMAGE_SUFFIX) for name in spec.images)
        image_size = next(iter(spec.images.values()), [128])[0]
        return partial(TabletopEnvironment, args.task, cameras=cameras, image_size=image_size, render=bool(cameras))

    if args.workers is not None and args.workers < 0:
        raise InputError(f"--workers: expected 0 or more, got {args.workers}")
    config = load_config(DppoConfig, _config_file("dppo", args.config), args.overrides)
    folder = finetune(args.cloned, args.out, tabletop, config, args.workers)
    print(f"policy: {folder}")
    return 0


def _study(args: argparse.Namespace) -> int:
    from cosmos_engine.errors import InputError
    from policies.study import StudyConfig, check_study, choose_tasks, plan_study
    from policies.study_result import write_results
    from policies.study_run import missing_commands, run_study

    if args.workers < 1:
        raise InputError(f"--workers: expected 1 or more, got {args.workers}")
    config = load_config(StudyConfig, _config_file("study", args.config), args.overrides)
    check_study(config)
    tasks = choose_tasks(config, args.tasks)
    commands = plan_study(config, args.out, tasks)
    if args.list:
        for command in missing_commands(commands, args.out):
            print(command.line)
        return 0
    if not args.report:
        run_study(commands, args.out, args.workers)
    write_results(config, args.out, tasks)
    print(f"study: {args.out / 'study.html'}")
    return 0


def _rollout(args: argparse.Namespace) -> int:
    from cosmos_engine.config import nearest
    from cosmos_engine.data.dataset import IMAGE_SUFFIX
    from cosmos_engine.device import choose_device
    from cosmos_engine.errors import InputError
    from cosmos_engine.sim.strengths import ShiftStrengths
    from policies.loading import load_any_policy
    from policies.watching import watch

    if args.out is None and not args.window:
        raise InputError("rollout: expected --out FOLDER, --window, or both")
    if args.shift not in (known := _shifts(args.environment, [args.shift])):
        raise InputError(f"shift {args.shift!r}: unknown{nearest(args.shift, known)}")
    if args.image_size < 1:
        raise InputError(f"--image-size: expected at least 1 pixel, got {args.image_size}")
    loaded = load_any_policy(args.policy, choose_device(args.device))
    sizes = {name: shape[0] for name, shape in loaded.policy.spec.images.items()}
    filmed = f"{args.camera}{IMAGE_SUFFIX}"
    cameras = tuple(name.removesuffix(IMAGE_SUFFIX) for name in dict.fromkeys([*sizes, filmed]))
    image_size = next(iter(sizes.values()), args.image_size)
    arena = _arena(args, cameras, image_size, ShiftStrengths())
    _note_other_task("rollout", args.policy, loaded.record.tasks, arena.task)
    seeds = range(args.seed, args.seed + args.episodes)
    watch(args.policy.resolve().name, loaded.policy, arena, args.shift, seeds, filmed, args.out, window=args.window)
    return 0


def _note_other_task(command: str, policy: str | Path, trained_on: Sequence[str], task: str) -> None:
    """Say it where a policy is measured on a task that it did not learn: allowed, and easily meant otherwise."""
    if trained_on and task not in trained_on:
        print(f"cosmos-engine {command}: note: {policy} was trained on {', '.join(trained_on)}", file=sys.stderr)


def _shifts(environment: str, asked: Sequence[str]) -> tuple[str, ...]:
    """Return the shifts that an environment can show; one that is asked for and is another's is an InputError."""
    from cosmos_engine.sim.shifts import SHIFTS

    if environment == "tabletop":
        return tuple(SHIFTS)
    from cosmos_engine.sim.robosuite_shifts import ROBOSUITE_SHIFTS, check_robosuite_shift

    for name in asked:
        check_robosuite_shift(name.strip())
    return ROBOSUITE_SHIFTS


def _arena(args: argparse.Namespace, cameras: tuple[str, ...], image_size: int, strengths: ShiftStrengths) -> Arena:
    if args.environment == "tabletop":
        return _TabletopArena(args.task, cameras, image_size, strengths)
    from policies.robosuite_arena import RobosuiteArena

    return RobosuiteArena(args.task, cameras, image_size, strengths)


class _TabletopArena:
    """The embedded table-top as an `Arena`: every trial starts from the task's default look, then the shift."""

    def __init__(self, task: str, cameras: tuple[str, ...], image_size: int, strengths: ShiftStrengths) -> None:
        from cosmos_engine.sim.shifts import SHIFTS

        self.task = task
        self.shifts = tuple(SHIFTS)
        self._cameras = cameras
        self._image_size = image_size
        self._strengths = strengths
        self._vanilla: Look | None = None

    def make(self) -> Environment:
        from cosmos_engine.sim.tabletop import TabletopEnvironment

        environment = TabletopEnvironment(
            self.task, cameras=self._cameras, image_size=self._image_size, render=bool(self._cameras)
        )
        self._vanilla = environment.look
        return environment

    def prepare(self, environment: Environment, shift: str, seed: int) -> None:
        from cosmos_engine.sim.shifts import shifted
        from cosmos_engine.sim.tabletop import TabletopEnvironment

        assert isinstance(environment, TabletopEnvironment)
        assert self._vanilla is not None
        environment.look = shifted(shift, self._vanilla, self._strengths, seed=seed)


def _config_file(group: str, name: str) -> Path:
    path = Path(name)
    return path if path.suffix in {".yaml", ".yml"} else find_config(f"{group}/{name}")
