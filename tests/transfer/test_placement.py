import dataclasses

import pytest
import torch
from torch import nn

from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.placement import OFFLOADS, BlockStream, Placement, network_blocks

CONFIG = TransferConfig(
    width=48,
    blocks=3,
    heads=2,
    adaln_rank=4,
    control_channels=20,
    text_width=16,
    image_width=12,
    inject_after=(0, 1),
    modalities=("seg", "edge"),
)


def random_network(config: TransferConfig = CONFIG) -> TransferNetwork:
    torch.manual_seed(0)
    network = TransferNetwork(config).double().eval().requires_grad_(False)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def evaluate(network: TransferNetwork) -> torch.Tensor:
    torch.manual_seed(1)
    mask = torch.zeros(1, 1, 2, 4, 4, dtype=torch.float64)
    return network(
        torch.randn(2, 16, 2, 4, 4, dtype=torch.float64),
        torch.tensor([0.9, 0.4], dtype=torch.float64),
        torch.randn(2, 5, 16, dtype=torch.float64),
        condition_mask_B1THW=mask,
        controls={m: torch.randn(2, 16, 2, 4, 4, dtype=torch.float64) for m in ("edge", "seg")},
        weights={"edge": 0.5, "seg": 0.25},
    )


@pytest.mark.parametrize("offload", OFFLOADS)
def test_the_result_does_not_depend_on_where_weights_wait(offload):
    expected = evaluate(random_network())
    network, codec = random_network(), nn.Linear(3, 3)
    placement = Placement(network, codec, torch.device("cpu"))
    placement.arrange(offload)
    for _ in range(2):  # the second time round, blocks that were fetched ahead are used
        with placement.network():
            torch.testing.assert_close(evaluate(network), expected, rtol=0, atol=0)
    placement.close()
    torch.testing.assert_close(evaluate(network), expected, rtol=0, atol=0)


def test_streamed_blocks_leave_with_their_own_weights_and_come_in_the_order_they_run():
    network = random_network()
    order: list[int] = []
    blocks = network_blocks(network)
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda _module, _args, i=index: order.append(i))
    before = [parameter.data_ptr() for parameter in network.parameters()]
    stream = BlockStream(blocks, torch.device("cpu"))
    evaluate(network)
    assert order == list(range(len(blocks)))
    assert [parameter.data_ptr() for parameter in network.parameters()] == before
    stream.close()


def test_arranging_twice_streams_once():
    network = random_network()
    placement = Placement(network, nn.Linear(3, 3), torch.device("cpu"))
    placement.arrange("blocks")
    hooks = len(network.base.blocks[0]._forward_pre_hooks)
    placement.arrange("blocks")
    placement.arrange("turns")
    placement.arrange("blocks")
    assert len(network.base.blocks[0]._forward_pre_hooks) == hooks == 1


def test_a_folded_image_context_gives_what_zeros_give_and_frees_its_projections():
    network, folded = random_network(), random_network()
    folded.fold_image_context()
    torch.testing.assert_close(evaluate(folded), evaluate(network), rtol=1e-12, atol=1e-12)
    assert not [name for name in folded.state_dict() if "img" in name]
    with pytest.raises(ValueError, match="without an image path"):
        folded.base.embed_image(torch.zeros(1, 7, 12, dtype=torch.float64))


def test_an_image_path_folded_as_absent_adds_nothing():
    network = random_network()
    without = random_network(dataclasses.replace(CONFIG, image_width=None))
    without.load_state_dict({name: network.state_dict()[name] for name in without.state_dict()})
    network.fold_image_context(absent=True)
    torch.testing.assert_close(evaluate(network), evaluate(without), rtol=0, atol=0)


def test_folding_a_network_without_an_image_path_changes_nothing():
    network = random_network(dataclasses.replace(CONFIG, image_width=None))
    before = evaluate(network)
    network.fold_image_context()
    torch.testing.assert_close(evaluate(network), before, rtol=0, atol=0)


def test_a_long_clip_through_the_mlp_in_parts_equals_the_whole(monkeypatch):
    network = random_network()
    with torch.no_grad():
        whole = evaluate(network)
        monkeypatch.setattr("cosmos_engine.transfer.block.MLP_TOKENS", 3)
        torch.testing.assert_close(evaluate(network), whole, rtol=1e-12, atol=1e-12)
