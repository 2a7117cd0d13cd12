"""The sizes of the Transfer2.5 network: one frozen config, read by every module of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from cosmos_engine.config import nearest
from cosmos_engine.controls import MODALITIES
from cosmos_engine.errors import InputError

Prediction = Literal["velocity", "x0"]


@dataclass(frozen=True)
class TransferConfig:
    """Describe one size of the network; the modules are the same code at every size.

    Attributes:
        width: channels of a token.
        blocks: transformer blocks of the base.
        heads: attention heads; `width` is split evenly among them.
        mlp_ratio: hidden width of the MLP over `width`.
        adaln_rank: rank of each block's own part of the modulation (AdaLN-LoRA).
        patch: latent cells in one token along (time, height, width).
        latent_channels: channels of the video latent, in and out.
        control_channels: channels of a control latent; a control with fewer is padded with zeros.
        text_width: channels of the text tokens that cross-attention sees.
        text_width_in: channels of the text encoder's output where the network projects it; None if it does not.
        image_width: channels of an image-context token; None if the network has no image path.
        inject_after: base blocks after which the outputs of a branch's control blocks are added, in ascending order;
            its length is the number of control blocks of a branch.
        rope_ratios: extrapolation ratios of the rotary embedding along (time, height, width).
        modalities: control branches, by name.
        palette_tokens: for each group of latent channels, the text token that speaks of it; the last is the light's.
            Empty where text reaches the latent by cross-attention alone.
        palette_channels: latent channels of each group, in order; together all of them.
        prediction: what the output means: the velocity eps - x0 of rectified flow, or the clean latent x0.
        timestep_scale: factor on the flow time in [0, 1] before its sinusoids, whose highest frequency is 1 rad.
    """

    width: int
    blocks: int
    heads: int
    adaln_rank: int
    control_channels: int
    text_width: int
    inject_after: tuple[int, ...]
    mlp_ratio: int = 4
    patch: tuple[int, int, int] = (1, 2, 2)
    latent_channels: int = 16
    text_width_in: int | None = None
    image_width: int | None = None
    rope_ratios: tuple[float, float, float] = (1.0, 3.0, 3.0)
    modalities: tuple[str, ...] = MODALITIES
    palette_tokens: tuple[int, ...] = ()
    palette_channels: tuple[int, ...] = ()
    prediction: Prediction = "velocity"
    timestep_scale: float = 1.0

    def __post_init__(self) -> None:
        sizes = ("width", "blocks", "heads", "adaln_rank", "control_channels", "text_width", "mlp_ratio")
        for name in (*sizes, "latent_channels"):
            if getattr(self, name) < 1:
                raise InputError(f"network config: {name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads or self.head_dim % 2:
            raise InputError(f"network config: width {self.width} over {self.heads} heads is no even head width")
        if self.head_dim < 12:
            raise InputError(f"network config: head width must be at least 12 for three axes, got {self.head_dim}")
        ascending = sorted(set(self.inject_after))
        if not ascending or list(self.inject_after) != ascending or ascending[0] < 0 or ascending[-1] >= self.blocks:
            raise InputError(
                f"network config: inject_after must be ascending block indices below {self.blocks}, "
                f"got {self.inject_after}"
            )
        if len(set(self.modalities)) != len(self.modalities):
            raise InputError(f"network config: modalities repeat: {self.modalities}")
        if len(self.palette_tokens) != len(self.palette_channels) or (
            self.palette_channels and sum(self.palette_channels) != self.latent_channels
        ):
            raise InputError(
                f"network config: expected a palette token for each group of the {self.latent_channels} latent "
                f"channels, got tokens {self.palette_tokens} and groups {self.palette_channels}"
            )
        if self.prediction not in ("velocity", "x0"):
            raise InputError(f"network config: prediction must be 'velocity' or 'x0', got {self.prediction!r}")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def control_blocks(self) -> int:
        """Control blocks of each branch."""
        return len(self.inject_after)

    def to_json(self) -> str:
        """Return the config as one line of JSON that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TransferConfig:
        """Read what `to_json` wrote.

        Raises:
            InputError: not JSON, a key that is missing or unknown, or a value that makes no network.
        """
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"network config: not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"network config: expected a JSON object, got {type(values).__name__}")
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        unknown = [key for key in values if key not in known]
        missing = [key for key, default in known.items() if default is dataclasses.MISSING and key not in values]
        if unknown:
            raise InputError(f"network config: unknown key {unknown[0]!r}{nearest(unknown[0], known)}")
        if missing:
            raise InputError(f"network config: missing {', '.join(missing)}")
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        try:
            return cls(**fields)
        except TypeError as error:
            what = " ".join(str(error).split())
            raise InputError(f"network config: a value of the wrong type: {what}") from error


# 2b: nvidia/Cosmos-Transfer2.5-2B as published (arXiv 2511.00062). tiny: the size embedded in this package, which
# predicts x0 because few updates and few denoise steps are kinder to it, and resolves the flow time more finely.
SIZES: dict[str, TransferConfig] = {
    "2b": TransferConfig(
        width=2048,
        blocks=28,
        heads=16,
        adaln_rank=256,
        control_channels=128,
        text_width=1024,
        text_width_in=100352,
        image_width=1152,
        inject_after=(0, 7, 14, 21),
    ),
    "tiny": TransferConfig(
        width=256,
        blocks=4,
        heads=4,
        adaln_rank=64,
        control_channels=48,
        text_width=256,
        inject_after=(0,),
        latent_channels=96,  # as `guided_codec`: eight parts, and the light
        palette_tokens=(0, 1, 2, 3, 3, 4, 5, 3, 6),  # as `training.text_stage` teaches them
        palette_channels=(10,) * 8 + (16,),
        prediction="x0",
        timestep_scale=1000.0,
    ),
}
