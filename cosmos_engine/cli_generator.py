"""The options of every command that generates, and the generator that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_engine.config import load_config, nearest
from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.controls import Modality
    from cosmos_engine.transfer.sampling import SamplingConfig
    from cosmos_engine.transfer.transfer25 import Transfer25

TINY = "transfer25-tiny"
GENERATORS = (TINY, "transfer25-2b", "transfer25-2b-distilled")
# What each generator is conditioned on unless told otherwise.
DEFAULT_RECIPES = {TINY: "tiny", "transfer25-2b": "paper", "transfer25-2b-distilled": "edge"}


def add_generator_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --generator and what it may need."""
    group = parser.add_argument_group("generator")
    group.add_argument("--generator", default=default, help=f"one of: {', '.join(GENERATORS)} (default {default})")
    group.add_argument("--checkpoint", type=Path, help="tiny: weights (default: those of the package)")
    group.add_argument("--weights", type=Path, help="2b: folder of `cosmos-engine weights download`")
    group.add_argument("--device", help="cpu or cuda[:n] (default: cpu for tiny, cuda for 2b)")
    group.add_argument(
        "--resolution", default="480", help="2b: a row of NVIDIA's table: 256, 480, 720, ... (default 480)"
    )
    group.add_argument("--fit", default="letterbox", help="2b: letterbox or crop for other aspects (default letterbox)")
    group.add_argument("--max-memory", metavar="24GiB", help="2b: device memory to stay within (default: what is free)")
    group.add_argument("--compile", action="store_true", help="2b: torch.compile; slow to start, faster afterwards")


def check_generator(name: str) -> None:
    """Raise InputError for a generator that there is not."""
    if name not in GENERATORS:
        raise InputError(f"--generator {name!r}: no such generator{nearest(name, GENERATORS)}")


def sampling_config(generator: str, overrides: Sequence[str]) -> SamplingConfig:
    """Return how a generator samples, changed by `key=value` overrides.

    Raises:
        InputError: an unknown generator, key or value.
    """
    check_generator(generator)
    from cosmos_engine.transfer.sampling import SAMPLING, SamplingConfig

    return load_config(SamplingConfig, None, overrides, SAMPLING[generator])


def open_generator(
    args: argparse.Namespace, modalities: Sequence[Modality], sampling: SamplingConfig | None = None
) -> Transfer25:
    """Load the generator that the options of `add_generator_arguments` ask for.

    Args:
        args: the parsed options.
        modalities: controls that will be used; other branches of 2b are not loaded.
        sampling: how to sample; by default what suits the generator.

    Raises:
        InputError: an unknown generator, an option that it does not take, weights that are missing or do not fit.
    """
    check_generator(args.generator)
    from cosmos_engine.transfer.transfer25 import Transfer25

    if args.generator == TINY:
        for option in ("weights", "max_memory", "compile"):
            if getattr(args, option):
                raise InputError(f"--{option.replace('_', '-')}: only for transfer25-2b; {TINY} has no use for it")
        return Transfer25.tiny(args.checkpoint, sampling, args.device or "cpu")
    if args.checkpoint is not None:
        raise InputError(f"--checkpoint: only for {TINY}; {args.generator} takes --weights")
    from cosmos_engine.transfer.memory import parse_bytes
    from cosmos_engine.transfer.two_b import TwoBOptions, open_two_b
    from cosmos_engine.transfer.weights_folder import WeightsFolder, default_weights_folder

    options = TwoBOptions(
        resolution=args.resolution,
        fit=args.fit,
        device=args.device or "cuda",
        memory_limit_bytes=None if args.max_memory is None else parse_bytes(args.max_memory),
        compile=args.compile,
    )
    weights = WeightsFolder(args.weights or default_weights_folder())
    return open_two_b(weights, modalities, sampling, options, args.generator)
