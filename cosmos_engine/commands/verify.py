"""The command `cosmos-engine verify`: whether a recording is intact, or a dataset is what its certificate says."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.augment.gate import Gate
    from cosmos_engine.data import Dataset, Episode, Recording

MEASURE_TOLERANCE = 1e-6
"""Of a measure that is made again, perhaps on another machine, whose sums round otherwise."""


def add_verify_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `verify` to a command line."""
    verify = subparsers.add_parser("verify", help="check a recording, or a dataset against its certificate")
    verify.add_argument("path", type=Path, metavar="RECORDING|DATASET")
    verify.add_argument(
        "--against",
        "--recording",
        dest="recording",
        type=Path,
        metavar="RECORDING",
        help="the recording a dataset was made from",
    )
    verify.add_argument(
        "--gate", action="store_true", help="measure every accepted variant again; needs --against RECORDING"
    )
    verify.add_argument("--public-key", type=Path, metavar="FILE", help="of who must have signed the certificate")
    verify.set_defaults(run=_verify)


def is_dataset(path: Path) -> bool:
    """Return whether a folder looks like a dataset rather than a recording."""
    return (path / "data").is_dir() and (path / "meta").is_dir()


def _verify(args: argparse.Namespace) -> int:
    if is_dataset(args.path):
        return _verify_dataset(args)
    for option, value in (("--against", args.recording), ("--gate", args.gate), ("--public-key", args.public_key)):
        if value:
            raise InputError(f"{option}: {args.path} is no dataset")
    return _verify_recording(args.path)


def _verify_dataset(args: argparse.Namespace) -> int:
    from cosmos_engine.data import verify_dataset

    if args.gate and args.recording is None:
        raise InputError("--gate: variants are measured against the recording; say --against RECORDING")
    verdict = verify_dataset(args.path, args.recording, args.public_key)
    compared = f"and with {args.recording}" if verdict.against_recording else "only (--against RECORDING for more)"
    print(f"{args.path}: {verdict.episodes} episodes compared with the certificate {compared}")
    if verdict.signature == "valid":
        print(f"signed by the key of {args.public_key}")
    elif verdict.signature == "not checked":
        print("signed (--public-key FILE checks by whom)")
    if verdict.first_difference is not None:
        raise InputError(f"{args.path}: differs: {verdict.first_difference}")
    if args.gate:
        _verify_gate(args.path, args.recording)
    print("intact")
    return 0


def _verify_gate(path: Path, recording_path: Path) -> None:
    """Measure every accepted variant again, with the gate that the certificate tells of.

    Raises:
        InputError: the dataset was made without a gate, or with one that cannot be opened here; a variant's measures
            differ, or it does not pass.
    """
    from tqdm import tqdm

    from cosmos_engine.augment.workbench import compute_threads
    from cosmos_engine.data import Dataset, Recording
    from cosmos_engine.data.certificate import read_certificate

    config = read_certificate(path)["config"]
    if not isinstance(config.get("gate"), dict):
        raise InputError(f"--gate: {path} was made without a gate")
    gate = _same_gate(path, config["gate"])
    dataset, recording = Dataset(path), Recording(recording_path)
    variants = [
        index for index in range(dataset.episode_count) if dataset.variant[index] > 0 and dataset.accepted[index]
    ]
    # In the order of demos: the gate keeps the geometry of the one it judged last.
    variants.sort(key=lambda index: (dataset.source_demo[index], dataset.variant[index]))
    with compute_threads(int(config.get("config", {}).get("threads", 1))):
        for difference in _gate_differences(dataset, recording, gate, tqdm(variants, desc="gate", unit="variant")):
            raise InputError(f"{path}: differs: {difference}")
    if variants:
        print(f"{len(variants)} variants measured again: each passes, with the measures that were written")
    else:
        print("no accepted variant to measure again")


def _same_gate(path: Path, made_with: Mapping[str, Any]) -> Gate:
    from cosmos_engine.augment.gate import Gate
    from cosmos_engine.augment.gate_config import GateConfig
    from cosmos_engine.config import load_config
    from cosmos_engine.quality.geometry_reader import GeometryReader

    if made_with.get("critic") is not None:
        raise InputError(
            f"--gate: {path} was also judged by the critic {made_with['critic']!r}, which is not asked here"
        )
    try:
        config = load_config(GateConfig, None, list(_overrides(made_with.get("config", {}))))
    except InputError as error:
        raise InputError(f"--gate: {path} was made with a gate that this version does not have: {error}") from error
    gate = Gate(config, GeometryReader.shipped())
    if gate.provenance["reader"] != made_with.get("reader"):
        raise InputError(
            f"--gate: {path} was read by {made_with.get('reader')!r}; the reader here is {gate.provenance['reader']!r}"
        )
    return gate


def _overrides(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a config that was written as JSON as `key=value` words."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _overrides(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


def _gate_differences(dataset: Dataset, recording: Recording, gate: Gate, variants: Iterable[int]) -> Iterator[str]:
    """Yield what differs first of each variant: its measures, or the verdict."""
    from cosmos_engine.report.outcome import measures_of

    known: tuple[int, Episode] | None = None
    for index in variants:
        demo, variant = int(dataset.source_demo[index]), int(dataset.variant[index])
        if known is None or known[0] != demo:
            known = demo, recording.episode(demo)
        info = dataset.info[index]
        rows = dataset.rows(index)
        images = {camera: dataset.array(f"{camera}_image")[rows] for camera in dataset.cameras}
        verdict = gate.judge(known[1], images, str(info.get("prompt", "")))
        where = f"demo {demo} variant {variant}"
        written = measures_of(info.get("gate") or {})
        for key in sorted({*written, *verdict.measures}):
            before, now = written.get(key), verdict.measures.get(key)
            if before is None or now is None:
                yield f"{where}: {key} {'was not measured before' if before is None else 'cannot be measured'}"
            elif abs(before - now) > MEASURE_TOLERANCE:
                yield f"{where}: {key} is {now:.6f}, written as {before:.6f}"
        if not verdict.accepted:
            yield f"{where} does not pass the gate: {verdict.failures[0]}"


def _verify_recording(path: Path) -> int:
    from cosmos_engine.data import verify_recording

    found = verify_recording(path)
    print(f"{path}: {found.intact} of {found.episodes} episodes intact, {found.control_steps} control steps")
    if found.writer is not None:
        print(f"being written by {found.writer}")
    if not found.sound:
        raise InputError(f"{path}: {len(found.broken)} broken: {'; '.join(found.broken)}")
    return 0
