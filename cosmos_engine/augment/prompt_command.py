"""Prompts from a program, such as a language model behind a command: asked once a variant, and written down.

The program reads one JSON object from stdin and prints the prompt. It is not asked again for what is written down, so
a resumed job, or the same one elsewhere with the same file, has the same prompts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_engine.augment.prompts import PromptRequest, PromptWriter, keep_clause, kept_objects
from cosmos_engine.data.atomic import storage_errors
from cosmos_engine.errors import InputError

TIMEOUT_S = 300.0
LONGEST = 4000
"""Characters of a reply; NVIDIA's encoder takes 512 tokens."""


class CommandPrompts:
    """Prompts that a program writes from a draft.

    Args:
        command: the program and its arguments; started without a shell.
        draft: writes what the program is to improve on.
        log: text file, JSON lines {"demo", "variant", "draft", "prompt"}; what it has is not asked for again.
        timeout_s: seconds that one answer may take.

    Raises:
        InputError: the log cannot be read or has a damaged line.
    """

    def __init__(self, command: Sequence[str], draft: PromptWriter, log: Path, timeout_s: float = TIMEOUT_S) -> None:
        if not command:
            raise InputError("--prompt-command: expected a program, got nothing")
        self._command = list(command)
        self._draft = draft
        self._log = log
        self._timeout_s = timeout_s
        self._known = self._read()

    @property
    def provenance(self) -> dict[str, Any]:
        """The command, and where drafts come from."""
        return {"writer": "command", "command": self._command, "draft": self._draft.provenance}

    def write(self, request: PromptRequest) -> str:
        """Return the program's answer on one line, with a clause that names what must not change where it did not.

        Raises:
            InputError: the program fails, takes too long, or its answer is empty or too long.
        """
        draft = self._draft.write(request)
        key = (request.demo, request.variant, draft)
        if key not in self._known:
            self._known[key] = self._asked(request, draft)
            self._note(*key)
        return self._known[key]

    def _asked(self, request: PromptRequest, draft: str) -> str:
        objects = list(kept_objects(request.labels).values())
        keep = keep_clause(request.labels)
        question = {
            "demo": request.demo,
            "variant": request.variant,
            "task": request.task,
            "instruction": request.instruction,
            "objects": objects,
            "keep": keep,
            "draft": draft,
            "seed": int(request.rng.integers(2**31)),
        }
        name = self._command[0]
        try:
            answer = subprocess.run(
                self._command,
                input=json.dumps(question),
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"--prompt-command {name}: no answer in {self._timeout_s:g} s") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--prompt-command {name}: cannot be run: {error}") from error
        if answer.returncode:
            said = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"--prompt-command {name}: exit code {answer.returncode}: {said[:200]}")
        prompt = " ".join(answer.stdout.split())
        if not prompt or len(prompt) > LONGEST:
            raise InputError(
                f"--prompt-command {name}: expected a prompt of 1 to {LONGEST} characters, got {len(prompt)}"
            )
        named = all(phrase.lower() in prompt.lower() for phrase in objects)
        return prompt if named else f"{prompt} {keep}"

    def _note(self, demo: int, variant: int, draft: str) -> None:
        line = {"demo": demo, "variant": variant, "draft": draft, "prompt": self._known[demo, variant, draft]}
        with storage_errors(self._log), self._log.open("ab") as log:
            log.write(json.dumps(line).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())

    def _read(self) -> dict[tuple[int, int, str], str]:
        """Read what was asked before; a last line that a killed job left half is cut off."""
        if not self._log.is_file():
            return {}
        with storage_errors(self._log):
            content = self._log.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                os.truncate(self._log, len(whole))
        known = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                fields = json.loads(line)
                known[int(fields["demo"]), int(fields["variant"]), str(fields["draft"])] = str(fields["prompt"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self._log}:{number}: damaged line: {error!r}") from error
        return known
