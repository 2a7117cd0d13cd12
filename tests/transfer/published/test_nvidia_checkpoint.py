from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.published.nvidia_checkpoint import (
    content_sha256,
    convert_wan_vae,
    image_path_keys,
    network_shapes,
    read_checkpoint,
    read_pt,
    split_checkpoint,
    vae_shapes,
)

CONFIG = TransferConfig(
    width=32,
    blocks=2,
    heads=2,
    adaln_rank=4,
    control_channels=4,
    text_width=8,
    text_width_in=12,
    image_width=6,
    inject_after=(0, 1),
)
# What NVIDIA's exports hold beside the weights.
BOOKKEEPING = {
    "net.accum_iteration": torch.tensor(3),
    "net.pos_embedder.seq": torch.arange(4.0),
    "net.blocks.0.self_attn.attn_op._extra_state": io.BytesIO(b"fp8"),
    "net.blocks.0.cross_attn.attn_op._extra_state": torch.zeros(1, dtype=torch.uint8),
}


def published(config: TransferConfig = CONFIG) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    base, branch = network_shapes(config)
    return {
        f"net.{key}": torch.randn(shape, generator=generator).bfloat16() for key, shape in (base | branch).items()
    } | BOOKKEEPING


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_published_file_fills_the_network_exactly(tmp_path: Path) -> None:
    tensors = published()
    got = read_checkpoint(saved(tmp_path / "edge.pt", tensors), CONFIG)
    network = TransferNetwork(CONFIG)
    network.base.load_state_dict(dict(got.base), strict=True)
    network.branch("edge").load_state_dict(dict(got.branch), strict=True)
    assert got.config == CONFIG
    for part in (got.base, got.branch):
        for key, value in part.items():
            assert torch.equal(value, tensors[f"net.{key}"]), key


@pytest.mark.parametrize("config", [SIZES["2b"], replace(SIZES["2b"], image_width=None)], ids=["general", "distilled"])
def test_2b_on_the_meta_device_takes_the_published_keys_and_no_others(config: TransferConfig) -> None:
    # test_network.py pins these keys and shapes to those of NVIDIA's files.
    base, branch = network_shapes(config)
    tensors: dict[str, Any] = {
        f"net.{key}": torch.empty(shape, device="meta") for key, shape in (base | branch).items()
    }
    got = split_checkpoint(tensors | BOOKKEEPING, SIZES["2b"])
    assert got.config == config
    assert (len(got.base), len(got.branch)) == ((711, 111) if config.image_width else (569, 91))
    for name in ("net.blocks.27.mlp.layer2.weight", "net.control_embedder.proj.1.weight"):
        with pytest.raises(InputError, match=name.removeprefix("net.")):
            split_checkpoint({key: value for key, value in tensors.items() if key != name}, SIZES["2b"])
        with pytest.raises(InputError, match=r"tensors of another shape: .* instead of \(2048, "):
            split_checkpoint(tensors | {name: torch.empty(2048, 1, device="meta")}, SIZES["2b"])
    with pytest.raises(InputError, match=r"extra tensors: blocks\.28\.mlp\.layer1\.weight"):
        split_checkpoint(tensors | {"net.blocks.28.mlp.layer1.weight": torch.empty(1)}, SIZES["2b"])


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.removeprefix("net."),
        lambda name: name.replace("net.", "net_ema.", 1),
    ],
    ids=["no prefix", "net_ema."],
)
def test_other_prefixes_are_read(renamed: Callable[[str], str]) -> None:
    tensors = published()
    got = split_checkpoint({renamed(name): value for name, value in tensors.items()}, CONFIG)
    assert content_sha256(got.base) == content_sha256(split_checkpoint(tensors, CONFIG).base)


def test_averaged_weights_are_taken_where_a_file_has_both() -> None:
    tensors = published()
    averaged = {
        name.replace("net.", "net_ema.", 1): value + 1 if value.is_floating_point() else value
        for name, value in tensors.items()
        if isinstance(value, Tensor)
    }
    got = split_checkpoint(tensors | averaged, CONFIG)
    key = "blocks.0.mlp.layer1.weight"
    assert torch.equal(got.base[key], averaged[f"net_ema.{key}"])


def test_missing_extra_and_misshaped_keys_are_one_line(tmp_path: Path) -> None:
    tensors = published()
    tensors["net.blocks.0.mlp.layer9.weight"] = tensors.pop("net.blocks.0.mlp.layer1.weight")
    tensors["net.control_blocks.1.after_proj.bias"] = torch.zeros(7)
    with pytest.raises(InputError) as raised:
        read_checkpoint(saved(tmp_path / "edge.pt", tensors), CONFIG)
    message = str(raised.value)
    assert "\n" not in message
    for part in (
        "edge.pt: not the network of Cosmos-Transfer2.5",
        "missing tensors: blocks.0.mlp.layer1.weight",
        "extra tensors: blocks.0.mlp.layer9.weight",
        "control_blocks.1.after_proj.bias (7,) instead of (32,)",
    ):
        assert part in message


def test_file_of_another_size_is_one_line(tmp_path: Path) -> None:
    file = saved(tmp_path / "edge.pt", published(replace(CONFIG, width=64)))
    with pytest.raises(InputError, match=r"tensors of another shape: .* and \d+ more$"):
        read_checkpoint(file, CONFIG)


