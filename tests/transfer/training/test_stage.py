import json

import pytest
import torch
from torch import nn

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.training.stage import Stage, StageConfig

CONFIG = StageConfig(updates=12, warmup=2, rate=0.05, save_every=4, ema=0.5)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def loss_of(network: nn.Module):
    def loss(update: int) -> torch.Tensor:
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(update))
        return (network(x) - x.sum(1, keepdim=True)).square().mean()

    return loss


def test_training_lowers_the_loss_and_leaves_the_average(tmp_path):
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    stage = Stage("s", network, StageConfig(updates=150, warmup=2, rate=0.05, ema=0.9), tmp_path)
    stage.run(loss_of(network))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 150
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    for ours, average in zip(network.state_dict().values(), stage.average.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, average)


@pytest.mark.parametrize("stop_at", [0, 3, 4, 9])
def test_a_stopped_stage_goes_on_and_ends_in_the_same_weights(tmp_path, stop_at):
    whole = module()
    Stage("s", whole, CONFIG, tmp_path / "whole").run(loss_of(whole))

    stopped = module()
    loss = loss_of(stopped)

    def interrupted(update: int) -> torch.Tensor:
        if update == stop_at:
            raise KeyboardInterrupt
        return loss(update)

    with pytest.raises(KeyboardInterrupt):
        Stage("s", stopped, CONFIG, tmp_path / "stopped").run(interrupted)
    resumed = module()
    stage = Stage("s", resumed, CONFIG, tmp_path / "stopped")
    assert stage.done == stop_at // 4 * 4
    stage.run(loss_of(resumed))
    for ours, theirs in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    network = module()
    loss = loss_of(network)
    stage = Stage("s", network, CONFIG, tmp_path)
    with pytest.raises(InputError, match=r"loss is nan at update 6.*update 4"):
        stage.run(lambda update: loss(update) * (float("nan") if update == 6 else 1.0))
    assert Stage("s", module(), CONFIG, tmp_path).done == 4


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path):
    network = module()
    loss = loss_of(network)
    stage = Stage("s", network, CONFIG, tmp_path)
    with pytest.raises(InputError, match=r"s: the gradient is (nan|inf) at update 0; nothing was kept"):
        stage.run(
            lambda update: loss(update) + (network[2].weight.abs() - network[2].weight.detach().abs()).sum().sqrt()
        )
    assert all(bool(value.isfinite().all()) for value in network.parameters())


def test_the_log_tells_every_update_once_after_a_resume(tmp_path):
    def stopped(network: nn.Module):
        def loss(update: int) -> torch.Tensor:
            if update == 6:
                raise KeyboardInterrupt
            return loss_of(network)(update)

        return loss

    network = module()
    with pytest.raises(KeyboardInterrupt):
        Stage("s", network, CONFIG, tmp_path).run(stopped(network))
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"stage": "s", "upd')  # cut off by a kill
    network = module()
    Stage("s", network, CONFIG, tmp_path).run(loss_of(network))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(12))


@pytest.mark.parametrize("values", [{"updates": -1}, {"batch": 0}, {"ema": 1.5}, {"rate": 0.0}])
def test_numbers_that_train_nothing_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        StageConfig(**values)


def test_a_checkpoint_of_another_module_or_a_cut_one_is_refused(tmp_path):
    network = module()
    Stage("s", network, CONFIG, tmp_path).run(loss_of(network))
    with pytest.raises(InputError, match=r"s\.safetensors"):
        Stage("s", nn.Linear(3, 1), CONFIG, tmp_path)
    file = tmp_path / "s.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"s\.safetensors"):
        Stage("s", module(), CONFIG, tmp_path)
