"""A judge: what says whether a variant still shows its demo. `gate.Gate` is the one that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.data import Episode


@runtime_checkable
class Judgement(Protocol):
    """What a judge says of one variant; `gate.Verdict` is one."""

    @property
    def measures(self) -> Mapping[str, float]:
        """Finite numbers, by "<camera>/<measure>" or "cross_view/<measure>"."""
        ...

    @property
    def failures(self) -> Sequence[str]:
        """A line for each measure that is out of its bounds; none if the variant is accepted."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Accept or reject variants; the same arguments give the same judgement, bit for bit."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What the judgement follows from: JSON values."""
        ...

    def judge(self, source: Episode, images: Mapping[str, UInt8[np.ndarray, "t h w 3"]], prompt: str = "") -> Judgement:
        """Compare a variant's images, by camera, with the episode that it was made from.

        Raises:
            InputError: an episode that cannot be judged, such as one whose labels lack the robot.
        """
        ...
