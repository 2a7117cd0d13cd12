"""The engine as a process of its own: started in its own Python environment, watched, cancelled, gone on with.

Isaac Sim pins its own numpy and torch, its window must not freeze, and a GPU out of memory must not end it: so nothing
of the engine but its recordings is imported in Kit. Needs the standard library only.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_engine.errors import InputError

EXIT_INTERRUPTED = 130
# What Isaac Sim's launcher sets for its own Python, and what would break another one.
_OF_ISAAC_SIM = (
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CARB_APP_PATH",
    "EXP_PATH",
    "ISAAC_PATH",
    "VIRTUAL_ENV",
)
_RUN = "import sys; from cosmos_engine.cli import main; sys.exit(main())"
_LOG_LINES = 200


@dataclass(frozen=True)
class AugmentJob:
    """Say which variants the engine shall make of which recording."""

    recording: str = ""
    out: str = ""
    generator: str = "transfer25-tiny"
    recipe: str = ""
    """A name or a file; empty for the generator's own."""
    prompts: str = ""
    """A file, a name, or empty for the generator's own."""
    variants: int = 5
    weights: str = ""
    """Folder of the 2B model's weights; empty for the engine's default."""
    gate: str = ""
    """Empty for the calibrated gate, `off`, or a file."""
    overrides: list[str] = field(default_factory=list)
    """`key=value` words."""

    def words(self) -> list[str]:
        """Return the words of `cosmos-engine augment` for this job.

        Raises:
            InputError: no recording, no output, or fewer than one variant.
        """
        for name in ("recording", "out"):
            if not getattr(self, name).strip():
                raise InputError(f"{name}: none is given")
        if self.variants < 1:
            raise InputError(f"variants: expected 1 or more, got {self.variants}")
        words = ["augment", self.recording, "--out", self.out, "--generator", self.generator]
        words += ["--variants", str(self.variants), "--progress", "json"]
        # YAML reads a bare `gate: off` as false.
        options = {"recipe": self.recipe, "prompts": self.prompts, "weights": self.weights}
        options["gate"] = "off" if self.gate == "False" else self.gate
        for option, value in options.items():
            if value:
                words += [f"--{option}", value]
        return [*words, *self.overrides]


@dataclass
class EngineStatus:
    """Tell how far a process of the engine is."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta_s: float | None = None
    result: dict[str, Any] = field(default_factory=dict)
    """What its last line said: of `augment` the keys dataset, accepted, asked, tries."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """All lines that carry no progress."""
    exit_code: int | None = None
    """None while it runs."""
    error: str = ""
    """The engine's own line where it failed; empty otherwise."""

    @property
    def fraction(self) -> float:
        """Part of the present stage that is done, 0 to 1; 1 when all is."""
        if self.exit_code == 0:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped on request; the same job goes on from there."""
        return self.exit_code == EXIT_INTERRUPTED


class EngineProcess:
    """Run one command of `cosmos-engine`; `poll` never waits."""

    def __init__(self, python: str, words: Sequence[str]) -> None:
        """Start it.

        Args:
            python: the interpreter of the engine's environment.
            words: the command's words, without `cosmos-engine`.

        Raises:
            InputError: the interpreter cannot be started.
        """
        check_python(python)
        self.status = EngineStatus()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._events: queue.Queue[tuple[str, str]] = queue.Queue()
        self._asked_to_stop = False
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-c", _RUN, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                # Progress comes as JSON lines; bars would push everything else out of the log.
                env=engine_environment(os.environ) | {"TQDM_DISABLE": "1"},
                **_own_group(),
            )
        except OSError as error:
            raise InputError(f"{python}: the engine cannot be started: {error.strerror or error}") from error
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe), daemon=True)
            for name, pipe in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def log(self) -> list[str]:
        """The last lines that it said, oldest first."""
        return list(self._log)

    def poll(self) -> EngineStatus:
        """Take in what it said since the last call and return its status."""
        running = self._process.poll() is None
        if not running:
            for reader in self._readers:
                reader.join()
        while not self._events.empty():
            name, line = self._events.get_nowait()
            self._take(name, line)
        if not running and self.status.exit_code is None:
            self._finish(int(self._process.returncode))
        return self.status

    def cancel(self) -> None:
        """Ask it to stop, as Ctrl-C does; it keeps what is done. A second call ends it at once."""
        if self._process.poll() is not None:
            return
        if self._asked_to_stop:
            self._process.kill()
        elif sys.platform == "win32":
            self._process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            os.killpg(self._process.pid, signal.SIGINT)
        self._asked_to_stop = True

    def close(self, patience_s: float = 10.0) -> None:
        """Stop it if it runs, and wait until it has."""
        self.cancel()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.poll()

    def _read(self, name: str, pipe: Any) -> None:
        with pipe:
            for line in pipe:
                self._events.put((name, line.rstrip("\n")))

    def _take(self, name: str, line: str) -> None:
        text = line.strip()
        if not text:
            return
        said = _json_line(text) if name == "out" else None
        if said is None:
            self._log.append(text)
        elif said.get("stage") == "finished":
            self.status.result = said
        elif "stage" in said:
            self.status.stage, self.status.eta_s = str(said["stage"]), said.get("eta_s")
            self.status.done, self.status.total = int(said.get("done", 0)), int(said.get("total", 0))
        else:
            self.status.lines.append(said)

    def _finish(self, code: int) -> None:
        if self._asked_to_stop:
            code = EXIT_INTERRUPTED
        self.status.exit_code = code
        if code and not self.status.cancelled:
            own = [line for line in self._log if line.startswith("cosmos-engine")]
            last = own or list(self._log)
            self.status.error = last[-1] if last else f"the engine ended with exit code {code} and said nothing"
            if code < 0 and not own:
                self.status.error = f"the engine was ended by signal {-code}; was memory short? {self.status.error}"


def check_python(python: str) -> None:
    """Raise InputError if there is no interpreter of that path: no environment was set, or it was moved."""
    if not python.strip():
        raise InputError("engine: no environment is set; run `cosmos-engine isaac install`, or set its Python")
    if not Path(python).is_file():
        raise InputError(f"engine: no Python at {python}; run `cosmos-engine isaac install` again, or set its Python")


def engine_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process without those that belong to Isaac Sim's Python."""
    kept = {name: value for name, value in variables.items() if name not in _OF_ISAAC_SIM}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", "PYTHONIOENCODING": "utf-8"}


def _json_line(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _own_group() -> dict[str, Any]:
    """Return how to start a process that a signal to Isaac Sim does not reach, and that can be signalled alone."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
