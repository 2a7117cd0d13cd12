from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.network import TransferNetwork

WITH_IMAGE = TransferConfig(
    width=64,
    blocks=4,
    heads=2,
    adaln_rank=8,
    control_channels=24,
    text_width=20,
    text_width_in=28,
    image_width=12,
    inject_after=(0, 2),
    modalities=("edge", "depth", "seg"),
)
TEXT_ONLY = replace(WITH_IMAGE, image_width=None, text_width_in=None, rope_ratios=(1.0, 2.0, 1.5), heads=4)
B, T, H, W = 2, 3, 6, 4
TOLERANCE = 1e-7  # the oracle's own float32 parts (norms, rotation) leave 2e-8

Oracle = Callable[..., Tensor]


def random_network(config: TransferConfig, seed: int = 0) -> TransferNetwork:
    """A float64 network whose every parameter is random, those that start at zero or one too."""
    generator = torch.Generator().manual_seed(seed)
    network = TransferNetwork(config).double().eval().requires_grad_(False)
    for parameter in network.parameters():
        fan_in = parameter.shape[-1] if parameter.ndim > 1 else 4
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / fan_in**0.5)
    return network


def random_inputs(config: TransferConfig, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mask = torch.zeros(B, 1, T, H, W, dtype=torch.float64)
    mask[:, :, 0] = 1
    return {
        "latent": draw(B, config.latent_channels, T, H, W),
        "timestep": torch.tensor([0.9, 0.3], dtype=torch.float64),
        "text": draw(B, 5, config.text_width_in or config.text_width),
        "image": draw(B, 7, config.image_width) if config.image_width else draw(0),
        "no_condition": torch.zeros_like(mask),
        "condition": mask,
        **{modality: draw(B, 16, T, H, W) for modality in config.modalities},
    }


def run(
    network: TransferNetwork,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, float | Tensor],
    *,
    condition: str = "no_condition",
    image: Tensor | None = None,
    modalities: tuple[str, ...] | None = None,
) -> Tensor:
    controls = {modality: inputs[modality] for modality in (modalities or tuple(weights))}
    return network(
        inputs["latent"],
        inputs["timestep"],
        network.project_text(inputs["text"]),
        condition_mask_B1THW=inputs[condition],
        controls=controls,
        weights=weights,
        image_BNI=image,
    )


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("config", [WITH_IMAGE, TEXT_ONLY], ids=["with image context", "text only"])
@pytest.mark.parametrize(
    "weights",
    [{}, {"edge": 1.0}, {"depth": 0.4}, {"edge": 1.0, "depth": 0.6, "seg": 0.35}, {"edge": 0.3, "seg": 0.7}],
    ids=["base alone", "one control", "one weighted control", "three controls", "a missing branch"],
)
@pytest.mark.parametrize("condition", ["no_condition", "condition"])
def test_network_equals_diffusers(
    config: TransferConfig, weights: dict[str, float], condition: str, diffusers_oracle: type
) -> None:
    network, inputs = random_network(config), random_inputs(config)
    image = inputs["image"] if config.image_width else None
    expected = diffusers_oracle(network)(
        inputs["latent"],
        inputs["timestep"],
        inputs["text"],
        condition_mask=inputs[condition],
        controls=inputs,
        weights=weights,
        image=image,
    )
    got = run(network, inputs, weights, condition=condition, image=image)
    assert relative_error(got, expected) <= TOLERANCE


