"""Advantages: hand-computed cases, and nothing leaks from one episode into another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from policies.dppo.advantages import RewardScale, generalized_advantages


def _advantages(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    ended: ArrayLike,
    usable: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    def column(array: ArrayLike, dtype: type) -> np.ndarray:
        return np.array(array, dtype)[:, None]

    advantages, returns = generalized_advantages(
        column(rewards, np.float64),
        column(values, np.float32),
        column(next_values, np.float32),
        column(terminated, bool),
        column(ended, bool),
        column([True] * len(np.array(rewards)) if usable is None else usable, bool),
        discount=0.5,
        gae_lambda=0.5,
    )
    return advantages[:, 0], returns[:, 0]


def test_terminated_truncated_and_unfinished_episodes_by_hand() -> None:
    """Discount and lambda are 1/2, their product 1/4.

    Chunks 0 and 1 end in success: nothing is worth anything after it, though the critic says 8. Chunks 2 and 3 are
    truncated, worth 6 at their end, and never see the next episode's 100. Chunk 4 goes on, worth 2.
    """
    advantages, returns = _advantages(
        rewards=[0, 1, 0, 0, 3],
        values=[2, 4, 2, 4, 100],
        next_values=[4, 8, 4, 6, 2],
        terminated=[0, 1, 0, 0, 0],
        ended=[0, 1, 0, 1, 0],
    )
    last = 1 - 4  # r - V
    first = 0 + 0.5 * 4 - 2 + 0.25 * last
    truncated = 0 + 0.5 * 6 - 4
    before = 0 + 0.5 * 4 - 2 + 0.25 * truncated
    unfinished = 3 + 0.5 * 2 - 100
    np.testing.assert_allclose(advantages, [first, last, before, truncated, unfinished])
    np.testing.assert_allclose(returns, advantages + [2, 4, 2, 4, 100])


def test_a_crash_teaches_the_chunks_before_it_nothing() -> None:
    calm, _ = _advantages([0, 0, 1], [2, 4, 1], [4, 9, 9], [0, 0, 1], [0, 1, 1], usable=[1, 0, 1])
    wild, _ = _advantages([0, -500, 1], [2, 4, 1], [4, 900, 9], [0, 0, 1], [0, 1, 1], usable=[1, 0, 1])
    np.testing.assert_array_equal(calm, wild)
    assert calm[0] == 0.5 * 4 - 2


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 9))
def test_what_comes_after_an_end_changes_nothing_before_it(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [rng.normal(size=10) for _ in range(3)]
    terminated, ended = rng.random(10) < 0.2, np.zeros(10, bool)
    ended |= terminated
    ended[cut - 1] = True
    whole, _ = _advantages(*columns, terminated, ended)
    part, _ = _advantages(*(array[:cut] for array in columns), terminated[:cut], ended[:cut])
    np.testing.assert_array_equal(whole[:cut], part)


def test_lambda_one_gives_the_discounted_sum_of_rewards() -> None:
    rewards, values = np.array([[1.0], [2.0], [4.0]]), np.array([[5.0], [6.0], [7.0]], np.float32)
    ended = np.array([[False], [False], [True]])
    _, returns = generalized_advantages(
        rewards, values, np.roll(values, -1, 0), ended, ended, ~np.zeros_like(ended), discount=0.9, gae_lambda=1.0
    )
    np.testing.assert_allclose(returns[:, 0], [1 + 0.9 * 2 + 0.81 * 4, 2 + 0.9 * 4, 4], rtol=1e-6)


def test_reward_scale_is_the_deviation_of_all_discounted_returns() -> None:
    rng = np.random.default_rng(0)
    scale = RewardScale(discount=0.9)
    everything: list[float] = []
    for _ in range(3):
        rewards, ended = rng.random((20, 4)), rng.random((20, 4)) < 0.3
        for environment in range(4):
            running = 0.0
            for row in range(20):
                running = rewards[row, environment] + 0.9 * running
                everything.append(running)
                if ended[row, environment]:
                    running = 0.0
        scale.update(rewards, ended)
    assert scale.variance == pytest.approx(np.var(everything), rel=1e-4)
    np.testing.assert_allclose(scale.scaled(np.array([[2.0]])), 2.0 / np.std(everything), rtol=1e-4)


def test_rare_rewards_are_bounded() -> None:
    scale = RewardScale(discount=0.9)
    rewards = np.zeros((1000, 10))
    rewards[3, 3] = 1.0
    scale.update(rewards, rewards > 0)
    assert scale.scaled(rewards).max() == 10.0
