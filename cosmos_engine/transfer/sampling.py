"""How a clip is sampled: the numbers of the sampler, one set by default for each generator."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.control_weights import WeightPolicy
from cosmos_engine.transfer.flow import DISTILLED_ANGLES_RAD, Schedule, distilled_schedule, flow_schedule
from cosmos_engine.transfer.sampler import SOLVERS, Solver
from cosmos_engine.transfer.segments import latent_frames

# The default negative prompt of NVIDIA's inference code (cosmos-transfer2.5, config.py).
NVIDIA_NEGATIVE_PROMPT = (
    "The video captures a game playing, with bad crappy graphics and cartoonish frames. It represents a recording of "
    "old outdated games. The lighting looks very fake. The textures are very raw and basic. The geometries are very "
    "primitive. The images are very pixelated and of poor CG quality. There are many subtitles in the footage. "
    "Overall, the video is unrealistic at all."
)


@dataclass(frozen=True)
class SamplingConfig:
    """How a clip is sampled.

    Attributes:
        steps: denoise steps of a segment; the shipped checkpoint was trained for one.
        shift: of the flow times towards noise.
        solver: see `sampler.sample`.
        guidance: g in v_cond + g (v_cond - v_uncond); 0 evaluates the network once a step. A recipe may
            ask for another.
        segment_frames: frames generated at once, 4k + 1.
        conditional_frames: frames at the start of a segment given by the one before; 0, 1 or 2.
        weight_policy: how the control weights combine, see `control_weights.resolve_weights`.
        integer_timesteps: tell the network floor(1000 t) / 1000, as the 2B was trained.
        negative_prompt: what v_uncond is conditioned on.
        bfloat16: whether a network in float32 computes in bfloat16; None asks the processor.

    Raises:
        InputError: a number out of range.
    """

    steps: int = 1
    shift: float = 3.0
    solver: Solver = "euler"
    guidance: float = 0.0
    segment_frames: int = 17
    conditional_frames: int = 1
    weight_policy: WeightPolicy = "capped"
    integer_timesteps: bool = False
    negative_prompt: str = ""
    bfloat16: bool | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps: expected at least 1, got {self.steps}")
        if self.shift <= 0:
            raise InputError(f"shift: expected a number above 0, got {self.shift:g}")
        if self.guidance < 0:
            raise InputError(f"guidance: expected 0 or more, got {self.guidance:g}")
        if self.solver not in SOLVERS:
            raise InputError(f"solver: expected one of {', '.join(SOLVERS)}, got {self.solver!r}")
        if self.conditional_frames not in (0, 1, 2):
            raise InputError(f"conditional_frames: expected 0, 1 or 2, got {self.conditional_frames}")
        latent_frames(self.segment_frames)
        if self.conditional_frames >= self.segment_frames:
            raise InputError(
                f"segment_frames: expected more than the {self.conditional_frames} conditional frames, "
                f"got {self.segment_frames}"
            )
        if self.solver == "distilled":
            self._check_distilled()

    @property
    def schedule(self) -> Schedule:
        """The flow times of a segment."""
        if self.solver == "distilled":
            return distilled_schedule(self.steps)
        return flow_schedule(self.steps, self.shift, integer_timesteps=self.integer_timesteps)

    def _check_distilled(self) -> None:
        """The distilled checkpoint was made for one segment, a few fixed times, and no guidance."""
        if self.steps > len(DISTILLED_ANGLES_RAD):
            raise InputError(f"steps: the distilled solver takes 1 to {len(DISTILLED_ANGLES_RAD)}, got {self.steps}")
        if self.guidance != 0 or self.conditional_frames != 0:
            raise InputError(
                "the distilled solver takes guidance 0 and conditional_frames 0, "
                f"got {self.guidance:g} and {self.conditional_frames}"
            )


# By generator. 2b: NVIDIA's defaults (35 steps of FlowUniPC, shift 5, guidance 3, 93 frames).
SAMPLING: dict[str, SamplingConfig] = {
    "transfer25-tiny": SamplingConfig(),
    "transfer25-2b": SamplingConfig(
        steps=35,
        shift=5.0,
        solver="unipc",
        guidance=3.0,
        segment_frames=93,
        integer_timesteps=True,
        negative_prompt=NVIDIA_NEGATIVE_PROMPT,
    ),
    "transfer25-2b-distilled": SamplingConfig(
        steps=len(DISTILLED_ANGLES_RAD), solver="distilled", segment_frames=93, conditional_frames=0
    ),
}
