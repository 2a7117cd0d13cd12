"""The command `cosmos-engine posttrain`: train a tiny checkpoint, from scratch or on from one that there is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.controls import Modality


def add_posttrain_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `posttrain` to a command line."""
    posttrain = commands.add_parser(
        "posttrain", help="train a tiny checkpoint on pairs of controls and looks, rendered or recorded"
    )
    posttrain.add_argument("--out", type=Path, required=True, help="folder of the run; the same command resumes it")
    posttrain.add_argument("--clips", type=Path, metavar="DIR", help="folder of the clips (default: OUT/clips)")
    posttrain.add_argument(
        "--recordings", nargs="+", default=[], metavar="DIR", help="recordings to train on, in place of rendered clips"
    )
    posttrain.add_argument(
        "--prompts", type=Path, metavar="FILE", help="for the recordings: one prompt, or one a line for each episode"
    )
    posttrain.add_argument(
        "--init", type=Path, metavar="FILE", help="checkpoint to go on from; leaves codec and text encoder as they are"
    )
    posttrain.add_argument("--branch", help="edge, vis, depth or seg: train that branch alone, all else frozen")
    posttrain.add_argument("--device", default="cpu", help="cpu or cuda[:n] (default cpu)")
    posttrain.add_argument("--config", help="a name in configs or a YAML file")
    posttrain.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config, as in seed=3")
    posttrain.set_defaults(run=_posttrain)


def _posttrain(args: argparse.Namespace) -> int:
    from cosmos_engine.augment.prompts import read_prompts
    from cosmos_engine.config import load_config
    from cosmos_engine.transfer.training.config import PosttrainConfig, defaults
    from cosmos_engine.transfer.training.posttrain import ClipSource, posttrain

    branch = _branch(args.branch)
    recordings, more = _parted(args.recordings)
    overrides = [*more, *args.overrides]
    if args.prompts is not None and not recordings:
        raise InputError("--prompts: only with --recordings; rendered clips are told by their looks")
    config = load_config(
        PosttrainConfig, args.config, overrides, defaults(is_begun=args.init is not None, branch=branch)
    )
    clips = ClipSource(
        args.clips,
        recordings,
        read_prompts(args.prompts) if args.prompts else (),
        render=args.config is not None or any(word.startswith("clips.") for word in overrides),
    )
    file = posttrain(args.out, config, clips, init=args.init, branch=branch, device=args.device)
    if os.environ.get("RANK", "0") == "0":  # one line, however many processes torchrun started
        print(f"checkpoint: {file}")
    return 0


def _branch(name: str | None) -> Modality | None:
    from cosmos_engine.config import nearest
    from cosmos_engine.controls import MODALITIES

    if name is None:
        return None
    if name not in MODALITIES:
        raise InputError(f"--branch {name!r}: no such control{nearest(name, MODALITIES)}")
    return MODALITIES[MODALITIES.index(name)]


def _parted(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Part recordings from the `key=value` words that argparse took for more of them."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return [Path(word) for word in words if word not in overrides], overrides
