"""A critic of decoded frames: small patches of two frames in a row, told from true renders beside their controls.

L1 alone teaches a decoder the mean of what it cannot know, which is blur. Patches as in Isola et al. 2017 (pix2pix),
hinge loss as in Esser et al. 2021 (VQGAN), spectral norm as in Miyato et al. 2018, feature matching as in Wang et al.
2018 (pix2pixHD). The critic is thrown away after training.

Shape legend: B clip, N pair of frames, C channel, T frame, H W pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cosmos_engine.controls import Modality
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.codec import GUIDE_CHANNELS, guide_frames
from cosmos_engine.transfer.training.processes import Processes
from cosmos_engine.transfer.training.stage import adam, load_optimizer, optimizer_state

BETAS = (0.0, 0.9)  # as usual for hinge losses (Miyato et al. 2018): momentum chases a moving opponent


@dataclass(frozen=True)
class CriticConfig:
    """How much the critic says in the decoder stage.

    Attributes:
        weight: of the critic's loss beside the reconstruction's; 0 leaves the critic out.
        features: of feature matching, within that.
        start: updates before the decoder hears the critic, which learns from the first one.
        ramp: updates over which its weight rises to `weight`.
        width: channels of its first layer.
        rate: its learning rate.

    Raises:
        InputError: a number out of range.
    """

    weight: float = 0.0
    features: float = 2.0
    start: int = 50
    ramp: int = 50
    width: int = 32
    rate: float = 4e-4

    def __post_init__(self) -> None:
        for name, least in (("weight", 0), ("features", 0), ("start", 0), ("ramp", 1), ("width", 1)):
            if getattr(self, name) < least:
                raise InputError(f"critic.{name}: expected at least {least}, got {getattr(self, name):g}")
        if not self.rate > 0:
            raise InputError(f"critic.rate: expected a number above 0, got {self.rate:g}")

    def weight_at(self, update: int) -> float:
        """Return the weight in force at an update."""
        return self.weight * min(max(update - self.start, 0) / self.ramp, 1.0)


class PatchCritic(nn.Module):
    """Score patches of 46x46 pixels of two frames in a row, given the controls of the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        seen = 2 * 3 + sum(GUIDE_CHANNELS.values())
        sizes = (
            (seen, width, 4, 2),
            (width, 2 * width, 4, 2),
            (2 * width, 4 * width, 4, 2),
            (4 * width, 4 * width, 3, 1),
        )
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(inward, outward, kernel, stride, padding=1))
            for inward, outward, kernel, stride in sizes
        )
        self.score = spectral_norm(nn.Conv2d(4 * width, 1, 1))

    def forward(self, pairs_NCHW: Tensor) -> list[Tensor]:
        """Return the features of every layer, and last the scores (N, 1, h, w)."""
        features = []
        x = pairs_NCHW.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.score(x)]


class Critic:
    """Train a `PatchCritic` beside a decoder; a `stage.Companion`."""

    def __init__(self, config: CriticConfig, seed: int, processes: Processes) -> None:
        self.config, self.processes = config, processes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PatchCritic(config.width).to(processes.device)
        self.optimizer = adam(self.network, config.rate, processes.device, BETAS)

    def learn(self, true_BCTHW: Tensor, made_BCTHW: Tensor, controls: Mapping[Modality, Tensor]) -> float:
        """Make one update that tells true from made clips apart; return the hinge loss, 2 where nothing is learnt."""
        self.network.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        true, made = (frame_pairs(video.detach(), controls) for video in (true_BCTHW, made_BCTHW))
        scores = self.network(torch.cat([true, made]))[-1].float()
        loss = F.relu(1 - scores[: len(true)]).mean() + F.relu(1 + scores[len(true) :]).mean()
        loss.backward()
        self.processes.average_gradients(self.network.parameters())
        self.optimizer.step()
        return float(self.processes.mean(loss.detach()))

    def loss(self, true_BCTHW: Tensor, made_BCTHW: Tensor, controls: Mapping[Modality, Tensor]) -> Tensor:
        """Return what the decoder hears: how made its clips look, and how far their features are from true ones."""
        self.network.requires_grad_(False)
        made = self.network(frame_pairs(made_BCTHW, controls))
        with torch.no_grad():
            true = self.network(frame_pairs(true_BCTHW, controls))
        apart: Sequence[Tensor] = [
            (ours.float() - theirs.float()).abs().mean() for ours, theirs in zip(made[:-1], true[:-1], strict=True)
        ]
        return self.config.features * torch.stack(list(apart)).mean() - made[-1].float().mean()

    def state(self) -> dict[str, Tensor]:
        """Return weights and optimiser state."""
        weights = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        return weights | {f"optimizer.{key}": value for key, value in optimizer_state(self.optimizer).items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `state`; an empty one, of a stage that had no critic yet, changes nothing."""
        if not tensors:
            return
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self.network.load_state_dict(parts["network"])
        load_optimizer(self.optimizer, parts["optimizer"])


def frame_pairs(video_BCTHW: Tensor, controls: Mapping[Modality, Tensor]) -> Tensor:
    """Return (B (T - 1), 14, H, W): each frame, the next one, and the guide of the first. A single frame is doubled."""
    first, second = (video_BCTHW[:, :, :-1], video_BCTHW[:, :, 1:]) if video_BCTHW.shape[2] > 1 else [video_BCTHW] * 2
    guide = guide_frames(controls, video_BCTHW)[:, :, : first.shape[2]]
    return torch.cat([first, second, guide.to(first.dtype)], dim=1).transpose(1, 2).flatten(0, 1)
