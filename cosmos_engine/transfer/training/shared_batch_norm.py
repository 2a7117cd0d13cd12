"""Batch norm over the batch of all processes: each sees a share, and all have the statistics of the whole."""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor, nn

from cosmos_engine.processes import Processes


class SharedBatchNorm(nn.BatchNorm2d):
    """Normalise by the statistics of the whole batch where each process sees a share; keys as `nn.BatchNorm2d`."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise each channel, and track its statistics while training."""
        if not self.training:
            return super().forward(x_BCHW)
        count = torch.distributed.get_world_size()
        moments = torch.stack([x_BCHW.mean((0, 2, 3)), x_BCHW.square().mean((0, 2, 3))])
        mean, square = torch.distributed.nn.functional.all_reduce(moments) / count
        variance = square - mean.square()
        with torch.no_grad():
            values = count * x_BCHW.numel() // x_BCHW.shape[1]
            tracked = ((self.running_mean, mean), (self.running_var, variance * (values / (values - 1))))
            for running, now in tracked:
                assert running is not None
                running.lerp_(now, self.momentum or 0.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return (x_BCHW - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]


def shared_batch_norm(normalise: nn.BatchNorm2d, processes: Processes) -> nn.BatchNorm2d:
    """Return a batch norm without own weights that sees all processes, with the statistics of `normalise`."""
    if processes.count == 1:
        return normalise
    assert normalise.momentum is not None
    shared = SharedBatchNorm(normalise.num_features, normalise.eps, normalise.momentum, affine=False)
    shared.load_state_dict(normalise.state_dict())
    return shared.to(processes.device)
