"""Vectorised environments: what one environment does alone, many do side by side, in any number of processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import StepResult
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.vector import ChunkResult, VectorEnvironment

STATES = partial(TabletopEnvironment, "lift", cameras=(), render=False, horizon=10)
OBSERVATIONS = ("robot0_eef_pos", "object")
COUNT, CHUNK, FRAMES = 3, 4, 2


def _chunks(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (COUNT, CHUNK, 7)).astype(np.float32) for _ in range(count)]


@pytest.fixture(params=[0, 1, 2], scope="module")
def vector(request: pytest.FixtureRequest) -> Iterator[VectorEnvironment]:
    """Return three environments in no, one and two worker processes."""
    made = VectorEnvironment(STATES, COUNT, observations=OBSERVATIONS, observation_frames=FRAMES, workers=request.param)
    yield made
    made.close()


def test_each_environment_acts_as_it_would_alone(vector: VectorEnvironment) -> None:
    slots, chunks = range(COUNT), _chunks(2)
    firsts = vector.reset(slots, [10, 11, 12])
    results = [vector.step(slots, chunk, [None] * COUNT) for chunk in chunks]
    alone = STATES()
    for slot in slots:
        frames = [alone.reset(10 + slot)]
        for chunk in chunks:
            frames += [alone.step(action).observation for action in chunk[slot]]
        for name in OBSERVATIONS:
            np.testing.assert_array_equal(firsts[slot][name], np.stack([frames[0][name]] * FRAMES))
            for number, result in enumerate(results):
                window = result[slot].window
                assert window is not None
                last = CHUNK * (number + 1)
                np.testing.assert_array_equal(window[name], np.stack([frames[last - 1][name], frames[last][name]]))
    alone.close()


def test_truncated_episode_gives_its_end_and_the_next_start(vector: VectorEnvironment) -> None:
    slots, still = range(COUNT), np.zeros((COUNT, CHUNK, 7), np.float32)
    vector.reset(slots, [20, 21, 22])
    for _ in range(2):
        assert not any(result.ended for result in vector.step(slots, still, [None] * COUNT))
    results = vector.step(slots, still, [30, 31, None])
    alone = STATES()
    for slot, result in enumerate(results):
        assert (result.truncated, result.terminated, result.steps) == (True, False, 2)
        alone.reset(20 + slot)
        ends = [alone.step(still[0, 0]).observation for _ in range(10)][-FRAMES:]
        assert result.final_window is not None
        np.testing.assert_array_equal(result.final_window["object"], np.stack([end["object"] for end in ends]))
        if slot == 2:
            assert result.window is None
        else:
            assert result.window is not None
            start = alone.reset(30 + slot)["object"]
            np.testing.assert_array_equal(result.window["object"], np.stack([start] * FRAMES))
    alone.close()


def test_some_environments_may_act_while_others_wait(vector: VectorEnvironment) -> None:
    chunk = _chunks(1)[0]
    vector.reset(range(COUNT), [10, 11, 12])
    (together,) = vector.step([1], chunk[1:2], [None])
    vector.reset(range(COUNT), [10, 11, 12])
    among = vector.step([2, 1], chunk[[2, 1]], [None, None])[1]
    assert together.window is not None
    assert among.window is not None
    np.testing.assert_array_equal(together.window["object"], among.window["object"])


def test_actions_beyond_the_range_act_like_the_range(vector: VectorEnvironment) -> None:
    windows = []
    for scale in (1.0, 50.0):
        vector.reset([0], [10])
        (result,) = vector.step([0], np.full((1, CHUNK, 7), scale, np.float32), [None])
        assert result.window is not None
        windows.append(result.window["object"])
    np.testing.assert_array_equal(*windows)


def test_a_users_mistake_comes_through_as_it_is() -> None:
    for workers in (0, 1):
        with pytest.raises(InputError, match="did you mean 'lift'"):
            VectorEnvironment(partial(TabletopEnvironment, "lit"), 2, observations=(), workers=workers)
    with pytest.raises(ValueError, match="at least 1 environment and 1 frame"):
        VectorEnvironment(STATES, 0, observations=())


def test_an_action_of_another_length_is_the_users_mistake() -> None:
    with VectorEnvironment(STATES, 1, observations=OBSERVATIONS, workers=1) as environments:
        environments.reset([0], [1])
        with pytest.raises(InputError, match="action: expected 7 numbers"):
            environments.step([0], np.zeros((1, 1, 6), np.float32), [None])


class _Fragile(TabletopEnvironment):
    """Break down at the second control step of the episodes of seed 5."""

    def reset(self, seed: int) -> Any:
        self._seed, self._steps = seed, 0
        return super().reset(seed)

    def step(self, action: np.ndarray) -> StepResult:
        self._steps += 1
        if self._seed == 5 and self._steps == 2:
            raise RuntimeError("the solver\ndiverged")
        return super().step(action)


def test_a_crash_ends_its_episode_and_replaces_its_environment() -> None:
    made: list[_Fragile] = []

    def make() -> _Fragile:
        made.append(_Fragile("lift", cameras=(), render=False))
        return made[-1]

    still = np.zeros((2, CHUNK, 7), np.float32)
    with VectorEnvironment(make, 2, observations=OBSERVATIONS, workers=0) as environments:
        first = environments.reset([0, 1], [5, 6])
        crashed, fine = environments.step([0, 1], still, [6, 6])
        assert crashed.error == "RuntimeError: the solver diverged"
        assert crashed.ended
        assert not crashed.terminated
        assert not crashed.truncated
        assert crashed.window is not None
        np.testing.assert_array_equal(crashed.window["object"], first[1]["object"])
        assert isinstance(fine, ChunkResult)
        assert fine.error is None
    assert len(made) == 3


def test_a_dead_worker_is_said_with_its_exit_code() -> None:
    with VectorEnvironment(STATES, 1, observations=OBSERVATIONS, workers=1) as environments:
        (endpoint,) = environments._groups
        os.kill(endpoint._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        endpoint._process.join()  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match=r"worker process of environments died \(exit code -9\)"):
            environments.reset([0], [1])


def test_close_ends_the_workers_and_may_be_called_twice() -> None:
    environments = VectorEnvironment(STATES, 2, observations=OBSERVATIONS, workers=2)
    processes = [endpoint._process for endpoint in environments._groups]  # type: ignore[attr-defined]
    environments.close()
    environments.close()
    assert [process.exitcode for process in processes] == [0, 0]


def _counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    from cosmos_engine.sim.renderer import Renderer

    rgb, calls = Renderer.rgb, []

    def counting(renderer: Renderer, *arguments: Any) -> np.ndarray:
        calls.append(arguments)
        return rgb(renderer, *arguments)

    monkeypatch.setattr(Renderer, "rgb", counting)
    return lambda: len(calls)


def test_only_observed_images_are_rendered_and_only_between_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = _counted(monkeypatch)
    make = partial(TabletopEnvironment, "lift", image_size=32)
    chunk = _chunks(1)[0][:1]
    with VectorEnvironment(
        make, 1, observations=("agentview_image",), observation_frames=FRAMES, workers=0
    ) as environments:
        environments.reset([0], [3])
        assert rendered() == 1  # the first frame stands for the one before it
        (result,) = environments.step([0], chunk, [None])
        assert rendered() == 1 + FRAMES
    alone = make()
    alone.reset(3)
    frames = [np.array(alone.step(action).observation["agentview_image"]) for action in chunk[0]]
    alone.close()
    assert result.window is not None
    np.testing.assert_array_equal(result.window["agentview_image"], np.stack(frames[-FRAMES:]))
