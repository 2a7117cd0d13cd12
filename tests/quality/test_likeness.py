import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.quality import diversity, psnr_db

from .conftest import COLORS, painted, scene


@given(st.integers(1, 100))
def test_a_constant_difference_has_its_analytic_psnr(levels):
    truth = np.full((2, 4, 4, 3), 100, np.uint8)
    assert psnr_db(truth + np.uint8(levels), truth) == pytest.approx(20 * np.log10(255 / levels))


def test_equal_clips_and_empty_regions():
    clip = np.zeros((1, 4, 4, 3), np.uint8)
    assert psnr_db(clip, clip) == float("inf")
    assert psnr_db(clip, clip, np.zeros((1, 4, 4), bool)) is None


def test_equal_variants_have_no_diversity_and_one_variant_has_none(passes):
    assert diversity([passes.rgb, passes.rgb], passes.instance) == 0
    assert diversity([passes.rgb], passes.instance) is None


def test_diversity_is_the_distance_of_colours_averaged_over_instances(passes):
    # Black to white of one in four instances is 100 CIELAB units of lightness: a mean of 25.
    black, white = (painted(passes.instance, COLORS | {6: value}) for value in ((0, 0, 0), (255, 255, 255)))
    assert diversity([black, white], passes.instance) == pytest.approx(25, abs=0.1)


def test_a_pattern_counts_though_the_mean_colour_stays(passes):
    rng = np.random.default_rng(0)
    grey = np.full(passes.rgb.shape, 128, np.uint8)
    rough = grey + rng.integers(-40, 40, (*passes.instance.shape, 1)).astype(np.int8).astype(np.uint8)
    assert diversity([grey, rough], passes.instance) > 5


def test_every_pair_counts_the_same():
    passes = scene(frames=1)
    variants = [painted(passes.instance, dict.fromkeys(COLORS, (value,) * 3)) for value in (0, 0, 255)]
    assert diversity(variants, passes.instance) == pytest.approx(100 * 2 / 3, abs=0.1)
