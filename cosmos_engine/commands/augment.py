"""The command `cosmos-engine augment`: recording in, dataset of originals and accepted variants out."""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_engine.commands.generator import (
    BASELINES,
    DEFAULT_RECIPES,
    TEXTURE,
    TINY,
    add_generator_arguments,
    check_generator,
    open_generator,
    sampling_config,
)
from cosmos_engine.config import find_config, load_config
from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.augment.config import AugmentConfig
    from cosmos_engine.augment.judge import Judge
    from cosmos_engine.augment.prompts import PromptWriter
    from cosmos_engine.augment.workbench import Opener
    from cosmos_engine.controls import Modality
    from cosmos_engine.transfer.generator import Generator
    from cosmos_engine.transfer.sampling import SamplingConfig

GATE_OFF = "off"
LOOKS = "looks"
DEFAULT_PROMPTS = "rooms"
"""Of a generator whose text encoder knows sentences; the tiny checkpoint and the baselines know the words of looks."""
BATCH_2B = 5
"""Variants in a call of the 2B model: they share encoded controls and, with offload, each block that is streamed."""
VARIANTS_A_WORKER = 8
"""Fewer are made sooner in this process than another one starts."""
MOST_WORKERS = 8
OF_JOB = ("sampling.", "gate.")
"""Overrides that are not of the job's own config."""


