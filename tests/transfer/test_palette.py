import dataclasses

import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.palette import Palette

TINY = SIZES["tiny"]


def test_a_group_listens_to_its_token_and_the_light_alone():
    torch.manual_seed(0)
    palette = Palette(TINY)
    text = torch.randn(1, 12, TINY.text_width)
    said = palette(text).split(list(TINY.palette_channels), dim=1)
    table = palette(text.index_fill(1, torch.tensor([0]), 0.0)).split(list(TINY.palette_channels), dim=1)
    light = palette(text.index_fill(1, torch.tensor([6]), 0.0)).split(list(TINY.palette_channels), dim=1)
    assert not torch.equal(said[0], table[0])
    for group in range(1, 9):
        torch.testing.assert_close(said[group], table[group])
    assert all(not torch.equal(before, after) for before, after in zip(said, light, strict=True))


def test_the_network_adds_the_palette_to_every_cell():
    torch.manual_seed(0)
    network = TransferNetwork(TINY).eval()
    latent = torch.randn(1, TINY.latent_channels, 1, 4, 4)
    text = torch.randn(1, 12, TINY.text_width)
    arguments = {"condition_mask_B1THW": torch.zeros(1, 1, 1, 4, 4), "controls": {}, "weights": {}}
    with torch.no_grad():
        whole = network(latent, torch.ones(1), text, **arguments)
        palette, network.palette = network.palette, None
        transformer = network(latent, torch.ones(1), text, **arguments)
    torch.testing.assert_close(whole, transformer + palette(text)[:, :, None, None, None])


@pytest.mark.parametrize("channels", [(10,) * 9, (10,) * 8, ()])
def test_groups_that_are_not_the_latent_are_refused(channels):
    with pytest.raises(InputError, match="palette token for each group of the 96 latent channels"):
        dataclasses.replace(TINY, palette_channels=channels)


def test_folded_guidance_is_guidance():
    torch.manual_seed(0)
    palette = Palette(TINY)
    text, empty = torch.randn(2, 12, TINY.text_width), torch.randn(1, 12, TINY.text_width)
    with torch.no_grad():
        said, unsaid = palette(text), palette(empty)
        palette.fold_guidance(0.3, empty)
        torch.testing.assert_close(palette(text), said + 0.3 * (said - unsaid), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(palette(empty), unsaid, atol=1e-5, rtol=1e-5)