def test_half_an_image_path_is_missing_tensors_and_not_another_network() -> None:
    tensors = published()
    del tensors["net.img_context_proj.0.weight"]
    with pytest.raises(InputError, match=r"missing tensors: img_context_proj\.0\.weight$"):
        split_checkpoint(tensors, CONFIG)


def test_image_path_is_what_nvidia_trains_of_the_base() -> None:
    kinds = {key.split(".", 2)[-1] for key in image_path_keys(SIZES["2b"]) if key.startswith("blocks.")}
    assert kinds == {f"cross_attn.{name}.weight" for name in ("q_img", "k_img", "v_img", "q_img_norm", "k_img_norm")}
    assert len(image_path_keys(SIZES["2b"])) == 28 * 5 + 2
    assert image_path_keys(replace(CONFIG, image_width=None)) == frozenset()


class Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("place", ["net.x", "net.x._extra_state"])
def test_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, place: str) -> None:
    file = saved(tmp_path / "edge.pt", published() | {place: Attack(tmp_path / "ran")})
    with pytest.raises(InputError, match=r"edge\.pt: holds (posix|nt)\.system, which is no tensor") as raised:
        read_checkpoint(file, CONFIG)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file_is_one_line(tmp_path: Path, share: float) -> None:
    file = saved(tmp_path / "edge.pt", published())
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"edge\.pt: not a whole PyTorch file") as raised:
        read_pt(file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(2), "expected tensors by name, got a Tensor"),
        ({}, "expected tensors by name, got a dict"),
        ({3: torch.zeros(1)}, "expected tensors by name, got a dict"),
        ({"net.x": 3}, "x is a int instead of a tensor"),
        ({"model": {"net.x": torch.zeros(1)}}, "model is a dict instead of a tensor"),
    ],
)
def test_file_of_something_else_is_one_line(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=f"edge.pt: {message}"):
        read_checkpoint(saved(tmp_path / "edge.pt", content), CONFIG)


@pytest.mark.parametrize("content", [b"", b"<html>Access denied</html>", pickle.dumps([1]), b"version https://git-lfs"])
def test_foreign_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "edge.pt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"edge\.pt: ") as raised:
        read_checkpoint(file, CONFIG)
    assert "\n" not in str(raised.value)


def test_absent_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "edge.pt", CONFIG)


def test_file_of_the_old_format_is_read(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_pt(tmp_path / "old.pth")["x"], torch.ones(2))


def test_content_digest_names_the_content() -> None:
    tensors = {"b": torch.ones(2, 3), "a": torch.zeros(1)}
    digest = content_sha256(tensors)
    assert digest == content_sha256(dict(reversed(tensors.items())))
    assert digest == content_sha256(tensors | {"b": torch.ones(3, 2).t()})
    for other in (
        {"b": torch.ones(3, 2)},
        {"b": torch.ones(2, 3).bfloat16()},
        {"b": -torch.ones(2, 3)},
        {"c": torch.ones(1)},
    ):
        assert digest != content_sha256(tensors | other)


def wan_names(shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Return diffusers' name by Wan's original one, for every tensor of the VAE."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    residual = [f"residual.{end}" for end in ("0.gamma", "2.weight", "2.bias", "3.gamma", "6.weight", "6.bias")]
    ends = [f"{module}.{kind}" for module in ("shortcut", "resample.1", "time_conv") for kind in ("weight", "bias")]
    names = [f"{module}.{kind}" for module in ("conv1", "conv2") for kind in ("weight", "bias")]
    for coder, blocks in (("encoder", "downsamples"), ("decoder", "upsamples")):
        names += [f"{coder}.conv1.{kind}" for kind in ("weight", "bias")]
        names += [f"{coder}.{blocks}.{index}.{end}" for index in range(15) for end in (*residual, *ends)]
        names += [f"{coder}.middle.{index}.{end}" for index in (0, 2) for end in residual]
        attention = ("norm.gamma", "to_qkv.weight", "to_qkv.bias", "proj.weight", "proj.bias")
        names += [f"{coder}.middle.1.{end}" for end in attention]
        names += [f"{coder}.head.{end}" for end in ("0.gamma", "2.weight", "2.bias")]
    converted: dict[str, str] = {}
    for name in names:
        (ours,) = convert_wan_vae_to_diffusers({name: name})
        if ours in shapes:
            converted[name] = ours
    assert set(converted.values()) == set(shapes)
    return converted


def test_original_wan_vae_fills_the_one_of_diffusers_exactly() -> None:
    shapes = vae_shapes()
    names = wan_names(shapes)
    assert len(names) == 194
    original = {name: torch.empty(shapes[ours], device="meta") for name, ours in names.items()}
    assert {name: tuple(value.shape) for name, value in convert_wan_vae(original).items()} == shapes
    with pytest.raises(InputError, match=r"not the Wan2\.1 VAE: missing tensors: quant_conv\.weight"):
        convert_wan_vae({name: value for name, value in original.items() if name != "conv1.weight"})
    with pytest.raises(InputError, match=r"extra tensors: surplus"):
        convert_wan_vae(original | {"surplus": torch.zeros(1)})
    with pytest.raises(InputError, match=r"tensors of another shape: quant_conv\.bias \(3,\)"):
        convert_wan_vae(original | {"conv1.bias": torch.zeros(3)})
