"""The command `cosmos-engine transfer`: NVIDIA's inference spec in, videos of NVIDIA's names out."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_engine.commands.generator import TINY, add_generator_arguments, open_transfer25, sampling_config
from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.controls import Modality
    from cosmos_engine.transfer.sampling import SamplingConfig
    from cosmos_engine.transfer.spec.job import ResamplingGenerator

# Options of other commands that a spec decides sample by sample.
KEYS_OF_SAMPLE = {
    "resolution": "each sample of a spec has its own, under the key 'resolution'",
    "fit": "samples of a spec are letterboxed, so that outputs have the input's picture",
}


def add_transfer_command(commands: Any) -> None:
    """Add the command to the subparsers of the engine's command line."""
    transfer = commands.add_parser("transfer", help="run NVIDIA's Cosmos-Transfer2.5 inference specs (.json, .jsonl)")
    transfer.add_argument("spec", type=Path, metavar="SPEC", help="a .json of one sample, or a .jsonl of one a line")
    transfer.add_argument("--out", type=Path, required=True, help="folder of the outputs; the same command resumes it")
    transfer.add_argument(
        "--weight-policy",
        choices=("capped", "raw"),
        default="capped",
        help="how control weights combine: capped as NVIDIA documents it, raw as its code does (default capped)",
    )
    add_generator_arguments(transfer, default="transfer25-2b")
    transfer.set_defaults(run=_transfer, **dict.fromkeys(KEYS_OF_SAMPLE))


def _transfer(args: argparse.Namespace) -> int:
    from cosmos_engine.transfer.spec.job import run_samples
    from cosmos_engine.transfer.spec.sample import read_spec

    for option, reason in KEYS_OF_SAMPLE.items():
        if getattr(args, option) is not None:
            raise InputError(f"--{option}: {reason}")
    samples = read_spec(args.spec)
    sampling = dataclasses.replace(sampling_config(args.generator, ()), weight_policy=args.weight_policy)

    def opened(modalities: Sequence[Modality], first: SamplingConfig) -> ResamplingGenerator:
        # The job frames every sample itself, so the generator's own framing only needs to be a valid one.
        framing = {} if args.generator == TINY else {"resolution": samples[0].resolution, "fit": "letterbox"}
        framed = argparse.Namespace(**vars(args) | framing)
        return open_transfer25(framed, modalities, first)

    made_with = {"generator": args.generator, "weight_policy": args.weight_policy}
    summary = run_samples(samples, args.out, sampling, opened, made_with, inputs=[args.spec])
    before = f", {summary.skipped} were whole before" if summary.skipped else ""
    print(f"{args.out}: {summary.made} samples made{before}")
    return 0
