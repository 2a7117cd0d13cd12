"""A recipe: which controls condition the generator, how strongly and where, and from which presets they are made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cosmos_engine.config import nearest
from cosmos_engine.controls.edge import THRESHOLDS
from cosmos_engine.controls.modality import MODALITIES, Modality
from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.controls.vis import FACTORS
from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError

# NVIDIA's guided_generation_step_threshold is 25, and it guides the denoise steps of index 0 up to and with 25.
NVIDIA_KEEP_STEPS = 26


@dataclass(frozen=True)
class Recipe:
    """What the generator is shown of a demo, and how much it has to heed it.

    The weight of a control at a pixel is its number times the factor of the pixel's role: `vis: 0.5` with
    `vis_by_role: {scene: 0}` is 0.5 on robot and manipulated objects, and 0 elsewhere. Background is scene.

    Attributes:
        edge, vis, depth, seg: weights in [0, 1] of the four controls; 0 means not computed and not run.
        edge_preset, vis_preset: keys of `edge.THRESHOLDS` and `vis.FACTORS`; for edge of small cameras see
            `edge_control`.
        edge_by_role, vis_by_role, depth_by_role, seg_by_role: factors in [0, 1] by role (robot, manipulated, scene); a
            role that is not named has factor 1, and nothing named means the same weight everywhere.
        keep_roles: roles whose pixels keep the content of the source (NVIDIA's guided generation); none by default.
        keep_steps: how many denoise steps, counted from the first, do so. The default is what NVIDIA's step threshold
            of 25 does out of 35. Of a generator with fewer steps all are guided.
        guidance: g in v_cond + g (v_cond - v_uncond), as NVIDIA's gallery states it for these weights; None leaves it
            to the generator. A generator made to be sampled without guidance (tiny, distilled) stays without.

    Raises:
        InputError: a weight or factor outside [0, 1], no control at all, an unknown preset or role, a negative
            guidance, fewer than one step kept; names the key.
    """

    edge: float = 1.0
    vis: float = 0.0
    depth: float = 1.0
    seg: float = 1.0
    edge_preset: str = "medium"
    vis_preset: str = "medium"
    edge_by_role: dict[str, float] = field(default_factory=dict)
    vis_by_role: dict[str, float] = field(default_factory=dict)
    depth_by_role: dict[str, float] = field(default_factory=dict)
    seg_by_role: dict[str, float] = field(default_factory=dict)
    keep_roles: list[str] = field(default_factory=list)
    keep_steps: int = NVIDIA_KEEP_STEPS
    guidance: float | None = None

    def __post_init__(self) -> None:
        for modality in MODALITIES:
            _check_fraction(modality, "a weight", getattr(self, modality))
            factors = self.factors(modality)
            _check_roles(f"{modality}_by_role", factors)
            for role, factor in factors.items():
                _check_fraction(f"{modality}_by_role.{role}", "a factor", factor)
        for key, presets in (("edge_preset", THRESHOLDS), ("vis_preset", FACTORS)):
            value = getattr(self, key)
            if value not in presets:
                raise InputError(f"recipe key {key!r}: unknown preset {value!r}{nearest(value, presets)}")
        if not self.weights:
            raise InputError(f"recipe: expected at least one of {', '.join(MODALITIES)} above 0, got none")
        _check_roles("keep_roles", self.keep_roles)
        if self.keep_steps < 1:
            raise InputError(
                f"recipe key 'keep_steps': expected at least 1, got {self.keep_steps}; keep_roles: [] keeps nothing"
            )
        if self.guidance is not None and not self.guidance >= 0:
            raise InputError(f"recipe key 'guidance': expected 0 or more, or null, got {self.guidance}")

    @property
    def weights(self) -> dict[Modality, float]:
        """Return the weights above 0 by modality, without controls whose factor is 0 for every role."""
        return {
            modality: getattr(self, modality)
            for modality in MODALITIES
            if getattr(self, modality) > 0.0 and any(self.factor(modality, role) > 0.0 for role in ROLES)
        }

    def factors(self, modality: Modality) -> Mapping[str, float]:
        """Return the factors that the recipe names for a control, by role."""
        factors: Mapping[str, float] = getattr(self, f"{modality}_by_role")
        return factors

    def factor(self, modality: Modality, role: str) -> float:
        """Return the factor of a role on a control's weight."""
        return self.factors(modality).get(role, 1.0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say, a line each, what the recipe asks for and hardly means."""
        lines = [
            f"recipe: {modality}_by_role has no effect, since {modality} is 0"
            for modality in MODALITIES
            if self.factors(modality) and getattr(self, modality) == 0.0
        ]
        if self.weights.keys() <= {"seg", "vis"} and "seg" in self.weights:
            used = " and ".join(self.weights)
            lines.append(f"recipe: {used} without edge or depth, so that objects may lose their shape; add edge")
        return tuple(lines)

    def check_labels(self, labels: Mapping[int, InstanceLabel]) -> None:
        """Check that every role that this recipe treats unlike the scene can be told from it.

        Without a labelled robot its pixels would silently be scene.

        Raises:
            InputError: no label has such a role; names the recipe's key and the roles that are labelled.
        """
        present = {label.role for label in labels.values()}
        for role in ROLES:
            if role in present:
                continue
            keys = [f"{m}_by_role" for m in self.weights if self.factor(m, role) != self.factor(m, "scene")]
            keys += ["keep_roles"] * ((role in self.keep_roles) != ("scene" in self.keep_roles))
            if keys:
                labelled = ", ".join(sorted(present)) or "none"
                raise InputError(
                    f"labels: recipe key {keys[0]!r} needs instances of role {role!r}, got labels of roles: {labelled}"
                )


def _check_fraction(key: str, kind: str, value: object) -> None:
    if not (isinstance(value, int | float) and 0.0 <= value <= 1.0):
        raise InputError(f"recipe key {key!r}: expected {kind} in [0, 1], got {value}")


def _check_roles(key: str, roles: Collection[str]) -> None:
    for role in roles:
        if role not in ROLES:
            raise InputError(f"recipe key {key!r}: unknown role {role!r}{nearest(str(role), ROLES)}")
