"""Watch a policy act: a video of each rollout, a window that shows them live, or both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cosmos_engine.data.atomic import make_folder, write_file
from cosmos_engine.errors import InputError
from cosmos_engine.report.video import encode_mp4
from policies.benchmark import Arena
from policies.intervals import wilson_95
from policies.live_window import LiveWindow
from policies.policy import Policy, check_environment
from policies.rollout import EnvironmentPool, Trial, run_trials

VIDEO_PIXELS = 256
"""Smaller frames are enlarged to at least this height: the video's colour has half the resolution."""


def watch(
    name: str,
    policy: Policy,
    arena: Arena,
    shift: str,
    seeds: Sequence[int],
    filmed: str,
    out: Path | None,
    *,
    window: bool,
) -> list[Trial]:
    """Let the policy act once per seed; print how each rollout ended, and all together.

    Args:
        name: of the policy, in messages.
        policy: acts in one environment.
        arena: brings the environment and its shifts.
        shift: the look of every rollout.
        seeds: of the resets; a rollout is the benchmark's trial of that seed.
        filmed: observation name of the images to show.
        out: folder of the videos, <task>_<shift>_<seed>_<outcome>.mp4; None writes none.
        window: show the frames as they happen, at the policy's rate.

    Raises:
        InputError: if nothing is to be watched, the policy does not fit, there is no display, or the folder cannot be
            written.
        KeyboardInterrupt: if the window was closed.
    """
    if not seeds or min(seeds) < 0:
        raise InputError(f"rollout: expected at least 1 episode and seeds of at least 0, got {seeds}")
    with ExitStack() as stack:
        screen = stack.enter_context(LiveWindow(f"{name}: {arena.task}", policy.spec.step_hz)) if window else None
        pool = stack.enter_context(EnvironmentPool(arena.make, 1))
        check_environment(name, policy.spec, pool.environments[0])
        if filmed not in pool.environments[0].observation_spec:
            raise InputError(f"camera: environment {arena.task!r} gives no {filmed!r}")
        if out is not None:
            make_folder(out)
        trials = []
        for trial in run_trials(
            policy,
            pool,
            seeds,
            prepare=lambda environment, seed: arena.prepare(environment, shift, seed),
            film_camera=filmed,
            film=lambda _outcome: out is not None,
            show=None if screen is None else lambda _seed, frame: screen.show(frame),
        ):
            line = f"seed {trial.seed}: {trial.outcome} after {trial.steps} control steps"
            if trial.error is not None:
                line += f" ({trial.error})"
            if out is not None and trial.frames:
                path = out / f"{arena.task}_{shift}_{trial.seed}_{trial.outcome}.mp4"
                frames = np.stack(trial.frames)
                write_file(path, encode_mp4(frames, policy.spec.step_hz, scale=-(-VIDEO_PIXELS // frames.shape[1])))
                line += f", {path}"
            print(line)
            trials.append(trial)
    finished = [trial for trial in trials if trial.outcome != "crash"]
    successes = sum(trial.outcome == "success" for trial in finished)
    interval = wilson_95(successes, len(finished))
    if interval is not None:
        print(f"{successes}/{len(finished)} succeeded [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}] %")
    return trials
