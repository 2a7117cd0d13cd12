"""The generator: what turns one camera's control clip, a prompt and a seed into new rgb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.controls import ControlClip, Recipe


@runtime_checkable
class Generator(Protocol):
    """Make variants of a clip; Transfer2.5 in its sizes, a baseline, or a later model."""

    @property
    def name(self) -> str:
        """The name that `--generator` takes and provenance keeps."""
        ...

    @property
    def default_recipe(self) -> Recipe:
        """The recipe that suits this generator."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """What a reader needs to make the same pixels again: JSON values.

        Holds `weights_sha256`, digest by name of every weights file; the rest is the generator's own.
        """
        ...

    def check_prompt(self, prompt: str) -> None:
        """Raise InputError for a prompt that this generator cannot take."""
        ...

    def generate(
        self, clip: ControlClip, prompts: Sequence[str], seeds: Sequence[int]
    ) -> UInt8[np.ndarray, "n t h w 3"]:
        """Return one variant of the clip for each (prompt, seed), frame by frame of the same length and size.

        Variants of one call share the clip's controls. The same (clip, prompt, seed) in a call of the same size gives
        the same pixels on the same machine.
        """
        ...
