"""A critic: a vision-language model's opinion of a variant, the last and dearest check, where a user has one.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.errors import InputError

FRAMES_SHOWN = 6
QUESTION = (
    "The first pictures are frames of a recorded robot demonstration, the others the same frames, restyled. "
    "Colours, materials, light and background may differ. Robot, gripper and objects must be the same things at the "
    "same places doing the same. The task is: {instruction}. Does the restyled version show that, without anything "
    "missing, added, moved or deformed? Answer with a single number from 0 (certainly not) to 10 (certainly), then one "
    "short sentence why."
)


@dataclass(frozen=True)
class Opinion:
    """What a critic says of a variant.

    Attributes:
        score: from 0 (wrong) to 1 (right).
        reason: one line.
    """

    score: float
    reason: str


@runtime_checkable
class Critic(Protocol):
    """Say whether a variant shows what its source shows."""

    @property
    def name(self) -> str:
        """What provenance calls this critic; changes with its weights."""
        ...

    def judge(
        self, source: UInt8[np.ndarray, "t h w 3"], variant: UInt8[np.ndarray, "t h w 3"], instruction: str
    ) -> Opinion:
        """Return the opinion of one camera's variant; the same inputs give the same opinion."""
        ...


Answering = Callable[[Sequence[UInt8[np.ndarray, "h w 3"]], str], str]
"""Of pictures and a question: the model's answer. Cosmos-Reason1, or any model that chats about pictures."""


class ChatCritic:
    """Ask a model that answers questions about pictures; implements `Critic`.

    Args:
        answering: shows the model pictures and a question, and returns its answer; must not sample.
        name: of the model and its weights.
        frames: how many frames of each clip are shown, spread over it.
    """

    def __init__(self, answering: Answering, name: str, frames: int = FRAMES_SHOWN) -> None:
        if frames < 1:
            raise InputError(f"critic frames: expected at least 1, got {frames}")
        self._answering = answering
        self.name = name
        self._frames = frames

    def judge(
        self, source: UInt8[np.ndarray, "t h w 3"], variant: UInt8[np.ndarray, "t h w 3"], instruction: str
    ) -> Opinion:
        """Return the opinion; an answer without a number from 0 to 10 counts as 0 and is the reason."""
        count = min(self._frames, len(source))
        chosen = np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))
        pictures = [*source[chosen], *variant[chosen]]
        return parsed(self._answering(pictures, QUESTION.format(instruction=instruction or "not named")))


def parsed(answer: str) -> Opinion:
    """Return the opinion in an answer: its first number, of 10, and what follows."""
    text = " ".join(answer.split())
    found = re.search(r"(?<![\d.])(10(?:\.0+)?|\d(?:\.\d+)?)(?![\d.]*\d)(?:\s*/\s*10)?", text)
    if found is None:
        return Opinion(0.0, f"no number in the answer {text[:200]!r}")
    return Opinion(float(found[1]) / 10, text[found.end() :].strip(" .,:;-") or text)


def worst_opinion(opinions: Mapping[str, Opinion]) -> tuple[str, Opinion]:
    """Return the camera of the lowest score, with it."""
    camera = min(sorted(opinions), key=lambda name: opinions[name].score)
    return camera, opinions[camera]
