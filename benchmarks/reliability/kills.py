"""Kill every command that writes, with SIGKILL at random moments, and go on with the same command until it ends.

    MUJOCO_GL=egl python benchmarks/reliability/kills.py [--kills 200] [--jobs record augment ...] [--seed N]

After every kill whatever was committed is read and verified. When the command has ended, what it wrote is compared
with what an undisturbed run writes, byte for byte, but for the times in logs. Exit code 1 if anything was lost, broken
or different.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

ENGINE = ["-m", "cosmos_engine"]
FRAMES = """
import sys, numpy
from pathlib import Path
from cosmos_engine.data import Dataset
from cosmos_engine.data.frame_cache import decoded_images
from cosmos_engine.errors import InputError
dataset = Dataset(Path(sys.argv[1]))
every = numpy.arange(dataset.episode_count)
keys = [key for key in dataset.keys if key.endswith("_image")]
try:
    decoded_images(dataset, keys, every, ram_bytes=0, folder=Path(sys.argv[2]))
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""
"""Builds the cache of frames as training does, of a dataset that would else be decoded into RAM."""
POLICY = ["policy.image_size=16", "policy.crop_size=14", "policy.encoder.widths=[8,8]", "policy.unet_widths=[8,16]"]
TRAIN = [*POLICY, "updates=400", "batch_size=8", "save_every=20", "log_every=20", "warmup_updates=10", "device=cpu"]
INDEX = "demos.hdf5"
FOREIGN = "lift_robomimic.hdf5"
ORPHANS_S = 20.0
"""So long at most may the workers of a killed command live."""
TIMED = {"log.jsonl": "seconds"}
"""Logs whose lines hold a time: compared without it."""


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        words: of Python, for a folder or file that it writes.
        committed: reads and verifies all that was committed there; returns how much, raises on anything wrong.
        at_once: what it writes appears whole, and a command that would write it again is refused.
    """

    words: Callable[[Path], list[str]]
    committed: Callable[[Path], int]
    at_once: bool = False


def recorded(out: Path) -> int:
    """Read every committed episode of a recording."""
    from cosmos_engine.data import Recording

    if not (out / "episodes").is_dir():
        return 0
    try:
        recording = Recording(out)
    except Exception as error:
        if "no recording here" in str(error):
            return 0
        raise
    for index in range(len(recording)):
        recording.episode(index)
    return len(recording)


def augmented(out: Path) -> int:
    """Read every committed episode of a dataset; a complete one is verified."""
    from cosmos_engine.data import Dataset, verify_dataset

    if not (out / "meta" / "episode_ends" / ".zarray").is_file():
        return 0
    dataset = Dataset(out, unfinished_ok=True)
    for index in range(dataset.episode_count):
        dataset.episode(index)
    if dataset.complete:
        difference = verify_dataset(out, None, None).first_difference
        if difference:
            raise RuntimeError(difference)
    return dataset.episode_count


def trained(out: Path) -> int:
    """Load the policy that was saved last."""
    import torch

    from policies.checkpoint import load_policy

    if not (out / "policy.safetensors").is_file():
        return 0
    return load_policy(out, torch.device("cpu")).updates


def make_inputs(folder: Path) -> None:
    """Write the recording, the dataset and the foreign file that the jobs read."""
    demos, dataset = str(folder / "demos"), str(folder / "lift.zarr")
    variants = ["--generator", "photometric", "--variants", "8", "--gate", "off"]
    for words in (
        ["record", "--task", "lift", "--episodes", "3", "image_size=24", "--out", demos],
        ["augment", demos, *variants, "--out", dataset],
        ["export", "robomimic", dataset, "--recording", demos, "--out", str(folder / FOREIGN)],
    ):
        run([*ENGINE, *words], None)


def exported(out: Path) -> int:
    """Tell whether the export is there; its bytes are compared at the end."""
    return int(out.exists())


def mapped(out: Path) -> int:
    """Return how many memory maps are there; the job itself checks their sums when it opens them."""
    return sum(1 for _ in out.rglob("frames.u8"))


def jobs(inputs: Path) -> dict[str, Job]:
    """Return the jobs; recordings and datasets that they read lie under `inputs`."""
    record = ["record", "--task", "lift", "--episodes", "4", "image_size=24"]
    demos, dataset, foreign = (str(inputs / name) for name in ("demos", "lift.zarr", FOREIGN))

    def engine(*words: str) -> Callable[[Path], list[str]]:
        return lambda out: [*ENGINE, *words, "--out", str(out)]

    return {
        "record": Job(engine(*record), recorded),
        "record-workers": Job(engine(*record, "--workers", "2"), recorded),
        "augment": Job(
            engine(
                *["augment", demos, "--generator", "photometric", "--variants", "4", "--gate", "off", "--workers", "1"]
            ),
            augmented,
        ),
        "import": Job(engine("import", "robomimic", foreign), recorded),
        "export-isaaclab": Job(engine("export", "isaaclab", dataset, "--recording", demos), exported, at_once=True),
        "export-lerobot": Job(engine("export", "lerobot", dataset), exported, at_once=True),
        "export-dppo": Job(engine("export", "dppo", dataset), exported, at_once=True),
        "cache": Job(lambda out: ["-c", FRAMES, dataset, str(out)], mapped),
        "train": Job(engine("train", dataset, *TRAIN), trained),
    }


def run(words: list[str], kill_after_s: float | None) -> tuple[bool, float]:
    """Run Python; return whether it ended by itself, and the seconds that it ran.

    Raises:
        RuntimeError: it ended with another exit code than 0.
        subprocess.TimeoutExpired: it was killed, and a process that it had started lived on.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, told = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate(timeout=ORPHANS_S)
        return False, time.monotonic() - began
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {told.strip().splitlines()[-1:]}")
    return True, time.monotonic() - began


