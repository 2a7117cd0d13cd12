"""Damage every file that the engine reads, and see that it never takes wrong for right.

    python benchmarks/reliability/fuzz.py [--inputs 100000] [--targets NAME ...] [--seed N] [--guided]

A target is a small valid file or folder and the function that reads it. Inputs are made from it: cut, bits flipped,
bytes changed, blocks zeroed, repeated or moved, numbers and words of text replaced. Reading an input may

- give what the undamaged file gives,
- give something else that is right by itself, where the target says that there is no redundancy to tell (YAML),
- be refused in one line (`InputError`).

Anything else is a finding: another exception, other content, a hang of 30 seconds, a crash of the process. Inputs run
in child processes, since the C library of HDF5 may crash or hang. `--guided` keeps inputs that reach new lines of the
engine and damages them further.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import cosmos_engine
from cosmos_engine.config import config_folder, load_config
from cosmos_engine.errors import InputError

HANG_S = 30  # a busy machine is no hang
FOUND_SHOWN = 5
ENGINE = str(Path(cosmos_engine.__file__).resolve().parent)
DIFFERENT = "different content"


@dataclass(frozen=True)
class Target:
    """What is damaged, and who reads it.

    Attributes:
        make: writes a valid file or folder to a path.
        read: reads it and returns a digest of all that a user of it sees.
        redundant: whether damage can be told from other content; if not, other content is no finding.
        is_text: whether the damage also works on words and numbers.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], str]
    redundant: bool = True
    is_text: bool = False


def digest(value: Any) -> str:
    """Return a SHA-256 of nested mappings, sequences, arrays and values."""
    hasher = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Mapping):
            for key in sorted(part, key=str):
                add(str(key))
                add(part[key])
        elif isinstance(part, torch.Tensor):
            hasher.update(
                f"{part.dtype}{tuple(part.shape)}".encode()
                + part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            )
        elif isinstance(part, np.ndarray):
            hasher.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        elif hasattr(part, "__dataclass_fields__"):
            add({name: getattr(part, name) for name in part.__dataclass_fields__})
        elif isinstance(part, (list, tuple)):
            hasher.update(f"[{len(part)}".encode())
            for item in part:
                add(item)
        else:
            hasher.update(repr(part).encode() + b";")

    add(value)
    return hasher.hexdigest()


# Targets


def small_episode(seed: int = 0, frames: int = 3) -> Any:
    """Return a valid episode of two cameras of different sizes."""
    from cosmos_engine.data.episode import CameraPasses, Episode, InstanceLabel

    rng = np.random.default_rng(seed)

    def passes(height: int, width: int) -> CameraPasses:
        return CameraPasses(
            rgb=rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
            depth_m=rng.uniform(0.5, 2, (frames, height, width)).astype(np.float32),
            instance=rng.integers(0, 3, (frames, height, width)).astype(np.uint16),
            intrinsics_px=np.array([[9.0, 0, 3.5], [0, 9.0, 2.5], [0, 0, 1]]),
            world_from_camera=np.tile(np.eye(4), (frames, 1, 1)),
        )

    return Episode(
        actions=rng.uniform(-1, 1, (frames, 7)).astype(np.float32),
        states=rng.normal(size=(frames, 9)),
        rewards=np.zeros(frames, np.float32),
        dones=np.zeros(frames, bool),
        observations={"robot0_eef_pos": rng.normal(size=(frames, 3)).astype(np.float32)},
        cameras={"agentview": passes(6, 8), "robot0_eye_in_hand": passes(4, 4)},
        labels={1: InstanceLabel("arm", "robot arm", "robot"), 2: InstanceLabel("cube", "red cube", "manipulated")},
        success=True,
        seed=seed,
        step_hz=20.0,
        episode_id=f"00000000-0000-4000-8000-{seed:012d}",
        source="fuzz",
        task="lift",
        instruction="lift the red cube",
    )


def make_episode(path: Path) -> None:
    from cosmos_engine.data.episode_file import encode_episode

    path.write_bytes(encode_episode(small_episode(), {"env_name": "fuzz", "type": 1, "env_kwargs": {}}))


def read_episode(path: Path) -> str:
    from cosmos_engine.data.episode_file import read_env_args, read_episode, read_header

    return digest([read_header(path), read_episode(path), read_env_args(path)])


