"""Windows: right frames, right padding, no leak between the splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.data.dataset import Dataset
from cosmos_engine.errors import InputError
from policies.windows import Frames, choose_observations, draw_windows, load_frames, split_by_source

OBSERVATIONS = ["agentview_image", "robot0_eef_pos"]


def _frames(lengths: list[int]) -> Frames:
    """Return frames whose every value is the frame's number."""
    count = sum(lengths)
    numbers = np.arange(count, dtype=np.float32)
    last = np.cumsum(lengths) - 1
    return Frames(
        images={"agentview_image": np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (count, 2, 2, 3))},
        low_dim={"robot0_eef_pos": numbers[:, None]},
        actions=numbers[:, None] + 0.5,
        first=np.repeat(last - np.array(lengths) + 1, lengths),
        last=np.repeat(last, lengths),
        source_demo=np.repeat(np.arange(len(lengths)), lengths),
        is_variant=np.zeros(count, bool),
    )


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    observation_frames=st.integers(1, 3),
    horizon=st.integers(3, 16),
    data=st.data(),
)
def test_windows_repeat_the_edges_of_their_own_episode(
    lengths: list[int], observation_frames: int, horizon: int, data: st.DataObject
) -> None:
    frames = _frames(lengths)
    present = data.draw(st.integers(0, len(frames) - 1))
    batch = frames.gather(np.array([present]), observation_frames, horizon)
    episode = int(np.searchsorted(np.cumsum(lengths), present, side="right"))
    first, last = sum(lengths[:episode]), sum(lengths[: episode + 1]) - 1
    for index in range(horizon):
        wanted = present - observation_frames + 1 + index
        held = min(max(wanted, first), last)
        assert batch.actions[0, index, 0] == held + 0.5
        assert batch.inside[0, index] == (first <= wanted <= last)
        if index < observation_frames:
            assert batch.low_dim["robot0_eef_pos"][0, index, 0] == held
            assert (batch.images["agentview_image"][0, index] == held).all()


def test_rejected_episodes_are_not_loaded(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=2, variants=1, rejected=((0, 1),)))
    frames = load_frames(dataset, OBSERVATIONS, 16)
    kept = [dataset.episode(episode) for episode in (0, 2, 3)]
    np.testing.assert_array_equal(frames.actions, np.concatenate([episode["action"] for episode in kept]))
    images = np.concatenate([episode["agentview_image"] for episode in kept])
    np.testing.assert_array_equal(frames.images["agentview_image"], images)
    assert frames.is_variant.sum() == len(kept[2]["action"])


def test_first_accepted_variants_of_each_demo_are_taken(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=2, variants=2, rejected=((0, 1),)))

    def taken(variants_per_demo: int) -> list[tuple[int, int]]:
        frames = load_frames(dataset, OBSERVATIONS, 16, variants_per_demo)
        starts = [frames.images["agentview_image"][row] for row in np.unique(frames.first)]
        episodes = [
            episode
            for episode in range(dataset.episode_count)
            if any(np.array_equal(dataset.episode(episode)["agentview_image"][0], start) for start in starts)
        ]
        return [(int(dataset.source_demo[episode]), int(dataset.variant[episode])) for episode in episodes]

    assert sorted(taken(0)) == [(0, 0), (1, 0)]
    assert sorted(taken(1)) == [(0, 0), (0, 2), (1, 0), (1, 1)]
    assert len(taken(2)) == 5
    with pytest.raises(InputError, match="variants_per_demo: expected 0 or more, got -1"):
        load_frames(dataset, OBSERVATIONS, 16, -1)


def test_dataset_without_accepted_episodes_is_refused(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=1, rejected=((0, 0),)))
    with pytest.raises(InputError, match="no accepted episode among 1"):
        load_frames(dataset, OBSERVATIONS, 16)


def test_unknown_observations_are_named_with_the_nearest(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=1))
    with pytest.raises(InputError, match="no observation 'robot0_eef_po'; did you mean 'robot0_eef_pos'"):
        choose_observations(dataset, None, ("robot0_eef_po",))
    with pytest.raises(InputError, match="no observation 'agentviev_image'; did you mean 'agentview_image'"):
        choose_observations(dataset, ("agentviev",), ())


def test_all_cameras_and_proprioception_are_the_default(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=1))
    assert choose_observations(dataset, None, None) == ["agentview_image", "robot0_eef_pos"]
    assert choose_observations(dataset, None, ("goal",)) == ["agentview_image", "goal"]


def test_no_camera_means_states_only(dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=2))
    observations = choose_observations(dataset, (), ("robot0_eef_pos", "goal"))
    assert observations == ["robot0_eef_pos", "goal"]
    frames = load_frames(dataset, observations, 16)
    assert not frames.images
    with pytest.raises(InputError, match="cameras, low_dim: expected at least one observation"):
        choose_observations(dataset, (), ())


@given(
    sources=st.lists(st.integers(0, 12), min_size=2, max_size=60), fraction=st.floats(0.01, 0.6), seed=st.integers(0)
)
def test_no_source_demo_is_on_both_sides(sources: list[int], fraction: float, seed: int) -> None:
    source_demo = np.array(sources)
    if len(set(sources)) < 2:
        return
    if max(1, round(fraction * len(set(sources)))) == len(set(sources)):
        return
    training, validation = split_by_source(source_demo, fraction, np.random.default_rng(seed), "d.zarr")
    assert not set(source_demo[training]) & set(source_demo[validation])
    assert sorted([*training, *validation]) == list(range(len(sources)))
    assert len(training)
    assert len(validation)


def test_one_source_demo_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"d.zarr: expected at least 2 source demos, .* got 1; record more"):
        split_by_source(np.zeros(9, np.int64), 0.1, np.random.default_rng(0), "d.zarr")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_variant_share_is_kept_whatever_the_dataset_holds(share: float) -> None:
    is_variant = np.arange(600) >= 100
    drawn = draw_windows(is_variant, np.arange(600), 4000, share, np.random.default_rng(0))
    assert is_variant[drawn].mean() == pytest.approx(share, abs=0.03)


def test_natural_mixing_draws_all_frames_alike() -> None:
    is_variant = np.arange(600) >= 100
    drawn = draw_windows(is_variant, np.arange(600), 4000, None, np.random.default_rng(0))
    assert is_variant[drawn].mean() == pytest.approx(5 / 6, abs=0.03)


def test_share_of_variants_that_are_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="holds 5 original and 0 variant frames"):
        draw_windows(np.zeros(5, bool), np.arange(5), 3, 0.5, np.random.default_rng(0))
