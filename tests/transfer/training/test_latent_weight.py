"""What a cell says of a part counts by the part's share of it, and every part that is seen counts alike."""

import torch

from cosmos_engine.processes import Processes
from cosmos_engine.transfer.guided_codec import CODE_CHANNELS, LATENT_CHANNELS, LOCAL_CHANNELS
from cosmos_engine.transfer.parts import PARTS
from cosmos_engine.transfer.training.batch import Batch
from cosmos_engine.transfer.training.network_stage import latent_error, latent_weight

TABLE, OBJECT = PARTS.index("table"), PARTS.index("object")


def batch() -> Batch:
    """Two latent frames of 2x2 cells: all table, but for a cell of frame 0 that is half object."""
    parts = torch.full((1, 5, 16, 16), TABLE, dtype=torch.uint8)
    parts[:, 0, :8, :4] = OBJECT
    nothing = torch.zeros(1, 3, 5, 16, 16)
    return Batch(nothing, {}, parts == OBJECT, parts, nothing, [""], [0])


def of_part(weight: torch.Tensor, part: int) -> torch.Tensor:
    return weight[0, part * CODE_CHANNELS]


def test_weights_by_hand():
    weight = latent_weight(batch(), torch.zeros(1, 1, 2, 2, 2))
    assert weight.shape == (1, LATENT_CHANNELS, 2, 2, 2)
    cells = 8
    torch.testing.assert_close(of_part(weight, OBJECT).sum(), torch.tensor(0.25 * cells))  # seen in less than a cell
    torch.testing.assert_close(of_part(weight, TABLE).sum(), torch.tensor(float(cells)))
    torch.testing.assert_close(of_part(weight, TABLE)[0, 0, 0], torch.tensor(0.25 * cells / 7.25))
    assert not of_part(weight, PARTS.index("wall")).any()
    assert (weight[:, -LOCAL_CHANNELS:] == 1).all()


def test_given_frames_do_not_count():
    condition = torch.zeros(1, 1, 2, 2, 2)
    condition[:, :, 0] = 1.0
    weight = latent_weight(batch(), condition)
    assert not weight[:, :, 0].any()
    assert not of_part(weight, OBJECT).any()
    torch.testing.assert_close(of_part(weight, TABLE).sum(), torch.tensor(8.0))


def test_an_error_where_a_part_is_not_seen_costs_nothing():
    condition, x0 = torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, LATENT_CHANNELS, 2, 2, 2)
    unseen, seen = x0.clone(), x0.clone()
    unseen[:, PARTS.index("wall") * CODE_CHANNELS] = 5.0
    seen[:, TABLE * CODE_CHANNELS] = 5.0
    assert latent_error(unseen, x0, batch(), condition, Processes()) == 0
    assert latent_error(seen, x0, batch(), condition, Processes()) > 0