def make_recording(path: Path) -> None:
    from cosmos_engine.data.recording import RecordingWriter

    with RecordingWriter(path, {"env_name": "fuzz", "type": 1, "env_kwargs": {}}) as writer:
        for seed in range(2):
            writer.append(small_episode(seed))


def read_recording(path: Path) -> str:
    """Read as `verify` and `augment` do; what `verify` calls broken is a refusal."""
    from cosmos_engine.data import Recording, verify_recording

    report = verify_recording(path)
    if not report.sound:
        raise InputError("; ".join(report.broken) or "not sound")
    recording = Recording(path)
    return digest([recording.env_args, *(recording.episode(index) for index in range(len(recording)))])


def make_dataset(path: Path) -> None:
    from cosmos_engine.augment.job import AugmentConfig, augment
    from cosmos_engine.augment.photometric import Photometric
    from cosmos_engine.data import Recording

    recording = path.with_name(f"{path.name}_recording")
    make_recording(recording)
    config = load_config(AugmentConfig, None, ["variants=1", "curation.min_frames=1", "curation.near_duplicate=0"])
    augment(Recording(recording), path, Photometric(), config)
    shutil.rmtree(recording)


def read_dataset(path: Path) -> str:
    """Read as training does, once `verify` has found nothing."""
    from cosmos_engine.data import Dataset, verify_dataset

    report = verify_dataset(path, None, None)
    if report.first_difference is not None:
        raise InputError(report.first_difference)
    dataset = Dataset(path)
    episodes = [dataset.episode(index) for index in range(dataset.episode_count)]
    return digest([episodes, dataset.episode_ends, dataset.source_demo, dataset.variant, dataset.accepted])


def make_policy(path: Path) -> None:
    from policies.checkpoint import PolicyRecord, save_record, save_weights
    from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
    from policies.encoders import EncoderConfig
    from policies.policy import PolicySpec

    config = DiffusionPolicyConfig(
        image_size=16, crop_size=14, encoder=EncoderConfig(widths=(8, 8), keypoints=2), unet_widths=(8, 16)
    )
    spec = PolicySpec({"agentview_image": [16, 16, 3], "robot0_eef_pos": [3]}, 7, 20.0, 2, 8)
    torch.manual_seed(0)
    path.mkdir()
    policy = DiffusionPolicy(config, spec)
    policy.fit_normalizers({"robot0_eef_pos": np.eye(3, dtype=np.float32)}, np.eye(7, dtype=np.float32))
    save_record(path, PolicyRecord(policy=config, spec=spec, tasks=["lift"]))
    save_weights(path, policy, 1)


def read_policy(path: Path) -> str:
    from policies.checkpoint import load_policy

    loaded = load_policy(path, torch.device("cpu"))
    return digest([loaded.policy.state_dict(), loaded.record.spec, loaded.record.policy, loaded.updates])


def small_modules() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {"network": torch.nn.Linear(4, 3), "codec": torch.nn.BatchNorm1d(2)}


def make_generator(path: Path) -> None:
    """Write a checkpoint as the tiny generator's and the converted 2B's are, of other modules."""
    from cosmos_engine.transfer.config import SIZES
    from cosmos_engine.transfer.weights import WeightsHeader, save_weights

    save_weights(path, small_modules(), WeightsHeader(SIZES["tiny"], {"made": "by the campaign"}), "float16")


def read_generator(path: Path) -> str:
    from cosmos_engine.transfer.weights import load_weights

    modules = small_modules()
    header = load_weights(path, modules)
    return digest([header.config, dict(header.notes), *(module.state_dict() for module in modules.values())])


def make_benchmark(path: Path) -> None:
    cell = {"policy": "bc", "checkpoint": "runs/bc", "shift": "vanilla", "trials": 3, "successes": 2, "crashes": 0}
    cell |= {"success_rate": 2 / 3, "wilson_95": [0.2077, 0.9385], "mean_steps_to_success": 61.5, "videos": []}
    outcomes = [{"seed": n, "outcome": "success" if n else "failure", "steps": 60 + n} for n in range(3)]
    content = {
        "schema": 1,
        "kind": "cosmos-engine/benchmark",
        "task": "lift",
        "created": "2026",
        "versions": {"a": "1"},
    }
    path.write_text(json.dumps(content | {"cells": [cell | {"outcomes": outcomes}]}, indent=1))


