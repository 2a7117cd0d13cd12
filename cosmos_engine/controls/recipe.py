"""A recipe: which controls condition the generator, how strongly, and from which presets they are made."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_engine.config import nearest
from cosmos_engine.controls.edge import THRESHOLDS
from cosmos_engine.controls.modality import MODALITIES, Modality
from cosmos_engine.controls.vis import FACTORS
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Weights in [0, 1] of the four controls (0: not computed, not run) and the presets of edge and vis.

    Raises:
        InputError: a weight outside [0, 1], no control at all, or an unknown preset.
    """

    edge: float = 1.0
    vis: float = 0.0
    depth: float = 1.0
    seg: float = 1.0
    edge_preset: str = "medium"
    vis_preset: str = "medium"

    def __post_init__(self) -> None:
        for modality in MODALITIES:
            weight = getattr(self, modality)
            if not 0.0 <= weight <= 1.0:
                raise InputError(f"recipe key {modality!r}: expected a weight in [0, 1], got {weight}")
        if not self.weights:
            raise InputError(f"recipe: expected at least one of {', '.join(MODALITIES)} above 0, got none")
        for key, presets in (("edge_preset", THRESHOLDS), ("vis_preset", FACTORS)):
            value = getattr(self, key)
            if value not in presets:
                raise InputError(f"recipe key {key!r}: unknown preset {value!r}{nearest(value, presets)}")

    @property
    def weights(self) -> dict[Modality, float]:
        """Return the weights above 0 by modality."""
        return {modality: getattr(self, modality) for modality in MODALITIES if getattr(self, modality) > 0.0}
