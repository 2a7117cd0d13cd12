"""The options of every command that generates, and the generator that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cosmos_engine.config import load_config, nearest
from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.controls import Modality
    from cosmos_engine.transfer.generator import Generator
    from cosmos_engine.transfer.sampling import SamplingConfig
    from cosmos_engine.transfer.transfer25 import Transfer25

TINY = "transfer25-tiny"
TRANSFER25 = (TINY, "transfer25-2b", "transfer25-2b-distilled")
PHOTOMETRIC, TEXTURE = "photometric", "texture"
BASELINES = (PHOTOMETRIC, TEXTURE)
GENERATORS = TRANSFER25 + BASELINES
# What each generator is conditioned on unless told otherwise. Baselines read no control, so they are given the one that
# is cheapest to make.
DEFAULT_RECIPES = {
    TINY: "tiny",
    "transfer25-2b": "paper",
    "transfer25-2b-distilled": "edge",
    PHOTOMETRIC: "edge",
    TEXTURE: "edge",
}
DEFAULT_RESOLUTION = "480"
DEFAULT_FIT: Final = "letterbox"
OF_TRANSFER25 = ("recipe", "checkpoint", "weights", "device", "resolution", "fit", "max_memory", "compile")
"""Options that a baseline has no use for; a command may have some of them only."""


def add_generator_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --generator and what it may need."""
    group = parser.add_argument_group("generator")
    group.add_argument("--generator", default=default, help=f"one of: {', '.join(GENERATORS)} (default {default})")
    group.add_argument("--checkpoint", type=Path, help="tiny: weights (default: those of the package)")
    group.add_argument("--weights", type=Path, help="2b: folder of `cosmos-engine weights download`")
    group.add_argument("--device", help="cpu or cuda[:n] (default: cpu for tiny, cuda for 2b)")
    group.add_argument(
        "--resolution", help=f"2b: a row of NVIDIA's table: 256, 480, 720, ... (default {DEFAULT_RESOLUTION})"
    )
    group.add_argument("--fit", help=f"2b: letterbox or crop for other aspects (default {DEFAULT_FIT})")
    group.add_argument("--max-memory", metavar="24GiB", help="2b: device memory to stay within (default: what is free)")
    group.add_argument("--compile", action="store_true", help="2b: torch.compile; slow to start, faster afterwards")


def check_generator(name: str) -> None:
    """Raise InputError for a generator that there is not."""
    if name not in GENERATORS:
        raise InputError(f"--generator {name!r}: no such generator{nearest(name, GENERATORS)}")


def sampling_config(generator: str, overrides: Sequence[str]) -> SamplingConfig:
    """Return how a generator samples, changed by `key=value` overrides.

    A baseline samples nothing: any override is an error, and what is returned has no effect on it.

    Raises:
        InputError: an unknown generator, key or value.
    """
    check_generator(generator)
    from cosmos_engine.transfer.sampling import SAMPLING, SamplingConfig

    if generator in BASELINES:
        if overrides:
            raise InputError(f"override 'sampling.{overrides[0]}': {generator} is no model and samples nothing")
        return SamplingConfig()
    return load_config(SamplingConfig, None, overrides, SAMPLING[generator])


def open_generator(
    args: argparse.Namespace, modalities: Sequence[Modality], sampling: SamplingConfig | None = None
) -> Generator:
    """Load the generator that the options of `add_generator_arguments` ask for.

    Args:
        args: the parsed options.
        modalities: controls that will be used; other branches of 2b are not loaded.
        sampling: how to sample; by default what suits the generator. Without effect on a baseline.

    Raises:
        InputError: an unknown generator, an option that it does not take, weights that are missing or do not fit.
    """
    check_generator(args.generator)
    if args.generator in BASELINES:
        return _open_baseline(args)
    return open_transfer25(args, modalities, sampling)


def open_transfer25(
    args: argparse.Namespace, modalities: Sequence[Modality], sampling: SamplingConfig | None = None
) -> Transfer25:
    """Load a Transfer2.5; as `open_generator`, and a baseline is an error."""
    check_generator(args.generator)
    if args.generator in BASELINES:
        raise InputError(f"--generator {args.generator}: expected one of {', '.join(TRANSFER25)}")
    from cosmos_engine.transfer.transfer25 import Transfer25

    if args.generator == TINY:
        for option in ("weights", "resolution", "fit", "max_memory", "compile"):
            if getattr(args, option):
                raise InputError(f"{_flag(option)}: only for transfer25-2b; {TINY} has no use for it")
        return Transfer25.tiny(args.checkpoint, sampling, args.device or "cpu")
    if args.checkpoint is not None:
        raise InputError(f"--checkpoint: only for {TINY}; {args.generator} takes --weights")
    from cosmos_engine.transfer.memory import parse_bytes
    from cosmos_engine.transfer.published.folder import WeightsFolder, default_weights_folder
    from cosmos_engine.transfer.two_b import TwoBOptions, open_two_b

    options = TwoBOptions(
        resolution=args.resolution or DEFAULT_RESOLUTION,
        fit=args.fit or DEFAULT_FIT,
        device=args.device or "cuda",
        memory_limit_bytes=None if args.max_memory is None else parse_bytes(args.max_memory),
        compile=args.compile,
    )
    weights = WeightsFolder(args.weights or default_weights_folder())
    return open_two_b(weights, modalities, sampling, options, args.generator)


def _open_baseline(args: argparse.Namespace) -> Generator:
    for option in OF_TRANSFER25:
        if getattr(args, option, None):
            raise InputError(f"{_flag(option)}: only for transfer25; {args.generator} has no use for it")
    if args.generator == PHOTOMETRIC and getattr(args, "prompts", None):
        raise InputError(f"--prompts: {PHOTOMETRIC} reads no prompt; {TEXTURE} and transfer25 do")
    for override in getattr(args, "overrides", ()):
        if override.startswith(("recipe.", "palette=")):
            raise InputError(f"override {override!r}: only for transfer25; {args.generator} reads no control")
    if args.generator == TEXTURE:
        from cosmos_engine.augment.texture import Texture

        return Texture()
    from cosmos_engine.augment.photometric import Photometric

    return Photometric()


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
