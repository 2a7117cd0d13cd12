"""Checkpoints: what was saved comes back, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from policies.checkpoint import (
    RECORD_FILE,
    WEIGHTS_FILE,
    PolicyRecord,
    load_policy,
    load_record,
    load_tensors,
    save_record,
    save_tensors,
    save_weights,
    sealed,
)
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from policies.encoders import EncoderConfig
from policies.policy import PolicySpec

CPU = torch.device("cpu")
RECORD = PolicyRecord(
    policy=DiffusionPolicyConfig(
        image_size=16, crop_size=12, encoder=EncoderConfig(widths=(8, 8), keypoints=4), unet_widths=(8, 16)
    ),
    spec=PolicySpec(
        observation_shapes={"b_image": [32, 32, 3], "a_image": [32, 32, 3], "robot0_eef_pos": [3]},
        action_dim=2,
        step_hz=20.0,
    ),
    tasks=["lift"],
    demo_seeds=[3, 4],
    dataset_sha256="00",
    versions={"torch": "2"},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return the folder of a saved policy."""
    save_record(tmp_path, RECORD)
    save_weights(tmp_path, DiffusionPolicy(RECORD.policy, RECORD.spec), 7)
    return tmp_path


def test_record_comes_back_equal_and_in_order(saved: Path) -> None:
    record = load_record(saved)
    assert record == RECORD
    assert list(record.spec.observation_shapes) == list(RECORD.spec.observation_shapes)


def test_weights_come_back_bitwise(saved: Path) -> None:
    loaded = load_policy(saved, CPU)
    tensors, state = load_tensors(saved / WEIGHTS_FILE)
    assert state == {"updates": loaded.updates} == {"updates": 7}
    assert loaded.policy.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded.policy.state_dict().items())


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {f"t{index}": torch.full((3,), float(index)) for index in range(20)}
    for name in ("first", "second"):
        save_tensors(tmp_path / name, tensors, {"update": 1, "other": 2})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_folder_without_a_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no policy \(policy.yaml is missing\)"):
        load_policy(tmp_path, CPU)
    save_record(tmp_path, RECORD)
    with pytest.raises(InputError, match=r"policy.safetensors: is missing"):
        load_policy(tmp_path, CPU)


def test_other_format_is_named_before_its_unknown_keys(saved: Path) -> None:
    (saved / RECORD_FILE).write_text("format: 9\nnew_key: 1\n")
    with pytest.raises(InputError, match="policy format 9, this version reads format 2"):
        load_policy(saved, CPU)


def test_weights_of_another_size_are_named(saved: Path) -> None:
    first, _, text = (saved / RECORD_FILE).read_text().partition("\n")
    assert first.startswith("# sha256")
    (saved / RECORD_FILE).write_bytes(sealed(text.replace("keypoints: 4", "keypoints: 8")))
    with pytest.raises(InputError, match=r"does not fit policy.yaml: encoders.a_image.* has shape .* expected"):
        load_policy(saved, CPU)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(kept=st.floats(0, 0.99))
def test_truncated_weights_are_one_clear_line(saved: Path, kept: float) -> None:
    whole = (saved / WEIGHTS_FILE).read_bytes()
    (saved / WEIGHTS_FILE).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match="not a checkpoint of this version, or truncated") as error:
        load_policy(saved, CPU)
    assert "\n" not in str(error.value)
    (saved / WEIGHTS_FILE).write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_either_file_is_found(saved: Path, data: st.DataObject) -> None:
    path = saved / data.draw(st.sampled_from([WEIGHTS_FILE, RECORD_FILE]))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    with pytest.raises(InputError) as error:
        load_policy(saved, CPU)
    assert "\n" not in str(error.value)
    path.write_bytes(whole)
