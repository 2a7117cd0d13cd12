from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.transfer import weights
from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.weights import (
    FORMAT_VERSION,
    METADATA_KEY,
    WeightsHeader,
    load_weights,
    read_header,
    save_tensors,
    save_weights,
)

CONFIG = TransferConfig(
    width=32, blocks=2, heads=2, adaln_rank=4, control_channels=4, text_width=8, inject_after=(0,), modalities=("seg",)
)
HEADER = WeightsHeader(CONFIG, {"trained": {"updates": 0, "on": ["nothing"]}, "by": "a test"})


def modules(seed: int = 0, config: TransferConfig = CONFIG) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    network = TransferNetwork(config)
    codec = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    return {"base": network.base, "branches": network.branches, "codec": codec}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, modules(seed=1), HEADER)
    return path


def test_checkpoint_comes_back_bitwise(file: Path) -> None:
    saved, loaded = modules(seed=1), modules(seed=2)
    assert load_weights(file, loaded) == HEADER
    for name, module in saved.items():
        for key, value in module.state_dict().items():
            assert torch.equal(loaded[name].state_dict()[key], value), f"{name}.{key}"


def test_float16_file_is_half_as_large_and_fills_float32_modules(file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_weights(half, modules(seed=1), HEADER, "float16")
    assert half.stat().st_size < 0.6 * file.stat().st_size
    loaded, saved = modules(seed=2), modules(seed=1)
    load_weights(half, loaded)
    weight, original = (each["base"].get_parameter("x_embedder.proj.1.weight") for each in (loaded, saved))
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, original, rtol=2**-11, atol=1e-7)
    assert loaded["codec"].state_dict()["1.num_batches_tracked"].dtype == torch.int64


def test_modules_on_the_meta_device_are_filled(file: Path) -> None:
    with torch.device("meta"):
        loaded = modules()
    load_weights(file, loaded)
    assert torch.equal(loaded["codec"].state_dict()["0.weight"], modules(seed=1)["codec"].state_dict()["0.weight"])


def test_header_is_read_without_the_modules(file: Path) -> None:
    assert read_header(file) == HEADER


@pytest.mark.parametrize("size", sorted(SIZES))
def test_config_survives_json(size: str) -> None:
    assert TransferConfig.from_json(SIZES[size].to_json()) == SIZES[size]


def test_missing_extra_and_reshaped_tensors_are_listed_in_one_line(file: Path, tmp_path: Path) -> None:
    tensors = load_file(file)
    tensors["codec.9.weight"] = tensors.pop("codec.0.weight")
    tensors["codec.0.bias"] = torch.zeros(5)
    broken = tmp_path / "broken.safetensors"
    described = {"version": FORMAT_VERSION, "config": json.loads(CONFIG.to_json()), "notes": {}}
    save_file(tensors, broken, {METADATA_KEY: json.dumps(described)})
    loaded = modules(seed=2)
    before = loaded["base"].state_dict()["x_embedder.proj.1.weight"].clone()
    with pytest.raises(InputError) as raised:
        load_weights(broken, loaded)
    message = str(raised.value)
    assert message.count("\n") == 0
    assert "missing tensors: codec.0.weight" in message
    assert "extra tensors: codec.9.weight" in message
    assert "tensors of another shape: codec.0.bias (5,) instead of (4,)" in message
    assert torch.equal(loaded["base"].state_dict()["x_embedder.proj.1.weight"], before)


def test_checkpoint_of_another_size_is_refused_with_a_short_list(file: Path) -> None:
    with pytest.raises(InputError, match=r"tensors of another shape: .* and \d+ more$"):
        load_weights(file, modules(config=replace(CONFIG, width=64)))


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_flipped_bit_is_one_line(file: Path, tmp_path: Path, place: float, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    flipped = tmp_path / "flipped.safetensors"
    flipped.write_bytes(content)
    with pytest.raises(InputError) as raised:
        load_weights(flipped, modules())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_file_is_one_line(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_weights(file, modules())


def test_absent_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such weights file"):
        read_header(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (None, "not a checkpoint of this engine"),
        ({"version": 7, "config": {}, "notes": {}}, "expected format version 2, got 7"),
        ({"version": FORMAT_VERSION}, "its metadata is damaged: KeyError: 'config'"),
        ({"version": FORMAT_VERSION, "config": {"depth": 3}, "notes": {}}, "unknown key 'depth'"),
        ({"version": FORMAT_VERSION, "config": {"width": 32}, "notes": {}}, "missing blocks, heads"),
    ],
)
def test_foreign_file_is_one_line(tmp_path: Path, described: dict[str, object] | None, message: str) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, path, described and {METADATA_KEY: json.dumps(described)})
    with pytest.raises(InputError, match=message):
        read_header(path)


def test_value_that_float16_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    codec = nn.Linear(1, 1)
    nn.init.constant_(codec.weight, 1e6)
    with pytest.raises(InputError, match=r"codec\.weight has values that are not finite in float16"):
        save_weights(tmp_path / "x.safetensors", {"codec": codec}, HEADER, "float16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no umask")
def test_file_is_readable_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_weights(tmp_path / "x.safetensors", {"codec": nn.Linear(1, 1)}, HEADER)
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o644


def test_full_disk_is_one_line_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(InputError, match=r"x\.safetensors: cannot be written: .* No space left on device"):
        save_weights(tmp_path / "x.safetensors", {"codec": nn.Linear(1, 1)}, HEADER)
    assert list(tmp_path.iterdir()) == []


def test_tied_and_viewed_tensors_are_written_each(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"x.whole": whole, "x.tied": whole, "x.view": whole[1], "x.turned": whole.t()}
    save_tensors(tmp_path / "x.safetensors", tensors, HEADER)
    loaded = load_file(tmp_path / "x.safetensors")
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def test_hash_names_the_bytes(file: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.safetensors"
    save_weights(same, modules(seed=1), HEADER)
    other = tmp_path / "other.safetensors"
    save_weights(other, modules(seed=3), HEADER)
    assert file_sha256(file) == file_sha256(same) != file_sha256(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "no even head width"),
        ({"inject_after": (0, 2)}, "inject_after"),
        ({"inject_after": ()}, "inject_after"),
        ({"modalities": ("seg", "seg")}, "repeat"),
        ({"prediction": "noise"}, "prediction"),
        ({"width": 0}, "width must be at least 1"),
    ],
)
def test_config_that_makes_no_network_is_one_line(change: dict[str, object], message: str) -> None:
    values = json.loads(CONFIG.to_json()) | change
    with pytest.raises(InputError, match=message) as raised:
        TransferConfig.from_json(json.dumps(values))
    assert "\n" not in str(raised.value)
