"""What a folder of weights holds, part by part: sizes, hashes, headers, and every key that is not as it should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.published.convert import BASE
from cosmos_engine.transfer.published.folder import (
    DISTILLED,
    GENERAL,
    MANIFEST,
    REASON1,
    VAE,
    Part,
    WeightsFolder,
    own_base_name,
)
from cosmos_engine.transfer.published.nvidia_checkpoint import Shapes, image_path_keys, network_shapes, vae_shapes
from cosmos_engine.transfer.published.reason1_snapshot import snapshot_problems
from cosmos_engine.transfer.weights import read_header, size_difference, tensor_shapes


@dataclass(frozen=True)
class PartReport:
    """What was found of one part.

    Attributes:
        name: of the part.
        part: as the manifest has it.
        problems: one line each, every one of them; empty if the part is intact.
    """

    name: str
    part: Part
    problems: tuple[str, ...]

    def __str__(self) -> str:
        verdict = "intact" if not self.problems else f"{len(self.problems)} problems"
        return f"{self.name}: {self.part.size / 1e9:.2f} GB, {verdict}, of {self.part.source}"


def verify_weights(
    weights: WeightsFolder, *, full: bool = False, config: TransferConfig | None = None
) -> list[PartReport]:
    """Check every part that the manifest names.

    Args:
        weights: the folder.
        full: also hash every file again.
        config: of the network that base and branches must fill; None for the published one.

    Raises:
        InputError: no manifest, or a damaged one.
    """
    if not (weights.path / MANIFEST).is_file():
        raise InputError(
            f"{weights.path}: no folder of weights (no {MANIFEST}); "
            f"`cosmos-engine weights download --to {weights.path}` makes one"
        )
    reports = []
    for name, part in weights.parts().items():
        problems = weights.problems(part)
        readable = [file for file in part.files if _readable(weights, file, part)]
        if full:
            problems += [
                f"{weights.path / file}: its SHA-256 is not that of the manifest"
                for file, stored in part.files.items()
                if weights.has_file(file, stored) and file_sha256(weights.path / file) != stored.sha256
            ]
        if name != REASON1 or not problems:
            problems += _key_problems(weights.path, name, readable, config or SIZES["2b"])
        reports.append(PartReport(name, part, tuple(problems)))
    return reports


def base_verdict(weights: WeightsFolder, model: str, config: TransferConfig | None = None) -> str:
    """Say in one line whether the base is equal in the files that a model was converted from; empty without a model.

    Raises:
        InputError: a damaged manifest, or a modality's own tensors cannot be read.
    """
    parts = weights.parts()
    branches = {
        name.removeprefix(f"{model}/"): part
        for name, part in parts.items()
        if name.startswith(f"{model}/") and name != f"{model}/{BASE}"
    }
    base = parts.get(f"{model}/{BASE}")
    if base is None or not branches:
        return ""
    equal = [modality for modality, part in branches.items() if part.base_sha256 == base.base_sha256]
    others = []
    for modality in sorted(set(branches) - set(equal)):
        own = tensor_shapes(weights.file(own_base_name(model, modality)))
        image_path = {f"{BASE}.{key}" for key in image_path_keys(config or SIZES["2b"])}
        elsewhere = len(set(own) - image_path)
        where = f"{elsewhere} outside the image path" if elsewhere else "all in the image path"
        others.append(f"{modality} has {len(own)} tensors of its own, {where}")
    same = f"equal in the files of {', '.join(sorted(equal))}" if equal else f"that of {base.source}"
    return "; ".join((f"base of {model}: {same}", *others))


def _readable(weights: WeightsFolder, file: str, part: Part) -> bool:
    """Say whether to look for keys: a file of another size may be another file, or a truncated one."""
    if weights.has_file(file, part.files[file]):
        return True
    try:
        tensor_shapes(weights.path / file)
    except InputError:
        return False
    return True


def _key_problems(folder: Path, name: str, readable: list[str], config: TransferConfig) -> list[str]:
    """Return one line for each tensor of a part that is missing, extra or of another shape."""
    try:
        if name == REASON1:
            return snapshot_problems(folder / REASON1)
        if name == VAE:
            return _vae_problems(folder, readable)
        problems = []
        for file in readable:
            problems += _transfer_problems(folder / file, name.rpartition("/")[2], name.startswith(DISTILLED), config)
        return problems
    except InputError as error:
        return [str(error)]


def _transfer_problems(path: Path, module: str, distilled: bool, config: TransferConfig) -> list[str]:
    header = read_header(path)
    # The distilled network has no image path, see `split_checkpoint`; the general one is to be as published.
    difference = "" if distilled and header.config.image_width is None else size_difference(config, header.config)
    if difference:
        return [f"{path}: for a network of another size: {difference}"]
    base, branch = network_shapes(header.config)
    got = tensor_shapes(path)
    if path.name == f"{module}-{BASE}.safetensors":
        expected = {f"{BASE}.{key}": shape for key, shape in base.items() if f"{BASE}.{key}" in got}
    else:
        keys = base if module == BASE else branch
        expected = {f"{module}.{key}": shape for key, shape in keys.items()}
    return _differences(path, expected, got)


def _vae_problems(folder: Path, readable: list[str]) -> list[str]:
    config, tensors = f"{VAE}/config.json", f"{VAE}/diffusion_pytorch_model.safetensors"
    if config not in readable or tensors not in readable:
        return []
    try:
        described = json.loads((folder / config).read_bytes())
        arguments = {key: value for key, value in described.items() if not key.startswith("_")}
        expected = vae_shapes(arguments)
    except (ValueError, TypeError, AttributeError) as error:
        return [f"{folder / config}: damaged: {type(error).__name__}: {error}"]
    return _differences(folder / tensors, expected, tensor_shapes(folder / tensors))


def _differences(path: Path, expected: Shapes, got: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [
        *(f"{path}: missing tensor {name} {shape}" for name, shape in expected.items() if name not in got),
        *(f"{path}: extra tensor {name}" for name in got if name not in expected),
        *(
            f"{path}: {name} is {got[name]} instead of {shape}"
            for name, shape in expected.items()
            if got.get(name, shape) != shape
        ),
    ]


MODELS = (GENERAL, DISTILLED)
