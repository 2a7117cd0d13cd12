"""Image encoders: keypoints are positions."""

from __future__ import annotations

import pytest
import torch

from policies.encoders import ENCODERS, ConvEncoder, EncoderConfig
from policies.keypoints import SpatialSoftmax
from policies.resnet import ResNet18Encoder
from policies.vit import VitConfig, VitEncoder


def _peak_reader() -> SpatialSoftmax:
    softmax = SpatialSoftmax(1, 1)
    with torch.no_grad():
        softmax.maps.weight.fill_(100.0)
        softmax.maps.bias.zero_()
    return softmax


@pytest.mark.parametrize(("row", "column", "x", "y"), [(0, 0, -1, -1), (4, 8, 1, 0), (2, 4, 0, -0.5), (4, 4, 0, 0)])
def test_keypoint_is_where_the_peak_is(row: int, column: int, x: float, y: float) -> None:
    features = torch.zeros(1, 1, 9, 9)[:, :, :9, :9]
    features[0, 0, row, column] = 1.0
    torch.testing.assert_close(_peak_reader()(features), torch.tensor([[float(x), float(y)]]), atol=1e-5, rtol=0)


def test_flat_map_has_its_keypoint_in_the_middle() -> None:
    torch.testing.assert_close(_peak_reader()(torch.zeros(1, 1, 6, 10)), torch.zeros(1, 2), atol=1e-6, rtol=0)


CONFIG = EncoderConfig(widths=(8, 16, 16), keypoints=5, vit=VitConfig(patch=4, width=16, heads=2, features=12))


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_encoder_gives_its_feature_width_and_learns_everywhere(kind: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[kind](CONFIG, 40)
    images = torch.rand(3, 3, 40, 40) * 2 - 1
    features = encoder(images)
    assert features.shape == (3, encoder.feature_width)
    (features * torch.rand(features.shape)).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_features_are_the_same_alone_and_in_a_batch(kind: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[kind](CONFIG, 40).eval()
    images = torch.rand(4, 3, 40, 40)
    torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), rtol=1e-4, atol=1e-5)


def test_resnet18_has_the_published_number_of_weights() -> None:
    encoder = ResNet18Encoder(32)
    # 11,689,512 of He et al.'s ResNet18, less its classifier of 512 x 1000 + 1000.
    assert sum(weight.numel() for weight in encoder.convolutions.parameters()) == 11_689_512 - 513_000
    assert encoder.convolutions(torch.zeros(1, 3, 76, 76)).shape == (1, 512, 3, 3)


def test_transformer_tells_where_a_thing_is() -> None:
    """Without positions a transformer sees a bag of patches: moving the thing must change the features."""
    torch.manual_seed(0)
    encoder = VitEncoder(VitConfig(), 64).eval()
    images = torch.zeros(2, 3, 64, 64)
    images[0, :, 16:24, 16:24] = 1.0
    images[1, :, 32:40, 40:48] = 1.0
    here, there = encoder(images)
    assert (here - there).abs().max() > 0.05


def test_attention_is_softmax_of_scaled_products() -> None:
    """Against the formula of Vaswani et al. 2017, equation 1, head by head in float64."""
    torch.manual_seed(0)
    block = VitEncoder(VitConfig(width=16, heads=2, features=8), 32).blocks[0].double()
    tokens = torch.randn(1, 9, 16, dtype=torch.float64)
    queries, keys, values = block.queries_keys_values(block.attention_norm(tokens))[0].chunk(3, dim=-1)
    heads = []
    for head in (slice(0, 8), slice(8, 16)):
        weights = (queries[:, head] @ keys[:, head].T / 8**0.5).softmax(-1)
        heads.append(weights @ values[:, head])
    attended = tokens[0] + block.joined(torch.cat(heads, dim=-1))
    torch.testing.assert_close(block(tokens)[0], attended + block.perceptron(attended))


def test_convolutional_encoder_needs_no_size() -> None:
    encoder = ConvEncoder((8, 16), 4)
    assert encoder(torch.rand(1, 3, 24, 24)).shape == encoder(torch.rand(1, 3, 40, 40)).shape == (1, 8)
