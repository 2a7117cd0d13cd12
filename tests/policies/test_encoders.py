"""Image encoders: keypoints are positions."""

from __future__ import annotations

import pytest
import torch

from policies.encoders import ENCODERS, ConvEncoder, EncoderConfig, SpatialSoftmax


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


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_encoder_gives_its_feature_width_and_learns_everywhere(kind: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[kind](EncoderConfig(widths=(8, 16, 16), keypoints=5))
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    features = encoder(images)
    assert features.shape == (3, encoder.feature_width)
    features.square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name


def test_features_are_the_same_alone_and_in_a_batch() -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(EncoderConfig(widths=(8, 16), keypoints=4))
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), rtol=1e-4, atol=1e-5)
