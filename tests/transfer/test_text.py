import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.text import HashedTextEncoder, ngrams


@pytest.fixture(scope="module")
def encoder() -> HashedTextEncoder:
    torch.manual_seed(0)
    return HashedTextEncoder(width=16, tokens=5, words=12, buckets=128).eval()


def test_ngrams_of_a_short_word_are_the_word_and_its_pieces():
    assert ngrams("red") == ["<red>", "<re", "red", "ed>", "<red", "red>"]


def test_a_prompt_does_not_depend_on_its_neighbours(encoder):
    with torch.no_grad():
        alone = encoder.encode(["brown wood table"])
        together = encoder.encode(["", "grey wall", "brown wood table"])
    torch.testing.assert_close(alone[0], together[2])


def test_case_and_spacing_do_not_matter_but_order_does(encoder):
    with torch.no_grad():
        a, b, c = encoder.encode(["Brown  wood", "brown wood", "wood brown"])
    torch.testing.assert_close(a, b)
    assert (a - c).abs().max() > 1e-3


def test_the_longest_prompt_fits_and_one_word_more_is_refused(encoder):
    assert encoder.encode(["a " * 12]).shape == (1, 5, 16)
    with pytest.raises(InputError, match="at most 12 words, got 13"):
        encoder.encode(["a " * 13])


def test_gradients_reach_every_parameter(encoder):
    encoder.encode(["red cube", ""]).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
