"""Let disks fill up and turn read-only under every command that writes, and start each command twice at once.

    sudo MUJOCO_GL=egl python benchmarks/reliability/disks.py [--rounds 5] [--jobs record augment ...]

Needs root and Linux: the disk is a small tmpfs, which it mounts, fills, enlarges, and mounts read-only. A command that
cannot write must end with exit code 2 and one line; all that was committed before must still be there; once the disk
has room again the same command ends, and what it wrote is, byte for byte, what an undisturbed run writes. Of two
commands at once one must end well, and the other end well too or be refused in one line. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kills import Job, discard, jobs, make_inputs, tree_digest
from tqdm import tqdm

ROOM = "256m"


def mount(folder: Path, options: str) -> None:
    """Mount a tmpfs on a folder, or change the one that is there (`remount,...`)."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """Yield a small disk of its own."""
    folder.mkdir()
    mount(folder, f"size={size}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def started(words: list[str]) -> subprocess.Popen[str]:
    """Start Python with some words."""
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command; return its exit code and its last line, or the traceback that it should not have."""
    _, told = process.communicate()
    if "Traceback" in told:
        return process.returncode, "Traceback: " + told.strip().splitlines()[-1]
    lines = told.replace("\r", "\n").strip().splitlines()
    return process.returncode, lines[-1] if lines else ""


def complaints(what: str, code: int, line: str, expected: set[int]) -> list[str]:
    """Return what is wrong about how a command ended."""
    if code in expected and not line.startswith("Traceback"):
        return []
    return [f"{what}: exit code {code}, {line!r}"]


def unequal(job: Job, out: Path, wanted: dict[str, str], what: str) -> list[str]:
    """Run a command to its end and return what differs from an undisturbed run."""
    wrong = (
        complaints(f"{what}, with room again", *ended(started(job.words(out))), {0}) if not finished(job, out) else []
    )
    got = tree_digest(out) if out.exists() else {}
    different = sorted(file for file in wanted.keys() | got.keys() if wanted.get(file) != got.get(file))
    return wrong + ([f"{what}: differs: {', '.join(different[:5])}"] if different else [])


def finished(job: Job, out: Path) -> bool:
    """Tell whether the command would refuse to run again, because what it makes is there."""
    return job.at_once and out.exists()


def filled(name: str, job: Job, folder: Path, wanted: dict[str, str], size: int, share: float) -> tuple[list[str], str]:
    """Run on a disk that has room for a share of what is written; return what is wrong, and what was said."""
    what = f"{name}, disk of {share:.0%}"
    with disk(folder / "disk", str(max(int(size * share), 1 << 14))) as small:
        out = small / "out"
        code, line = ended(started(job.words(out)))
        wrong = complaints(what, code, line, {0, 2})
        job.committed(out) if out.exists() else 0
        mount(small, f"remount,size={ROOM}")
        return wrong + unequal(job, out, wanted, what), line


def read_only(name: str, job: Job, folder: Path, wanted: dict[str, str], until_s: float) -> tuple[list[str], str]:
    """Stop a run, make its disk read-only, run again; then go on as before."""
    what = f"{name}, read-only after {until_s:.1f} s"
    with disk(folder / "disk", f"size={ROOM}".removeprefix("size=")) as place:
        out = place / "out"
        first = started(job.words(out))
        try:
            first.communicate(timeout=until_s)
        except subprocess.TimeoutExpired:
            first.kill()
            first.communicate()
        before = tree_digest(place)
        complete = finished(job, out)
        mount(place, "remount,ro")
        code, line = ended(started(job.words(out)))
        wrong = complaints(what, code, line, {0, 2})
        if tree_digest(place) != before:
            wrong.append(f"{what}: changed")
        mount(place, "remount,rw")
        return wrong + ([] if complete else unequal(job, out, wanted, what)), line


def twice(name: str, job: Job, folder: Path, wanted: dict[str, str]) -> tuple[list[str], str]:
    """Start a command twice at once."""
    out = folder / f"{name}_twice"
    both = [started(job.words(out)) for _ in range(2)]
    (one, first), (other, second) = (ended(process) for process in both)
    wrong = complaints(f"{name}, twice", one, first, {0, 2}) + complaints(f"{name}, twice", other, second, {0, 2})
    if 0 not in (one, other):
        wrong.append(f"{name}, twice: neither ended well: {first!r}, {second!r}")
    wrong += unequal(job, out, wanted, f"{name}, twice")
    discard(out)
    return wrong, first if one else second


def campaign(name: str, job: Job, folder: Path, rounds: int) -> list[str]:
    """Do all that to one job; return what was found wrong."""
    reference = folder / f"{name}_reference"
    code, line = ended(started(job.words(reference)))
    if code:
        return [f"{name}: {line}"]
    wanted = tree_digest(reference)
    size = sum(file.stat().st_blocks * 512 for file in (reference, *reference.rglob("*")) if file.is_file())
    faults: list[str] = []
    said: set[str] = set()
    for number in tqdm(range(rounds), desc=name, leave=False):
        share = (number + 0.5) / rounds
        for wrong, line in (
            filled(name, job, folder, wanted, size, share),
            read_only(name, job, folder, wanted, 0.3 + 4 * share * number),
            twice(name, job, folder, wanted),
        ):
            faults += wrong
            said.add(line.replace(str(folder), "..."))
    print(f"{name:16} {rounds} full disks, {rounds} read-only, {rounds} pairs: {len(faults)} faults")
    for line in sorted(said - {""}):
        print(f"    {line[:160]}")
    return faults


def main() -> int:
    """Run the campaigns and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, for each job")
    parser.add_argument("--jobs", nargs="+", help="default: all; export-lerobot needs the extra lerobot")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        make_inputs(folder)
        every = jobs(folder)
        faults = [fault for name in args.jobs or every for fault in campaign(name, every[name], folder, args.rounds)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
