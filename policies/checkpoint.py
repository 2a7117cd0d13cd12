"""Checkpoints: a policy as safetensors and YAML, and beside it the state that training resumes from.

`policy.yaml` says what the policy is and is written once, before the first weights; `policy.safetensors` holds the
averaged weights with the normalisers and is replaced whole at every save. No file needs pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from yaml import YAMLError, safe_load

from cosmos_engine.config import as_yaml, load_config
from cosmos_engine.data.atomic import write_file
from cosmos_engine.errors import InputError
from cosmos_engine.tensors import tensors_sha256
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from policies.finetuned import FinetunedPolicy
from policies.policy import PolicySpec

POLICY_FORMAT = 2
"""1 had no digests."""
WEIGHTS_FILE = "policy.safetensors"
RECORD_FILE = "policy.yaml"
METADATA_KEY = "cosmos-engine/policy"
_SEAL = "# sha256 of what follows: "


@dataclass(frozen=True)
class Finetuning:
    """Say how a policy was fine-tuned; without a tuned denoise step it was not."""

    tuned_denoise_steps: int = 0  # the last ones, which the tuned copy runs
    task: str = ""
    first_seed: int = 0  # resets seen in training count up from here; the weights' file says how many
    cloned_weights_sha256: str = ""


@dataclass(frozen=True)
class PolicyRecord:
    """Say what a policy is and what it was trained on; the content of policy.yaml."""

    format: int = POLICY_FORMAT
    policy: DiffusionPolicyConfig = field(default_factory=DiffusionPolicyConfig)
    spec: PolicySpec = field(default_factory=PolicySpec)
    tasks: list[str] = field(default_factory=list)
    demo_seeds: list[int] = field(default_factory=list)  # resets seen in training: no trial may repeat them
    dataset_sha256: str = ""
    finetuning: Finetuning = field(default_factory=Finetuning)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedPolicy:
    """Hold a policy ready to act, with its record and the hash of its weights file.

    `updates` counts those of training, of a fine-tuned policy its iterations. `seen_seeds` are the resets that demos
    and fine-tuning started from: no trial may repeat them.
    """

    policy: DiffusionPolicy | FinetunedPolicy
    record: PolicyRecord
    weights_sha256: str
    updates: int
    seen_seeds: frozenset[int]


def save_record(folder: Path, record: PolicyRecord) -> None:
    """Write policy.yaml."""
    write_file(folder / RECORD_FILE, sealed(as_yaml(record)))


def save_weights(folder: Path, policy: DiffusionPolicy | FinetunedPolicy, updates: int, resets: int = 0) -> None:
    """Write policy.safetensors, replacing the last one; `resets` counts those of fine-tuning."""
    if isinstance(policy, FinetunedPolicy):
        save_tensors(folder / WEIGHTS_FILE, policy.saved_tensors(), {"updates": updates, "resets": resets})
    else:
        save_tensors(folder / WEIGHTS_FILE, policy.state_dict(), {"updates": updates})


def load_policy(folder: Path, device: torch.device) -> LoadedPolicy:
    """Read a policy for acting.

    Raises:
        InputError: if a file is missing or damaged, comes from another version, or the weights do not fit the record.
    """
    record = load_record(folder)
    path = folder / WEIGHTS_FILE
    tensors, state = load_tensors(path)
    cloned = DiffusionPolicy(record.policy, record.spec)
    policy: DiffusionPolicy | FinetunedPolicy = cloned
    first = record.finetuning.first_seed
    if record.finetuning.tuned_denoise_steps:
        policy = _finetuned(cloned, tensors, record, path)
    else:
        restore(cloned, tensors, path)
    policy.eval().requires_grad_(False)
    return LoadedPolicy(
        policy=policy.to(device),
        record=record,
        weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        updates=int(state["updates"]),
        seen_seeds=frozenset(record.demo_seeds).union(range(first, first + state.get("resets", 0))),
    )


def _finetuned(
    cloned: DiffusionPolicy, tensors: Mapping[str, torch.Tensor], record: PolicyRecord, path: Path
) -> FinetunedPolicy:
    policy = FinetunedPolicy(cloned, record.finetuning.tuned_denoise_steps)
    for name in ("tuned", "cloned") if policy.is_mixed else ("tuned",):
        part = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        restore(getattr(policy, name), part, path)
    return policy


def load_record(folder: Path) -> PolicyRecord:
    """Read policy.yaml.

    Raises:
        InputError: if it is missing, malformed or of another format version.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise InputError(f"{folder}: holds no policy ({RECORD_FILE} is missing)")
    try:
        content = safe_load(path.read_bytes())
    except (OSError, ValueError, YAMLError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    # The format comes first: a file of another version would otherwise be blamed for its unknown keys.
    version = content.get("format") if isinstance(content, dict) else None
    if version != POLICY_FORMAT:
        raise InputError(f"{path}: policy format {version}, this version reads format {POLICY_FORMAT}")
    check_sealed(path)
    return load_config(PolicyRecord, path)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
    """Write named tensors and small integers to a safetensors file, atomically; equal content gives equal bytes."""
    # One metadata key: the order of several is not defined, and the bytes would differ from run to run.
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    told = {"state": dict(state), "sha256": tensors_sha256(contiguous, state)}
    write_file(path, save(contiguous, metadata={METADATA_KEY: json.dumps(told, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Read what `save_tensors` wrote.

    Raises:
        InputError: if the file is missing, truncated, damaged or not one of ours.
    """
    if not path.is_file():
        raise InputError(f"{path}: is missing")
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        state, sha256 = dict(told["state"]), told["sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a checkpoint of this version, or truncated: {error}") from error
    if sha256 != tensors_sha256(tensors, state):
        raise InputError(f"{path}: damaged: the tensors are not those that were written")
    return tensors, state


def sealed(text: str) -> bytes:
    """Return YAML with a first line that holds the SHA-256 of the rest."""
    return f"{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode()


def check_sealed(path: Path) -> None:
    """Raise InputError if a file that `sealed` made was changed or damaged."""
    first, _, rest = path.read_bytes().partition(b"\n")
    if first != f"{_SEAL}{hashlib.sha256(rest).hexdigest()}".encode():
        raise InputError(f"{path}: was changed or damaged since it was written")


def restore(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path, record_file: str = RECORD_FILE
) -> None:
    """Copy tensors into a module.

    Raises:
        InputError: names the first tensor that is missing, unknown or of another shape; `path` is where they
            came from, `record_file` what says how they should be.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            where = "is missing" if name not in tensors else "is not part of the policy"
            raise InputError(f"{path}: does not fit {record_file}: {name} {where}")
        if tensors[name].shape != expected[name].shape:
            raise InputError(
                f"{path}: does not fit {record_file}: {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {tuple(expected[name].shape)}"
            )
    module.load_state_dict(dict(tensors))