def tree_digest(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under a folder; of logs without their times, and of no lock."""
    found = {}
    for file in sorted(path for path in (out, *out.rglob("*")) if path.is_file()):
        name = file.relative_to(out).as_posix()
        if file.name in {".writer.lock"}:
            continue
        content = file.read_bytes()
        if name == INDEX:  # HDF5 lays out the same links otherwise when they were added in several runs
            content = json.dumps(listed(file)).encode()
        if file.name in TIMED:
            lines = [json.loads(line) for line in content.decode().splitlines()]
            content = json.dumps([{k: v for k, v in line.items() if k != TIMED[file.name]} for line in lines]).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def listed(index: Path) -> dict[str, str]:
    """Return what a recording's index says: the file and the group behind every link, and the count."""
    with h5py.File(index, "r") as file:
        data = file["data"]
        links = {name: data.get(name, getlink=True) for name in data}
        told = {name: f"{link.filename} {link.path}" for name, link in links.items()}
        return told | {"total": str(data.attrs["total"])}


def discard(out: Path) -> None:
    """Remove what a run wrote, and what it left beside it."""
    for path in (out, *out.parent.glob(f".{out.name}.*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def campaign(name: str, job: Job, kills: int, folder: Path, rng: np.random.Generator) -> list[str]:
    """Kill one job `kills` times, over as many runs as that takes; return what was found wrong."""
    reference = folder / f"{name}_reference"
    _, seconds = run(job.words(reference), None)
    _, idle_s = run([*ENGINE, "inspect", str(folder / "demos")], None)
    idle_s = min(idle_s, 0.9 * seconds)
    wanted = tree_digest(reference)
    faults: list[str] = []
    done = rounds = 0
    with tqdm(total=kills, desc=name, unit="kill") as progress:
        while done < kills:
            out = folder / f"{name}_{rounds}"
            before, ended = 0, False
            while not ended:
                # Most kills fall into the work, some into the start of Python; a run that is over cannot be killed.
                until = rng.uniform(0.02, 1.02) if rng.random() < 0.3 else rng.uniform(idle_s / seconds, 1.02)
                try:
                    ended, _ = run(job.words(out), float(until) * seconds if done < kills else None)
                    now = job.committed(out) if out.exists() else 0
                    ended = ended or (job.at_once and now > 0)  # killed after the last rename
                except Exception as error:
                    faults.append(f"{name}, run {rounds}, kill {done}: {type(error).__name__}: {error}")
                    break
                if now < before:
                    faults.append(f"{name}, run {rounds}, kill {done}: {before} committed before, {now} after")
                before = now
                if not ended:
                    done += 1
                    progress.update()
            if ended:
                got = tree_digest(out)
                different = sorted(file for file in wanted.keys() | got.keys() if wanted.get(file) != got.get(file))
                if different:
                    faults.append(
                        f"{name}, run {rounds}: differs from an uninterrupted run: {', '.join(different[:5])}"
                    )
            discard(out)
            rounds += 1
            if len(faults) > 20:
                break
    print(f"{name:15} {done:4} kills in {rounds} runs, {len(faults)} faults; undisturbed {seconds:.1f} s")
    return faults


def main() -> int:
    """Run the campaigns and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="over all jobs")
    parser.add_argument("--jobs", nargs="+", help="default: all; export-lerobot needs the extra lerobot")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        make_inputs(folder)
        every = jobs(folder)
        names = args.jobs or list(every)
        faults: list[str] = []
        for number, name in enumerate(names):
            each = args.kills // len(names) + (number < args.kills % len(names))
            faults += campaign(name, every[name], each, folder, np.random.default_rng((args.seed, number)))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