def test_network_equals_diffusers_under_weight_maps(diffusers_oracle: type) -> None:
    network, inputs = random_network(WITH_IMAGE), random_inputs(WITH_IMAGE)
    generator = torch.Generator().manual_seed(2)
    maps = {m: torch.rand(B, 1, T, H // 2, W // 2, generator=generator, dtype=torch.float64) for m in ("edge", "seg")}
    expected = diffusers_oracle(network)(
        inputs["latent"],
        inputs["timestep"],
        inputs["text"],
        condition_mask=inputs["condition"],
        controls=inputs,
        weights={m: weight.flatten(2).transpose(1, 2) for m, weight in maps.items()},
        image=inputs["image"],
    )
    got = run(network, inputs, maps, condition="condition", image=inputs["image"])
    assert relative_error(got, expected) <= TOLERANCE


def test_absent_image_context_equals_zeros_of_full_length(diffusers_oracle: type) -> None:
    network, inputs = random_network(WITH_IMAGE), random_inputs(WITH_IMAGE)
    zeros = torch.zeros_like(inputs["image"])
    expected = diffusers_oracle(network)(
        inputs["latent"],
        inputs["timestep"],
        inputs["text"],
        condition_mask=inputs["no_condition"],
        controls=inputs,
        weights={"edge": 1.0},
        image=zeros,
    )
    got = run(network, inputs, {"edge": 1.0})
    assert relative_error(got, expected) <= TOLERANCE
    torch.testing.assert_close(got, run(network, inputs, {"edge": 1.0}, image=zeros))


def test_weight_zero_equals_no_control() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    without = run(network, inputs, {"edge": 1.0})
    torch.testing.assert_close(run(network, inputs, {"edge": 1.0, "seg": 0.0}), without, rtol=0, atol=0)
    torch.testing.assert_close(
        run(network, inputs, {"edge": 1.0, "seg": 0.0}, modalities=("edge",)), without, rtol=0, atol=0
    )
    per_sample = {"edge": 1.0, "seg": torch.zeros(B, dtype=torch.float64)}
    torch.testing.assert_close(run(network, inputs, per_sample), without)


def test_branch_of_weight_zero_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    network.branches["seg"] = nn.Identity()  # would fail if anything of it were called
    assert run(network, inputs, {"edge": 1.0, "seg": 0.0}).isfinite().all()


def test_map_of_ones_equals_the_scalar() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    ones = torch.ones(1, 1, T, H // 2, W // 2, dtype=torch.float64)
    per_sample = torch.full((B,), 0.5, dtype=torch.float64)
    got = run(network, inputs, {"edge": ones, "depth": per_sample})
    torch.testing.assert_close(got, run(network, inputs, {"edge": 1.0, "depth": 0.5}))


def test_order_of_branches_does_not_matter() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    one = run(network, inputs, {"edge": 1.0, "depth": 0.5, "seg": 0.2})
    other = run(network, inputs, {"seg": 0.2, "depth": 0.5, "edge": 1.0})
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_sample_does_not_depend_on_the_rest_of_the_batch() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    alone = {name: value[1:] if value.shape[:1] == (B,) else value for name, value in inputs.items()}
    torch.testing.assert_close(run(network, alone, {"edge": 1.0}), run(network, inputs, {"edge": 1.0})[1:])


def test_embedded_controls_equal_raw_ones() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    controls = {"edge": inputs["edge"], "seg": inputs["seg"]}
    weights = {"edge": 1.0, "seg": 0.5}
    got = network.denoise(
        inputs["latent"],
        inputs["timestep"],
        inputs["text"],
        condition_mask_B1THW=inputs["condition"],
        embedded_controls=network.embed_controls(controls, inputs["condition"]),
        weights=weights,
    )
    torch.testing.assert_close(got, run(network, inputs, weights, condition="condition"), rtol=0, atol=0)


def test_new_branch_changes_nothing() -> None:
    torch.manual_seed(0)
    network, inputs = TransferNetwork(TEXT_ONLY).double(), random_inputs(TEXT_ONLY)
    torch.testing.assert_close(run(network, inputs, {"edge": 1.0}), run(network, inputs, {}), rtol=0, atol=0)


def test_every_parameter_learns() -> None:
    network, inputs = random_network(replace(WITH_IMAGE, modalities=("edge",))), random_inputs(WITH_IMAGE)
    network.requires_grad_(True)
    run(network, inputs, {"edge": 1.0}, image=inputs["image"]).square().sum().backward()
    silent = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_bfloat16_network_stays_near_float32() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    expected = run(network, inputs, {"edge": 1.0})
    half = {name: value.bfloat16() for name, value in inputs.items()} | {"timestep": inputs["timestep"]}
    got = run(network.bfloat16(), half, {"edge": 1.0})
    assert got.dtype == torch.float32
    assert relative_error(got.double(), expected) < 0.05


def test_autocast_keeps_modulation_and_output_wide() -> None:
    network, inputs = random_network(TEXT_ONLY).float(), random_inputs(TEXT_ONLY)
    inputs = {name: value.float() for name, value in inputs.items()}
    expected = run(network, inputs, {"edge": 1.0})
    with torch.autocast("cpu", torch.bfloat16):
        got = run(network, inputs, {"edge": 1.0})
    assert got.dtype == torch.float32
    assert relative_error(got, expected) < 0.05


@pytest.mark.parametrize(
    ("weights", "modalities", "message"),
    [
        ({"edge": 1.0, "seg": 0.5}, ("edge",), "seg: a weight without a control"),
        ({"edge": 1.0}, ("edge", "seg"), "seg: a control without a weight"),
        ({"blur": 1.0}, ("edge",), "without"),
    ],
)
def test_control_and_weight_must_come_together(
    weights: dict[str, float], modalities: tuple[str, ...], message: str
) -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    with pytest.raises(ValueError, match=message):
        run(network, inputs, weights, modalities=modalities)


def test_unknown_modality_is_named() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    with pytest.raises(ValueError, match=r"\['lidar'\].*\['edge', 'depth', 'seg'\]"):
        network.embed_controls({"lidar": inputs["edge"]}, inputs["condition"])


def test_latent_of_half_a_patch_is_refused() -> None:
    network, inputs = random_network(TEXT_ONLY), random_inputs(TEXT_ONLY)
    cut = {name: value[..., :-1] if value.ndim == 5 else value for name, value in inputs.items()}
    with pytest.raises(ValueError, match="no whole number"):
        run(network, cut, {})


def test_2b_has_the_keys_and_shapes_of_the_published_files() -> None:
    with torch.device("meta"):
        network = TransferNetwork(SIZES["2b"])
    base = {name: tuple(value.shape) for name, value in network.base.state_dict().items()}
    branch = {name: tuple(value.shape) for name, value in network.branch("edge").state_dict().items()}
    assert base == published_base()
    assert branch == published_branch()
    assert list(network.branches) == ["edge", "vis", "depth", "seg"]
    # 2.414 B of which 0.355 B serve the image path, and 0.349 B a branch (facts of the published checkpoints).
    assert sum(p.numel() for p in network.base.parameters()) == 2_413_864_960
    assert sum(p.numel() for p in network.branch("edge").parameters()) == 349_205_504


def published_base() -> dict[str, tuple[int, ...]]:
    """Keys of a published file without the prefix `net.` and without the branch."""
    keys: dict[str, tuple[int, ...]] = {
        "x_embedder.proj.1.weight": (2048, 72),
        "t_embedder.1.linear_1.weight": (2048, 2048),
        "t_embedder.1.linear_2.weight": (6144, 2048),
        "t_embedding_norm.weight": (2048,),
        "crossattn_proj.0.weight": (1024, 100352),
        "crossattn_proj.0.bias": (1024,),
        "img_context_proj.0.weight": (2048, 1152),
        "img_context_proj.0.bias": (2048,),
        "final_layer.linear.weight": (64, 2048),
        "final_layer.adaln_modulation.1.weight": (256, 2048),
        "final_layer.adaln_modulation.2.weight": (4096, 256),
    }
    for index in range(28):
        keys |= {f"blocks.{index}.{key}": shape for key, shape in published_block().items()}
    assert len(keys) == 711
    return keys


def published_branch() -> dict[str, tuple[int, ...]]:
    keys: dict[str, tuple[int, ...]] = {
        "control_embedder.proj.1.weight": (2048, 520),
        "control_blocks.0.before_proj.weight": (2048, 2048),
        "control_blocks.0.before_proj.bias": (2048,),
    }
    for index in range(4):
        after = {"after_proj.weight": (2048, 2048), "after_proj.bias": (2048,)}
        keys |= {f"control_blocks.{index}.{key}": shape for key, shape in (published_block() | after).items()}
    return keys


def published_block() -> dict[str, tuple[int, ...]]:
    keys: dict[str, tuple[int, ...]] = {"mlp.layer1.weight": (8192, 2048), "mlp.layer2.weight": (2048, 8192)}
    for attention, context in (("self_attn", 2048), ("cross_attn", 1024)):
        keys |= {
            f"{attention}.q_proj.weight": (2048, 2048),
            f"{attention}.k_proj.weight": (2048, context),
            f"{attention}.v_proj.weight": (2048, context),
            f"{attention}.output_proj.weight": (2048, 2048),
            f"{attention}.q_norm.weight": (128,),
            f"{attention}.k_norm.weight": (128,),
        }
    keys |= {f"cross_attn.{name}_img.weight": (2048, 2048) for name in "qkv"}
    keys |= {f"cross_attn.{name}_img_norm.weight": (128,) for name in "qk"}
    for part in ("self_attn", "cross_attn", "mlp"):
        keys |= {
            f"adaln_modulation_{part}.1.weight": (256, 2048),
            f"adaln_modulation_{part}.2.weight": (6144, 256),
        }
    return keys
