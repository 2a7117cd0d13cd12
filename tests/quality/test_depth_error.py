import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.quality import si_rmse


@given(st.floats(-3, 3), st.integers(0, 1000))
def test_true_depth_has_no_error_at_any_scale(shift, seed):
    depth = np.random.default_rng(seed).uniform(0.2, 5, (2, 6, 7)).astype(np.float32)
    assert si_rmse(np.log(depth) + np.float32(shift), depth) == pytest.approx(0, abs=1e-5)


def test_half_the_frame_at_twice_the_depth_errs_by_half_a_log_2():
    depth = np.ones((1, 4, 8), np.float32)
    read = np.zeros((1, 4, 8), np.float32)
    read[..., :4] = np.log(2)
    assert si_rmse(read, depth) == pytest.approx(np.log(2) / 2)


def test_where_nothing_was_hit_nothing_counts():
    depth = np.ones((2, 4, 4), np.float32)
    depth[0, 0], depth[1] = np.inf, np.inf
    read = np.zeros((2, 4, 4), np.float32)
    read[0, 0] = 9
    error = si_rmse(read, depth)
    assert error[0] == 0
    assert np.isnan(error[1])


def test_a_region_is_measured_alone():
    depth = np.ones((1, 4, 8), np.float32)
    read = np.zeros((1, 4, 8), np.float32)
    read[..., :4] = 1
    region = np.zeros((1, 4, 8), bool)
    region[..., :4] = True
    assert si_rmse(read, depth, region) == 0