def read_benchmark(path: Path) -> str:
    from cosmos_engine.report.benchmark import read_benchmark

    return digest(read_benchmark(path))


def config_target(schema: Callable[[], type], shipped: str) -> Target:
    """Return the target of a YAML file that ships."""

    def make(path: Path) -> None:
        shutil.copy(config_folder() / f"{shipped}.yaml", path)

    def read(path: Path) -> str:
        return digest(load_config(schema(), path))

    return Target(make, read, redundant=False, is_text=True)


def _train_config() -> type:
    from policies.training import TrainConfig

    return TrainConfig


def _gate_config() -> type:
    from cosmos_engine.augment.gate_config import GateConfig

    return GateConfig


def _recipe() -> type:
    from cosmos_engine.controls.recipe import Recipe

    return Recipe


def _template() -> type:
    from cosmos_engine.augment.prompt_template import TemplateConfig

    return TemplateConfig


def make_exclusions(path: Path) -> None:
    path.write_text("# demo variant\n0 2\n3 0\n12 5\n")


def read_exclusions(path: Path) -> str:
    from cosmos_engine.augment.curation import read_exclusions

    return digest(sorted(read_exclusions(path)))


TARGETS: dict[str, Target] = {
    "episode": Target(make_episode, read_episode),
    "recording": Target(make_recording, read_recording),
    "dataset": Target(make_dataset, read_dataset),
    "policy": Target(make_policy, read_policy),
    "generator": Target(make_generator, read_generator),
    "benchmark": Target(make_benchmark, read_benchmark, redundant=False, is_text=True),
    "train-yaml": config_target(_train_config, "train/state"),
    "gate-yaml": config_target(_gate_config, "gate/default"),
    "recipe-yaml": config_target(_recipe, "recipe/keep_foreground"),
    "prompts-yaml": config_target(_template, "prompts/rooms"),
    "exclusions": Target(make_exclusions, read_exclusions, redundant=False, is_text=True),
}

# Damage

WORDS = [
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"[]",
    b"{}",
    b"true",
    b'""',
    b"99999999999999999999",
    b"../../x",
    b"\xff",
]


def damaged(data: bytes, is_text: bool, rng: np.random.Generator) -> bytes:
    """Return the bytes with one to three kinds of damage."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(9 if is_text else 7))
        size = len(out)
        if size == 0:
            return bytes(rng.integers(0, 256, 8, dtype=np.uint8))
        at = int(rng.integers(size))
        length = int(min(size - at, 2 ** rng.integers(0, 10)))
        if kind == 0:
            del out[at:]
        elif kind == 1:
            for place in rng.integers(size, size=int(rng.integers(1, 9))):
                out[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            out[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 3:
            out[at : at + length] = bytes(length)
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            del out[at : at + length]
        elif kind == 6:
            to = int(rng.integers(size - length + 1))
            out[to : to + length] = out[at : at + length]
        else:
            words = [place for place in range(size) if chr(out[place]).isalnum() and not chr(out[place - 1]).isalnum()]
            if words:
                start = words[int(rng.integers(len(words)))]
                end = next((n for n in range(start, size) if not (chr(out[n]).isalnum() or out[n] in b"._-")), size)
                out[start:end] = WORDS[int(rng.integers(len(WORDS)))]
    return bytes(out)


def files_of(path: Path) -> list[Path]:
    """Return the files of a target, itself where it is one."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


# Running


@dataclass
class Finding:
    """An input that was taken wrongly."""

    target: str
    number: int
    what: str


