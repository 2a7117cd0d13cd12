"""NVIDIA's files to parts of the folder of weights, one tensor at a time.

The base goes into the folder once, from whichever file comes first. The base of every later file is compared with it
bit by bit. NVIDIA's training code freezes the base but for its image path, so tensors of the image path that differ
are kept beside, in `<modality>-base.safetensors`; any other difference is refused unless it is asked to keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from cosmos_engine.controls import Modality
from cosmos_engine.data.atomic import make_folder, write_file
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.published.folder import VAE, Part, Source, WeightsFolder, own_base_name, weights_name
from cosmos_engine.transfer.published.nvidia_checkpoint import (
    PublishedCheckpoint,
    content_sha256,
    convert_wan_vae,
    image_path_keys,
    read_checkpoint,
    read_pt,
    vae_config_json,
)
from cosmos_engine.transfer.weights import WeightsHeader, read_header, save_tensors, size_difference, write_safetensors

BASE = "base"

Say = Callable[[str], None]


def convert_transfer(
    file: Path,
    weights: WeightsFolder,
    model: str,
    modality: Modality,
    source: Source,
    config: TransferConfig,
    *,
    own_base: bool = False,
    say: Say = print,
) -> Part:
    """Convert a file of Cosmos-Transfer2.5; call it while holding `weights.writing`.

    Args:
        file: the .pt file.
        weights: the folder to write into.
        model: `GENERAL` or `DISTILLED`.
        modality: the control of its branch.
        source: where the file came from.
        config: of the network that it must fill.
        own_base: keep tensors of the base that differ from those in the folder, whatever they are.
        say: told in one line how the base compares.

    Returns:
        The part `<model>/<modality>`.

    Raises:
        InputError: a file that is not whole or does not fit, or a base that differs outside the image path.
    """
    published = read_checkpoint(file, config)
    # bfloat16 is what NVIDIA publishes and what the network runs in; digests are of what is written.
    base = {key: value.to(torch.bfloat16) for key, value in published.base.items()}
    base_sha256 = content_sha256(base)
    header = WeightsHeader(published.config, {"source": asdict(source)})
    make_folder(weights.path / model)
    known = weights.parts().get(f"{model}/{BASE}")
    problems = weights.problems(known) if known else []
    own: dict[str, Tensor] = {}
    if known and problems and known.base_sha256 != base_sha256:
        # What is kept beside is relative to that base, so another one cannot take its place.
        raise InputError(f"{problems[0]}; it came from {known.source}, which must be converted again first")
    if known is None or problems:
        name = weights_name(model, BASE)
        _save(weights.path / name, BASE, base, header)
        weights.record(f"{model}/{BASE}", source, [name], base_sha256)
        say(f"{model}/{BASE}: {len(base)} tensors, of {source}")
    elif known.base_sha256 == base_sha256:
        say(f"{model}/{modality}: its base equals {weights_name(model, BASE)}")
    else:
        own = _differing(published, base, weights.path / weights_name(model, BASE))
        elsewhere = [key for key in sorted(own) if key not in image_path_keys(published.config)]
        if elsewhere and not own_base:
            raise InputError(
                f"{file}: its base differs from {weights_name(model, BASE)} (of {known.source}) in {len(own)} tensors, "
                f"{len(elsewhere)} of them outside the image path, the first {elsewhere[0]}; --own-base keeps both"
            )
        what = f"{len(elsewhere)} of them outside the image path" if elsewhere else "all of the image path"
        say(f"{model}/{modality}: its base differs in {len(own)} tensors, {what}; kept beside")
    files = [weights_name(model, modality)]
    _save(weights.path / files[0], modality, published.branch, header)
    if own:
        files.append(own_base_name(model, modality))
        _save(weights.path / files[1], BASE, own, header)
    part = weights.record(f"{model}/{modality}", source, files, base_sha256)
    if not own:
        (weights.path / own_base_name(model, modality)).unlink(missing_ok=True)
    say(f"{model}/{modality}: {len(published.branch)} tensors, of {source}")
    return part


def convert_vae(
    file: Path,
    weights: WeightsFolder,
    source: Source,
    vae_config: Mapping[str, Any] | None = None,
    *,
    say: Say = print,
) -> Part:
    """Convert the original Wan2.1 VAE to diffusers' layout; call it while holding `weights.writing`.

    Args:
        file: `tokenizer.pth` of NVIDIA, or Wan's own `Wan2.1_VAE.pth`.
        weights: the folder to write into.
        source: where the file came from.
        vae_config: see `convert_wan_vae`.
        say: told in one line what was written.

    Raises:
        InputError: a file that is not whole or does not fit, or diffusers is not installed.
    """
    content = read_pt(file)
    try:
        tensors = convert_wan_vae(content, vae_config)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    files = [f"{VAE}/config.json", f"{VAE}/diffusion_pytorch_model.safetensors"]
    make_folder(weights.path / VAE)
    write_file(weights.path / files[0], vae_config_json(vae_config).encode())
    # diffusers reads no file without this entry.
    write_safetensors(weights.path / files[1], tensors, {"format": "pt"})
    say(f"{VAE}: {len(tensors)} tensors, of {source}")
    return weights.record(VAE, source, files)


def _save(path: Path, module: str, tensors: Mapping[str, Tensor], header: WeightsHeader) -> None:
    save_tensors(path, {f"{module}.{key}": value for key, value in tensors.items()}, header, "bfloat16")


def _differing(published: PublishedCheckpoint, base: Mapping[str, Tensor], stored: Path) -> dict[str, Tensor]:
    """Return the tensors of a base that differ from those stored, reading one pair at a time."""
    difference = size_difference(published.config, read_header(stored).config)
    if difference:
        raise InputError(f"{stored}: for a network of another size: {difference}")
    with safe_open(stored, framework="pt") as file:
        return {
            key: value
            for key, value in base.items()
            if not torch.equal(_bits(file.get_tensor(f"{BASE}.{key}")), _bits(value))
        }


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8)
