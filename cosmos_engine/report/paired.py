"""Two arms compared trial by trial: what one won that the other lost, and whether that may be luck."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_engine.errors import InputError

SIGNIFICANT = 0.05
"""p-value of McNemar's test below which a cell is marked as better or worse than the reference."""


@dataclass(frozen=True)
class Paired:
    """An arm against the reference, over the trials that both finished.

    Attributes:
        reference: name of the arm that it is compared with.
        only_here: trials in which this arm succeeded and the reference did not.
        only_reference: the reverse.
        p_value: McNemar's exact test of the two counts, in [0, 1].

    Raises:
        InputError: a negative count, or a p-value outside [0, 1].
    """

    reference: str
    only_here: int
    only_reference: int
    p_value: float

    def __post_init__(self) -> None:
        if min(self.only_here, self.only_reference) < 0 or not 0.0 <= self.p_value <= 1.0:
            raise InputError(
                f"paired: expected counts and a p-value from 0 to 1, got {self.only_here}, "
                f"{self.only_reference} and {self.p_value}"
            )

    @property
    def mark(self) -> str:
        """An arrow where the difference from the reference is significant, else nothing."""
        if self.p_value >= SIGNIFICANT:
            return ""
        return "▲" if self.only_here > self.only_reference else "▼"

    @property
    def text(self) -> str:
        """Won, lost and the p-value, such as "+30 −11, p = 0.0043"."""
        return f"+{self.only_here} −{self.only_reference}, p = {self.p_value:.2g}"