def add_augment_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `augment` to a command line."""
    augment = commands.add_parser("augment", help="make variants of a recording and write a dataset (zarr)")
    augment.add_argument("recording", type=Path, metavar="RECORDING")
    augment.add_argument("--out", type=Path, required=True, help="the zarr; the same command resumes it")
    augment.add_argument("--variants", type=int, help="variants of each demo, beside the original (default 5)")
    augment.add_argument(
        "--recipe", help="a name in configs/recipe or a YAML file: weights and presets of the controls"
    )
    augment.add_argument("--stricter", metavar="RECIPE", help="recipe of the last tries of a variant that was rejected")
    augment.add_argument(
        "--prompts",
        metavar="FILE",
        help="a text file of prompts, one a line, used in turn; or a YAML file or a name in configs/prompts: captions "
        f"with slots; or {LOOKS!r} (default for tiny and texture; {DEFAULT_PROMPTS!r} for 2b)",
    )
    augment.add_argument(
        "--prompt-command", metavar="CMD", help="a program that writes each prompt from JSON on stdin; see the docs"
    )
    augment.add_argument(
        "--gate", metavar="FILE", help=f"thresholds of the gate, or {GATE_OFF!r} (default: calibrated)"
    )
    augment.add_argument("--exclude", type=Path, metavar="FILE", help="`demo variant` lines to leave out")
    augment.add_argument("--config", metavar="FILE", help="a YAML file of the job's settings")
    augment.add_argument("--workers", type=int, help="processes on the CPU (default: by cores and variants)")
    augment.add_argument("--devices", metavar="cuda:0,cuda:1", help="GPUs, a process each, in place of --device")
    augment.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="workers on Ray, one a GPU or CPU core: here, or on the cluster at ADDRESS ('auto': this machine's)",
    )
    augment.add_argument(
        "--progress", choices=("bars", "json"), default="bars", help="bars on stderr, or JSON lines on stdout"
    )
    add_generator_arguments(augment, default=TINY)
    augment.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in seed=3")
    augment.set_defaults(run=_augment)


def check_job(args: argparse.Namespace) -> None:
    """Check a job whose recording is not there yet: settings, recipe, prompts, gate, and that weights are there.

    Args:
        args: the parsed command line.

    Raises:
        InputError: what `augment` would refuse; of the weights it is only seen whether there are any.
    """
    sampling = sampling_config(args.generator, _of("sampling.", args.overrides))
    config = _config(args)
    _prompts(args)
    if args.generator in (TINY, *BASELINES):
        generator, _ = _opened(
            args, list(config.recipe.weights), sampling, args.gate, _of("gate.", args.overrides), args.device
        )
        generator.close()
        return
    from cosmos_engine.transfer.published.folder import WeightsFolder, default_weights_folder

    folder = WeightsFolder(args.weights or default_weights_folder()).path
    if not folder.is_dir():
        raise InputError(f"{folder}: no weights of {args.generator} here; `cosmos-engine weights download` gets them")


def _augment(args: argparse.Namespace) -> int:
    from cosmos_engine.augment.curation import read_exclusions
    from cosmos_engine.augment.job import augment
    from cosmos_engine.augment.progress import Bars, JsonLines
    from cosmos_engine.data import Recording

    recording = Recording(args.recording)
    exclusions = frozenset() if args.exclude is None else read_exclusions(args.exclude)
    sampling = sampling_config(args.generator, _of("sampling.", args.overrides))
    config = _config(args)
    prompts = _prompts(args)
    devices = _devices(args)
    stricter = config.stricter.weights if config.stricter is not None and config.ladder.stricter else ()
    modalities = list(dict.fromkeys([*config.recipe.weights, *stricter]))
    opened = functools.partial(_opened, _options(args), modalities, sampling, args.gate, _of("gate.", args.overrides))
    openers: Sequence[Opener] = [functools.partial(opened, device) for device in devices]
    if not devices and args.ray is None:
        openers = [functools.partial(opened, None)] * _worker_count(args, len(recording) * config.variants)
    progress = JsonLines() if args.progress == "json" else Bars()
    with ExitStack() as stack:
        if args.ray is not None:
            openers = stack.enter_context(_ray_pool(args, functools.partial(opened, None)))
        generator, gate = opened(devices[0] if devices else None)
        stack.callback(generator.close)
        made = augment(
            recording,
            args.out,
            generator,
            config,
            prompts,
            gate=gate,
            exclusions=exclusions,
            workers=openers if len(openers) > 1 or args.ray is not None else (),
            progress=progress,
        )
    if isinstance(progress, JsonLines):
        progress.finish(dataset=str(args.out), accepted=made.accepted, asked=made.asked, tries=made.tries)
        return 0
    for line in made.lines:
        print(line)
    print(f"dataset: {args.out}")
    return 0


def _opened(
    options: argparse.Namespace,
    modalities: Sequence[Modality],
    sampling: SamplingConfig,
    gate: str | None,
    gate_overrides: Sequence[str],
    device: str | None,
) -> tuple[Generator, Judge | None]:
    """Open a generator and a gate; what a worker does too."""
    if device is not None:
        options = argparse.Namespace(**vars(options) | {"device": device})
    if gate == GATE_OFF:
        if gate_overrides:
            raise InputError(f"override 'gate.{gate_overrides[0]}': --gate {GATE_OFF} leaves the gate out")
        return open_generator(options, modalities, sampling), None
    from cosmos_engine.augment.gate import open_gate

    judge = open_gate(None if gate is None else Path(gate), gate_overrides)
    return open_generator(options, modalities, sampling), judge


def _config(args: argparse.Namespace) -> AugmentConfig:
    """Return the job's config: defaults that suit the generator, the file, then the options and overrides."""
    from cosmos_engine.augment.config import AugmentConfig
    from cosmos_engine.augment.ladder import LadderConfig
    from cosmos_engine.controls import Recipe

    check_generator(args.generator)
    recipe = load_config(Recipe, _shipped("recipe", args.recipe or DEFAULT_RECIPES[args.generator]))
    if args.generator in BASELINES:
        if args.stricter is not None:
            raise InputError(f"--stricter: only for transfer25; {args.generator} reads no control")
        defaults = AugmentConfig(recipe=recipe, ladder=LadderConfig(new_seeds=3, stricter=0))
    else:
        name = args.stricter or ("tiny_strict" if args.generator == TINY and not args.recipe else None)
        stricter = None if name is None else load_config(Recipe, _shipped("recipe", name))
        defaults = AugmentConfig(recipe=recipe, stricter=stricter, batch=1 if args.generator == TINY else BATCH_2B)
    variants = [] if args.variants is None else [f"variants={args.variants}"]
    of_job = [word for word in args.overrides if not word.startswith(OF_JOB)]
    return load_config(AugmentConfig, args.config, [*variants, *of_job], defaults)


