"""The generator: what turns a camera's control clip, a prompt and a seed into new rgb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.controls import ControlClip, Framing, Modality


@runtime_checkable
class Generator(Protocol):
    """Make variants of clips; Transfer2.5 in its sizes, a baseline, or a later model.

    A job calls `prepare` with all its prompts and `plan` with all its sizes before the first `generate`.
    """

    @property
    def name(self) -> str:
        """The name that `--generator` takes and provenance keeps."""
        ...

    @property
    def uses_prompts(self) -> bool:
        """Whether a prompt changes the pixels; a prompt that does not is not kept with the variant."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """What a reader needs to make the same pixels again: JSON values.

        Holds `weights_sha256`, digest by name of every weights file; the rest is the generator's own.
        """
        ...

    def framing(self, height: int, width: int) -> Framing:
        """Return how frames of a camera are brought to the size that is generated, and back."""
        ...

    def prepare(self, prompts: Sequence[str]) -> None:
        """Check every prompt of a job and encode what can be encoded ahead.

        Raises:
            InputError: a prompt that this generator cannot take.
        """
        ...

    def plan(self, sizes: Sequence[tuple[int, int]], modalities: Sequence[Modality], rows: int) -> str:
        """Decide how the device's memory is used, and return that in one line; empty where there is nothing to decide.

        Args:
            sizes: (height, width) of every kind of clip to come, at the generator's size.
            modalities: the controls that they have.
            rows: clips that there will be in one call of `generate`, each counted with its variants.

        Raises:
            InputError: too little memory, or a control that the generator has no branch for.
        """
        ...

    def generate(
        self, clips: Sequence[ControlClip], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[UInt8[np.ndarray, "n t h w 3"]]:
        """Return for each clip one variant under each (prompt, seed), frame by frame of its length and size.

        Clips are the cameras of one episode: a variant has the same prompt and seed in all of them. A variant does not
        depend on what else is in the call, but for the rounding of batched matrix products.
        """
        ...

    def close(self) -> None:
        """Let go of device memory; the generator cannot be used afterwards."""
        ...
