"""The engine's process: what it says is understood, and it ends when it is told to."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_engine.errors import InputError
from isaac_ext.engine import AugmentJob, EngineProcess


def interpreter(folder: Path, body: str) -> str:
    """Return an executable that stands for the environment's Python and runs `body` whatever it is asked."""
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
    script.chmod(0o755)
    return str(script)


def ended(process: EngineProcess, seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while process.poll().exit_code is None:
        assert time.monotonic() < until
        time.sleep(0.01)


SAYS = r"""
print('{"stage": "controls", "done": 1, "total": 2, "eta_s": null}')
print('not progress: a library said this')
print('{"picture": "/x.png", "camera": "front", "variant": 0}')
print('{"stage": "variants", "done": 5, "total": 20, "eta_s": 7.5}')
print('{"stage": "finished", "accepted": 4, "asked": 5}')
sys.stderr.write('loading\n\n')
"""


def test_lines_become_progress_results_and_log(tmp_path: Path) -> None:
    process = EngineProcess(interpreter(tmp_path, SAYS), ["view"])
    ended(process)
    status = process.status
    assert (status.stage, status.done, status.total, status.eta_s) == ("variants", 5, 20, 7.5)
    assert status.fraction == 1.0
    assert replace(status, exit_code=None).fraction == 0.25
    assert status.result == {"stage": "finished", "accepted": 4, "asked": 5}
    assert status.lines == [{"picture": "/x.png", "camera": "front", "variant": 0}]
    assert sorted(process.log) == ["loading", "not progress: a library said this"]
    assert (status.exit_code, status.error, status.cancelled) == (0, "", False)


def test_bars_do_not_fill_the_log(tmp_path: Path) -> None:
    process = EngineProcess(
        interpreter(tmp_path, "from tqdm import tqdm\nlist(tqdm(range(9)))\nprint('done')"), ["view"]
    )
    ended(process)
    assert process.log == ["done"]


def test_error_is_the_engines_own_line_where_it_has_one(tmp_path: Path) -> None:
    body = "print('cosmos-engine augment: no room', file=sys.stderr)\nprint('bye', file=sys.stderr)\nsys.exit(2)"
    process = EngineProcess(interpreter(tmp_path, body), ["augment"])
    ended(process)
    assert process.status.error == "cosmos-engine augment: no room"


def test_error_without_a_word_says_the_exit_code(tmp_path: Path) -> None:
    process = EngineProcess(interpreter(tmp_path, "sys.exit(7)"), ["augment"])
    ended(process)
    assert process.status.error == "the engine ended with exit code 7 and said nothing"


STUBBORN = """
import signal
signal.signal(signal.SIGINT, lambda *_: print('{"stage": "stopping", "done": 0, "total": 1}', flush=True))
print('{"stage": "deaf", "done": 0, "total": 1}', flush=True)
while True:
    time.sleep(0.05)
"""


def test_second_cancel_ends_what_does_not_listen(tmp_path: Path) -> None:
    process = EngineProcess(interpreter(tmp_path, STUBBORN), ["augment"])
    while process.poll().stage != "deaf":
        time.sleep(0.01)
    process.cancel()
    while process.poll().stage != "stopping":
        time.sleep(0.01)
    process.cancel()
    ended(process)
    assert process.status.cancelled
    process.close()


def test_job_becomes_the_words_of_the_command() -> None:
    job = AugmentJob("demos", "out.zarr", "transfer25-2b", "photoreal", "", 3, "/w", "off", ["seed=3"])
    assert job.words() == [
        *("augment", "demos", "--out", "out.zarr", "--generator", "transfer25-2b", "--variants", "3"),
        *("--progress", "json", "--recipe", "photoreal", "--weights", "/w", "--gate", "off", "seed=3"),
    ]


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (AugmentJob(out="x"), "recording: none is given"),
        (AugmentJob(recording="x", out=" "), "out: none is given"),
        (AugmentJob(recording="x", out="y", variants=0), "variants: expected 1 or more, got 0"),
    ],
)
def test_job_that_cannot_run_is_one_line(job: AugmentJob, line: str) -> None:
    with pytest.raises(InputError, match=line):
        job.words()


def test_words_are_those_that_the_engine_takes() -> None:
    """The real command line reads them: every option is known to it."""
    from cosmos_engine.cli import parsed

    job = AugmentJob("demos", "out.zarr", "transfer25-2b", "photoreal", "looks", 3, "/w", "off", ["seed=3"])
    args = parsed(job.words())
    assert (args.command, str(args.recording), str(args.out), args.progress) == ("augment", "demos", "out.zarr", "json")
    assert (args.generator, args.recipe, args.prompts, args.variants) == ("transfer25-2b", "photoreal", "looks", 3)
    assert (str(args.weights), args.gate, args.overrides) == ("/w", "off", ["seed=3"])