def _prompts(args: argparse.Namespace) -> PromptWriter:
    """Return what writes the prompts."""
    from cosmos_engine.augment.prompt_command import CommandPrompts
    from cosmos_engine.augment.prompt_template import TemplateConfig, TemplatePrompts
    from cosmos_engine.augment.prompts import LookPrompts, OwnPrompts, read_prompts

    knows_looks = args.generator == TINY or args.generator in BASELINES
    name = args.prompts or (LOOKS if knows_looks else DEFAULT_PROMPTS)
    is_template = Path(name).suffix in {".yaml", ".yml"} or (not Path(name).is_file() and not Path(name).suffix)
    prompts: PromptWriter
    if name == LOOKS:
        prompts = LookPrompts()
    elif is_template:
        file = _shipped("prompts", name)
        prompts = TemplatePrompts(load_config(TemplateConfig, find_config(file)), Path(name).stem)
    else:
        prompts = OwnPrompts(read_prompts(Path(name)))
    if args.prompt_command is None:
        return prompts
    if args.generator in BASELINES and args.generator != TEXTURE:
        raise InputError(f"--prompt-command: {args.generator} reads no prompt")
    try:
        words = shlex.split(args.prompt_command)
    except ValueError as error:
        raise InputError(f"--prompt-command {args.prompt_command!r}: {error}") from error
    return CommandPrompts(words, prompts, args.out.with_name(f"{args.out.name}.prompts.jsonl"))


def _devices(args: argparse.Namespace) -> list[str]:
    """Return what --devices names."""
    if args.devices is None:
        return []
    if args.generator in BASELINES:
        raise InputError(f"--devices: only for transfer25; {args.generator} has no use for it")
    for option in ("device", "workers"):
        if getattr(args, option) is not None:
            raise InputError(f"--devices: there is a process for each, so that --{option} has no meaning beside it")
    devices = [name.strip() for name in args.devices.split(",")]
    if not all(devices):
        raise InputError(f"--devices {args.devices!r}: expected names separated by commas, as in cuda:0,cuda:1")
    return devices


def _worker_count(args: argparse.Namespace, variants: int) -> int:
    """Return how many processes generate: as asked, or what pays on the CPU; one on a GPU."""
    from cosmos_engine.worker_process import usable_cores

    if args.workers is not None:
        if args.workers < 1:
            raise InputError(f"--workers: expected 1 or more, got {args.workers}")
        return int(args.workers)
    if args.generator not in (TINY, *BASELINES) or (args.device or "cpu") != "cpu":
        return 1
    return max(1, min(usable_cores(), MOST_WORKERS, variants // VARIANTS_A_WORKER))


def _ray_pool(args: argparse.Namespace, opener: Opener) -> AbstractContextManager[Sequence[Opener]]:
    """Return the workers that --ray asks for."""
    from cosmos_engine.augment.ray_workers import ray_pool

    if args.devices is not None:
        raise InputError("--ray: gives every worker a GPU of its own, so that --devices has no meaning beside it")
    if args.workers is not None and args.workers < 1:
        raise InputError(f"--workers: expected 1 or more, got {args.workers}")
    of_cpu = args.generator in (TINY, *BASELINES)
    device = args.device or ("cpu" if of_cpu else "cuda")
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device {device}: Ray says which GPU a worker has; expected cpu or cuda")
    return ray_pool(args.ray, opener, args.workers, needs_gpu=device == "cuda")


def _options(args: argparse.Namespace) -> argparse.Namespace:
    """Return the options without what cannot be sent to another process."""
    return argparse.Namespace(**{name: value for name, value in vars(args).items() if name != "run"})


def _of(prefix: str, overrides: Sequence[Any]) -> list[str]:
    """Return the overrides that begin with a prefix, without it."""
    return [word.removeprefix(prefix) for word in overrides if word.startswith(prefix)]


def _shipped(group: str, name: str) -> str:
    """Return what `load_config` should read: a path as it is, a bare name from the shipped `group`."""
    return name if Path(name).suffix in {".yaml", ".yml"} else f"{group}/{name}"
