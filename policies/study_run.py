"""Run a study's commands: one after the other, or several at once; the same study goes on where it stopped."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cosmos_engine import worker_process
from cosmos_engine.data.atomic import make_folder, write_file
from cosmos_engine.errors import InputError
from policies.study import StudyCommand

DONE = "done"
LOGS = "logs"
_POLL_S = 0.2


def missing_commands(commands: Sequence[StudyCommand], out: Path) -> list[StudyCommand]:
    """Return the commands that are still to run: those that have not ended, and that one still to run needs.

    What a command made may be removed once all that needs it has ended: of a study that is done, the benchmarks'
    results are enough.

    Args:
        commands: those of a study; a command comes after those that it needs.
        out: the study's folder.

    Raises:
        InputError: a command of that name has ended with other words: `out` holds another study.
    """
    missing: list[StudyCommand] = []
    for command in reversed(commands):
        needed_by = [other for other in commands if other.needs(command)]
        if not _has_ended(command, out) and (not needed_by or any(other in missing for other in needed_by)):
            missing.insert(0, command)
    return missing


def _has_ended(command: StudyCommand, out: Path) -> bool:
    done = _done_file(command, out)
    if not done.exists():
        return False
    try:
        there = json.loads(done.read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{done}: not a study's; choose another --out") from error
    here = _moved_line(command, out)
    if there != here:
        raise InputError(f"{done}: holds another study: `{there}` there and `{here}` here")
    return True


def _moved_line(command: StudyCommand, out: Path) -> str:
    """Return the command as it would be with the study in the folder "study": a study may be moved."""
    words = [str("study" / word.relative_to(out)) if isinstance(word, Path) else word for word in command.words]
    return shlex.join(("cosmos-engine", *words))


def run_study(commands: Sequence[StudyCommand], out: Path, workers: int = 1) -> None:
    """Run the commands that have not ended yet, each in a process of its own.

    Args:
        commands: those of a study; a command comes after those that it needs.
        out: the study's folder.
        workers: how many run at once, as soon as what they need is there. The cores are divided among them, GPUs are
            dealt in turn, and what they say goes to `out`/logs; with one, it goes where this process's words go.

    Raises:
        InputError: a command failed; the others that run are stopped and go on with the same study.
        KeyboardInterrupt: on Ctrl-C; what ran has saved, and the same study goes on from there.
    """
    missing = missing_commands(commands, out)
    progress: tqdm[Any]
    with tqdm(total=len(commands), initial=len(commands) - len(missing), desc="study", unit="command") as progress:
        for command in _alone(missing, progress) if workers == 1 else _at_once(missing, out, workers, progress):
            make_folder(_done_file(command, out).parent)
            write_file(_done_file(command, out), json.dumps({"command": _moved_line(command, out)}).encode())
            progress.update()


def _alone(commands: Sequence[StudyCommand], progress: tqdm[Any]) -> Iterator[StudyCommand]:
    """Run one command after the other, and yield each when it has ended well."""
    for command in commands:
        progress.write(f"\n== {command.line}", file=sys.stderr)
        if (code := _run(command)) != 0:
            raise InputError(f"`{command.line}` ended with exit code {code}; the study goes on from it")
        yield command


def _run(command: StudyCommand) -> int:
    process = subprocess.Popen(_words(command))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # The terminal has sent it Ctrl-C as well: it saves and ends.
        raise


def _at_once(commands: Sequence[StudyCommand], out: Path, workers: int, progress: tqdm[Any]) -> Iterator[StudyCommand]:
    """Run `workers` commands at once, each after those that it needs, and yield each when it has ended well."""
    make_folder(out / LOGS)
    waiting = list(commands)
    running: dict[int, tuple[StudyCommand, subprocess.Popen[bytes]]] = {}  # by worker
    try:
        while waiting or running:
            unmade = [*waiting, *(command for command, _ in running.values())]
            ready = [command for command in waiting if not any(map(command.needs, unmade))]
            for worker, command in zip([w for w in range(workers) if w not in running], ready, strict=False):
                progress.write(f"== {command.line}", file=sys.stderr)
                running[worker] = command, _started(command, out, worker, workers)
                waiting.remove(command)
            time.sleep(_POLL_S)
            for worker, (command, process) in list(running.items()):
                if (code := process.poll()) is None:
                    continue
                del running[worker]
                if code != 0:
                    raise InputError(
                        f"`{command.line}` ended with exit code {code}; the study goes on from it. It said: "
                        f"{_last_line(_log_file(command, out))}"
                    )
                yield command
    finally:
        for _, process in running.values():
            process.send_signal(signal.SIGINT)  # it saves and ends
        for _, process in running.values():
            process.wait()


def _started(command: StudyCommand, out: Path, worker: int, workers: int) -> subprocess.Popen[bytes]:
    environment = os.environ | worker_process.environment(max(1, worker_process.usable_cores() // workers))
    if torch.cuda.device_count() > 1:
        environment["CUDA_VISIBLE_DEVICES"] = _dealt_gpu(worker)
    with _log_file(command, out).open("ab") as log, _interruptible_children():
        # A process group of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
        return subprocess.Popen(
            _words(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, process_group=0
        )


@contextmanager
def _interruptible_children() -> Iterator[None]:
    """Have processes that are started meanwhile answer SIGINT even where this one ignores it, as under nohup."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _dealt_gpu(worker: int) -> str:
    """Return the GPU of a worker as CUDA_VISIBLE_DEVICES names it, of those that this process may see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = seen.split(",") if seen else [str(index) for index in range(torch.cuda.device_count())]
    return names[worker % len(names)]


def _words(command: StudyCommand) -> list[str]:
    return [sys.executable, "-m", "cosmos_engine", *map(str, command.words)]


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing"


def _log_file(command: StudyCommand, out: Path) -> Path:
    return out / LOGS / f"{command.name}.log"


def _done_file(command: StudyCommand, out: Path) -> Path:
    return out / DONE / f"{command.name}.json"
