"""The config of post-training: what is shown, and its four stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from cosmos_engine.controls import Modality
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.training.batch import DrawConfig
from cosmos_engine.transfer.training.clips import ClipPool, ClipPoolConfig
from cosmos_engine.transfer.training.recorded import RecordedClipsConfig
from cosmos_engine.transfer.training.stage import StageConfig


@dataclass(frozen=True)
class FlowConfig(StageConfig):
    """At which flow times the network is trained.

    Attributes:
        shift: s of the flow times, u ~ U(0, 1) shifted to s u / (1 + (s - 1) u) (Esser et al. 2024, eq. 23).
        pure_noise: share of clips at times in [0.98, 1]. Latents of a table-top are smooth: below that, averaging out
            the noise already shows the look, and a network trained with the shift alone learnt to denoise and never
            looked at its controls.
        conditional: share of batches whose first latent frame is given, as in every segment but the first; of clips of
            more than one latent frame.
    """

    shift: float = 5.0
    pure_noise: float = 0.85
    conditional: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pure_noise", "conditional"):
            _check_share(self, name)
        if self.shift <= 0:
            raise InputError(f"network: expected a shift above 0, got {self.shift:g}")


@dataclass(frozen=True)
class NetworkStageConfig(FlowConfig):
    """How the network is trained.

    Attributes:
        energy: share of updates at pure noise under the energy score, so that one denoise step samples.
        energy_after: share of the updates after which that begins. A network that does not know yet which colours a
            prompt means samples those, too, and in patches.
    """

    updates: int = 450
    batch: int = 4
    frames: int = 5
    single_share: float = 0.5
    ema: float = 0.99
    save_every: int = 100
    energy: float = 0.0
    energy_after: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("energy", "energy_after"):
            _check_share(self, name)


@dataclass(frozen=True)
class DecoderStageConfig(FlowConfig):
    """How the decoder is trained on what the network predicts.

    Attributes:
        network: whether the network learns along, so that errors of pixels reach it through the decoder.
    """

    updates: int = 900
    batch: int = 3
    frames: int = 5
    single_share: float = 0.6
    rate: float = 7e-4
    ema: float = 0.98
    save_every: int = 50
    network: bool = True


def _check_share(config: StageConfig, name: str) -> None:
    value = getattr(config, name)
    if not 0 <= value <= 1:
        raise InputError(f"network.{name}: expected a share in [0, 1], got {value:g}")


@dataclass(frozen=True)
class PosttrainConfig:
    """What `cosmos-engine posttrain` does.

    Attributes:
        clips: what is rendered, where no recordings are given.
        recorded: how recordings are cut.
        draw: what a batch shows of the clips.
        codec, text, network, decoder: the stages, in order; `updates=0` leaves one out.
        palette_guidance: guidance that is folded into the palette when all stages are done (`Palette.fold_guidance`).
        threads: batches drawn at a time, ahead of need.
        bfloat16: whether losses are computed in bfloat16; None asks the processor. One without instructions for it is
            two to three times as fast in float32.
    """

    clips: ClipPoolConfig = field(default_factory=ClipPoolConfig)
    recorded: RecordedClipsConfig = field(default_factory=RecordedClipsConfig)
    draw: DrawConfig = field(default_factory=DrawConfig)
    codec: StageConfig = field(
        default_factory=lambda: StageConfig(
            updates=800, batch=16, frames=1, shrink=2, shrink_share=0.6, ema=0.98, save_every=50
        )
    )
    text: StageConfig = field(default_factory=lambda: StageConfig(updates=500, batch=128, rate=2e-3, ema=0.98))
    network: NetworkStageConfig = field(default_factory=NetworkStageConfig)
    decoder: DecoderStageConfig = field(default_factory=DecoderStageConfig)
    palette_guidance: float = 0.0
    threads: int = 0
    bfloat16: bool | None = None

    def stages(self) -> Iterator[tuple[str, StageConfig]]:
        """Yield the stages that are not left out, by name, in order."""
        for name in ("codec", "text", "network", "decoder"):
            stage = getattr(self, name)
            if stage.updates:
                yield name, stage

    def check(self, pool: ClipPool, processes: int) -> None:
        """Raise InputError if a stage does not fit the clips or the processes."""
        for name, stage in self.stages():
            if stage.batch % processes:
                raise InputError(f"{name}.batch: expected a multiple of the {processes} processes, got {stage.batch}")
            if name != "text" and (stage.frames % 4 != 1 or stage.frames > pool.frames):
                raise InputError(
                    f"{name}.frames: expected 4k + 1, at most the {pool.frames} of the clips in {pool.folder}, "
                    f"got {stage.frames}"
                )


def defaults(*, is_begun: bool, branch: Modality | None) -> PosttrainConfig:
    """Return what is done unless told otherwise.

    Args:
        is_begun: training goes on from a checkpoint, whose latents and tokens keep their meaning: neither codec nor
            text encoder is trained.
        branch: trained alone, so neither is the decoder.
    """
    config = PosttrainConfig()
    left_out = [*(("codec", "text") if is_begun else ()), *(("decoder",) if branch else ())]
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), updates=0) for name in left_out}
    )
