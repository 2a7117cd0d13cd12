"""What only a GPU can show; `pytest -m gpu`."""

import pytest
import torch
from torch import nn

from cosmos_engine.transfer.flow import gaussian_noise
from cosmos_engine.transfer.placement import Placement
from cosmos_engine.transfer.two_b import compile_blocks

from .test_placement import evaluate, random_network

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = torch.device("cuda")


def evaluated_on_gpu(network) -> torch.Tensor:
    torch.manual_seed(1)
    mask = torch.zeros(1, 1, 2, 4, 4, dtype=torch.float64)
    latent = torch.randn(2, 16, 2, 4, 4, dtype=torch.float64)
    text = torch.randn(2, 5, 16, dtype=torch.float64)
    controls = {m: torch.randn(2, 16, 2, 4, 4, dtype=torch.float64) for m in ("edge", "seg")}
    with torch.no_grad():
        return network(
            latent.to(GPU),
            torch.tensor([0.9, 0.4], dtype=torch.float64, device=GPU),
            text.to(GPU),
            condition_mask_B1THW=mask.to(GPU),
            controls={m: c.to(GPU) for m, c in controls.items()},
            weights={"edge": 0.5, "seg": 0.25},
        ).cpu()


@pytest.mark.parametrize("offload", ["resident", "turns", "blocks"])
def test_a_gpu_computes_what_the_cpu_does_wherever_weights_wait(offload):
    expected = evaluate(random_network())
    network = random_network()
    placement = Placement(network, nn.Linear(3, 3), GPU)
    placement.arrange(offload)
    for _ in range(3):
        with placement.network():
            torch.testing.assert_close(evaluated_on_gpu(network), expected, rtol=1e-9, atol=1e-9)
    placement.close()
    torch.testing.assert_close(evaluate(network), expected, rtol=0, atol=0)


def test_streamed_blocks_can_be_compiled():
    expected = evaluate(random_network())
    network = random_network()
    compile_blocks(network)
    placement = Placement(network, nn.Linear(3, 3), GPU)
    placement.arrange("blocks")
    with placement.network():
        torch.testing.assert_close(evaluated_on_gpu(network), expected, rtol=1e-9, atol=1e-9)


def test_noise_is_the_same_on_every_device():
    on_cpu = gaussian_noise([1, 2], (4, 2, 4, 4))
    torch.testing.assert_close(gaussian_noise([1, 2], (4, 2, 4, 4), GPU).cpu(), on_cpu, rtol=0, atol=0)