def reached_lines(read: Callable[[], Any]) -> tuple[Any, frozenset[tuple[str, int]]]:
    """Call `read` and return its result, or the exception that it raised, with the engine's lines that ran."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ENGINE):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        result: Any = read()
    except Exception as error:
        result = error
    finally:
        sys.settrace(None)
    return result, frozenset(lines)


def run_inputs(name: str, numbers: range, seed: int, guided: bool, started: Any, results: Any) -> None:
    """Read damaged inputs of one target; reports (number, verdict) of each, in a child process."""
    target = TARGETS[name]
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # the parent's is shared, and would stay taken when this process is killed
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - HDF5 and tqdm talk; the process ends soon
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        if name.endswith("-yaml"):
            path = path.with_suffix(".yaml")
        target.make(path)
        right = target.read(path)
        originals = {file: file.read_bytes() for file in files_of(path)}
        corpus: dict[Path, list[bytes]] = {file: [data] for file, data in originals.items()}
        seen: set[tuple[str, int]] = set()
        for number in numbers:
            rng = np.random.default_rng((seed, number))
            file = list(originals)[int(rng.integers(len(originals)))]
            base = corpus[file][int(rng.integers(len(corpus[file])))]
            data = damaged(base, target.is_text or file.suffix in {".json", ".yaml"} or file.name.startswith(".z"), rng)
            file.write_bytes(data)
            started.value = number
            result: Any
            if guided:
                result, lines = reached_lines(lambda: target.read(path))
                if not lines <= seen:
                    seen |= lines
                    corpus[file].append(data)
            else:
                try:
                    result = target.read(path)
                except Exception as error:
                    result = error
            results.put((number, verdict(result, right, target.redundant)))
            # A reader must not write; what it left, and what was damaged, is put back.
            if not path.is_dir() or files_of(path) != list(originals):
                restore(path, originals)
            else:
                file.write_bytes(originals[file])


def restore(path: Path, originals: Mapping[Path, bytes]) -> None:
    """Put a target back as it was made."""
    if path.is_dir():
        shutil.rmtree(path)
    for file, data in originals.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def verdict(result: Any, right: str, redundant: bool) -> str:
    """Return "refused", "right", "other" or what is wrong."""
    if isinstance(result, InputError):
        return "refused" if "\n" not in str(result) else f"more than one line: {str(result)[:200]!r}"
    if isinstance(result, BaseException):
        return f"{type(result).__name__}: {' '.join(str(result).split())[:200]}"
    if result == right:
        return "right"
    return DIFFERENT if redundant else "other"


def fuzz(name: str, count: int, seed: int, guided: bool) -> Iterator[tuple[int, str]]:
    """Yield the verdict of every input; a child that hangs or dies is a verdict, and another goes on after it."""
    context = multiprocessing.get_context("fork")
    following = 0
    while following < count:
        started, results = context.Value("q", -1), context.SimpleQueue()
        child = context.Process(target=run_inputs, args=(name, range(following, count), seed, guided, started, results))
        child.start()
        last, since = -1, time.monotonic()
        while following < count:
            if not results.empty():
                number, found = results.get()
                following, since = number + 1, time.monotonic()
                yield number, found
                continue
            if not child.is_alive() and results.empty():
                if following < count:
                    at = started.value
                    if at < following:
                        raise RuntimeError(f"{name}: the child died before its first input (exit {child.exitcode})")
                    yield at, f"the process died ({signal.Signals(-(child.exitcode or 0)).name})"
                    following = at + 1
                break
            if started.value != last:
                last, since = started.value, time.monotonic()
            elif last >= following and time.monotonic() - since > HANG_S:
                yield last, f"hangs for {HANG_S} s"
                following = last + 1
                break
            time.sleep(0.0005)
        if child.is_alive():
            child.kill()
        child.join()


def main() -> int:
    """Fuzz the targets in turn and print a table; returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="keep inputs that reach new lines, and damage them again")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()
    each = -(-args.inputs // len(args.targets))
    findings: list[Finding] = []
    rows = []
    print(f"{'target':14} {'inputs':>8} {'refused':>8} {'right':>8} {'other':>8} {'found':>6}")
    for name in args.targets:
        counts: Counter[str] = Counter()
        for number, found in tqdm(fuzz(name, each, args.seed, args.guided), total=each, desc=name, leave=False):
            known = found in {"refused", "right", "other"}
            counts[found if known else "found"] += 1
            if not known:
                findings.append(Finding(name, number, found))
        rows.append({"target": name, "inputs": each, **counts})
        print(f"{name:14} {each:8} {counts['refused']:8} {counts['right']:8} {counts['other']:8} {counts['found']:6}")
    for what, among in Counter((f.target, f.what) for f in findings).most_common():
        numbers = [str(f.number) for f in findings if (f.target, f.what) == what][:FOUND_SHOWN]
        print(f"{what[0]}: {what[1]} ({among} inputs: {', '.join(numbers)})")
    if args.json:
        content = {"seed": args.seed, "guided": args.guided, "rows": rows, "findings": [vars(f) for f in findings]}
        args.json.write_text(json.dumps(content, indent=2) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
