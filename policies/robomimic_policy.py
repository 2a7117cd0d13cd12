"""A policy that robomimic trained, as a `Policy`: what the benchmark, the rollouts and the window need of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from yaml import YAMLError, safe_load

from cosmos_engine.config import as_yaml, load_config
from cosmos_engine.data.atomic import write_file
from cosmos_engine.errors import InputError
from policies.checkpoint import WEIGHTS_FILE, check_sealed, load_tensors, restore, save_tensors, sealed
from policies.policy import PolicySpec
from policies.robomimic_network import RobomimicNetworkConfig, as_robomimic, make_algorithm

ROBOMIMIC_FORMAT = 1
ROBOMIMIC_FILE = "robomimic.yaml"


@dataclass(frozen=True)
class RobomimicRecord:
    """Say what a policy of robomimic's is and what it was trained on; the content of robomimic.yaml."""

    format: int = ROBOMIMIC_FORMAT
    network: RobomimicNetworkConfig = field(default_factory=RobomimicNetworkConfig)
    spec: PolicySpec = field(default_factory=PolicySpec)
    tasks: list[str] = field(default_factory=list)
    demo_seeds: list[int] = field(default_factory=list)  # resets seen in training: no trial may repeat them
    dataset_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedRobomimicPolicy:
    """Hold a policy ready to act, with its record and the hash of its weights file; as `LoadedPolicy`."""

    policy: RobomimicPolicy
    record: RobomimicRecord
    weights_sha256: str
    updates: int
    seen_seeds: frozenset[int]


@dataclass
class _Memory:
    """What an RNN keeps of one trial."""

    rng: np.random.Generator  # held, so that no other trial's generator gets its id
    steps: int = 0
    state: tuple[torch.Tensor, ...] = ()


class RobomimicPolicy:
    """Act one control step at a time with robomimic's networks.

    An RNN starts from zero every `sequence` control steps, as in robomimic's own rollouts. Its state belongs to a
    trial, which is known by its generator: a trial that is left out of a call has ended.

    Args:
        algorithm: of `make_algorithm`; its networks are put into evaluation.
        network: its sizes.
        spec: what it sees and does; one frame, an action chunk of one.
    """

    def __init__(self, algorithm: Any, network: RobomimicNetworkConfig, spec: PolicySpec) -> None:
        algorithm.set_eval()
        self._actor = algorithm.nets["policy"]
        self._device: torch.device = algorithm.device
        self._network = network
        self._spec = spec
        self._memories: dict[int, _Memory] = {}

    @property
    def spec(self) -> PolicySpec:
        """What the policy sees and does."""
        return self._spec

    @torch.no_grad()
    def act(
        self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]
    ) -> Float32[np.ndarray, "b chunk a"]:
        """Return one action per row; see `Policy.act`."""
        present = {name: observations[name][:, -1] for name in self._spec.observation_shapes}
        seen = as_robomimic(present, self._spec, self._network.image_size, self._device)
        if self._network.algorithm == "bc_rnn":
            output = self._unrolled(seen, rngs)
        elif self._network.gmm_modes:
            output = self._actor.forward_train(seen)
        else:
            output = self._actor(seen)
        actions_BA = _drawn(output, rngs) if self._network.gmm_modes else output.cpu().numpy()
        return actions_BA[:, None].astype(np.float32)

    def _unrolled(self, seen: dict[str, torch.Tensor], rngs: Sequence[np.random.Generator]) -> Any:
        """Return the RNN's output of this control step, an action or a distribution, and keep its state."""
        memories = [self._memories.get(id(rng), _Memory(rng)) for rng in rngs]
        rows = []
        for memory in memories:
            if memory.steps % self._network.sequence == 0:
                memory.state = self._actor.get_rnn_init_state(batch_size=1, device=self._device)
            memory.steps += 1
            rows.append(memory.state)
        joined = tuple(torch.cat(part, dim=1) for part in zip(*rows, strict=True))
        step = self._actor.forward_train_step if self._network.gmm_modes else self._actor.forward_step
        output, state = step(seen, rnn_state=joined)
        for row, memory in enumerate(memories):
            memory.state = tuple(part[:, row : row + 1] for part in state)
        self._memories = {id(memory.rng): memory for memory in memories}
        return output


def _drawn(mixture: Any, rngs: Sequence[np.random.Generator]) -> Float32[np.ndarray, "b a"]:
    """Draw one action per row from a mixture of Gaussians, each with its own generator."""
    shares_BK = mixture.mixture_distribution.probs.cpu().double().numpy()
    normal = mixture.component_distribution.base_dist
    means_BKA, spreads_BKA = normal.loc.cpu().numpy(), normal.scale.cpu().numpy()
    actions = np.empty((len(rngs), means_BKA.shape[-1]), np.float32)
    for row, rng in enumerate(rngs):
        mode = rng.choice(len(shares_BK[row]), p=shares_BK[row] / shares_BK[row].sum())
        noise = rng.standard_normal(actions.shape[1], dtype=np.float32)
        actions[row] = means_BKA[row, mode] + spreads_BKA[row, mode] * noise
    return actions


def save_robomimic_record(folder: Path, record: RobomimicRecord) -> None:
    """Write robomimic.yaml."""
    write_file(folder / ROBOMIMIC_FILE, sealed(as_yaml(record)))


def save_robomimic_weights(folder: Path, algorithm: Any, updates: int) -> None:
    """Write policy.safetensors, replacing the last one."""
    save_tensors(folder / WEIGHTS_FILE, algorithm.nets.state_dict(), {"updates": updates})


def load_robomimic_policy(folder: Path, device: torch.device) -> LoadedRobomimicPolicy:
    """Read a policy that `train_robomimic` wrote, for acting.

    Raises:
        InputError: if a file is missing or damaged, comes from another version, the weights do not fit the record, or
            robomimic is not installed.
    """
    record = _load_record(folder / ROBOMIMIC_FILE)
    path = folder / WEIGHTS_FILE
    tensors, state = load_tensors(path)
    with torch.random.fork_rng():
        algorithm = make_algorithm(record.network, record.spec, device)
    restore(algorithm.nets, tensors, path, ROBOMIMIC_FILE)
    return LoadedRobomimicPolicy(
        policy=RobomimicPolicy(algorithm, record.network, record.spec),
        record=record,
        weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        updates=int(state["updates"]),
        seen_seeds=frozenset(record.demo_seeds),
    )


def _load_record(path: Path) -> RobomimicRecord:
    try:
        content = safe_load(path.read_bytes())
    except (OSError, ValueError, YAMLError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != ROBOMIMIC_FORMAT:
        raise InputError(f"{path}: policy format {version}, this version reads format {ROBOMIMIC_FORMAT}")
    check_sealed(path)
    return load_config(RobomimicRecord, path)
