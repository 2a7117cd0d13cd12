"""A study runs every command once, goes on where it stopped, and counts what the benchmarks say."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cosmos_engine.config import config_folder, load_config
from cosmos_engine.errors import InputError
from cosmos_engine.report.paired import Paired
from policies import study_run
from policies.study import (
    StudyArm,
    StudyCommand,
    StudyConfig,
    StudyDataset,
    StudyTask,
    benchmark_folder,
    check_study,
    choose_tasks,
    plan_study,
)
from policies.study_result import markdown, write_results
from policies.study_run import missing_commands, run_study

CONFIG = StudyConfig(
    tasks={"lift": StudyTask()},
    datasets={"demos": StudyDataset(demos=2), "photometric": StudyDataset(2, 2, ["--generator", "photometric"])},
    arms={"originals": StudyArm("demos"), "one": StudyArm("photometric", 1), "both": StudyArm("photometric")},
    reference="originals",
    training_seeds=[0, 1],
    trials=4,
    target_arm="both",
    targets={"background": 0.5},
    published={"vanilla": 0.866},
)


def _result(out: Path, arm: str, seed: int, outcomes: dict[str, str], task: str = "lift") -> None:
    """Write a benchmark; outcomes: shift -> one letter a trial (s, f, c)."""
    folder = benchmark_folder(out, "lift", arm, seed)
    folder.mkdir(parents=True)
    cells = []
    for shift, letters in outcomes.items():
        finished = len(letters) - letters.count("c")
        rate = letters.count("s") / finished if finished else None
        cells.append(
            {
                "policy": f"{arm}_seed{seed}",
                "shift": shift,
                "trials": len(letters),
                "successes": letters.count("s"),
                "crashes": letters.count("c"),
                "success_rate": rate,
                "wilson_95": None if rate is None else [0.0, 1.0],
                "mean_steps_to_success": None,
                "outcomes": [
                    {"seed": index, "outcome": {"s": "success", "f": "failure", "c": "crash"}[letter], "steps": 9}
                    for index, letter in enumerate(letters)
                ],
                "videos": [],
            }
        )
    content = {"kind": "cosmos-engine/benchmark", "schema": 1, "task": task, "created": "x", "versions": {}}
    (folder / "result.json").write_text(json.dumps(content | {"cells": cells}))


def test_plan_names_every_command_once_and_needs_nothing_that_comes_later(tmp_path: Path) -> None:
    commands = plan_study(CONFIG, tmp_path, ["lift"])
    kinds = [command.words[0] for command in commands]
    assert kinds.count("record") == 1
    assert kinds.count("augment") == 2
    assert kinds.count("train") == kinds.count("benchmark") == 6
    made: set[str | Path] = set()
    for command in commands:
        if command.words[0] != "record":
            assert command.words[1] in made, command.line
        made.add(command.out)
    one = next(command for command in commands if command.name == "train_lift_one_seed1")
    assert "variants_per_demo=1" in one.words
    assert "seed=1" in one.words


def test_words_of_a_task_are_not_those_of_another(tmp_path: Path) -> None:
    stack = StudyTask(train=["updates=9"], benchmark=["first_seed=7"])
    config = dataclasses.replace(CONFIG, tasks={"lift": StudyTask(), "stack": stack})
    for command in plan_study(config, tmp_path, ["lift", "stack"]):
        of_stack = "_stack_" in command.name
        assert ("updates=9" in command.words) == (of_stack and command.words[0] == "train"), command.line
        assert ("first_seed=7" in command.words) == (of_stack and command.words[0] == "benchmark"), command.line


def test_task_with_three_times_the_demos_has_them_in_every_dataset(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, tasks={"lift": StudyTask(), "stack": StudyTask(demos_times=3)})
    recordings = {}
    for command in plan_study(config, tmp_path, ["lift", "stack"]):
        if command.words[0] == "record":
            recordings[command.name] = command.words[command.words.index("--episodes") + 1]
        if command.words[0] == "augment":
            assert command.words[1] == tmp_path / ("stack/demos_6" if "_stack_" in command.name else "lift/demos_2")
    assert recordings == {"record_lift_2": "2", "record_stack_6": "6"}


@pytest.mark.parametrize("name", ["cpu", "full"])
def test_shipped_studies_fit(name: str) -> None:
    config = load_config(StudyConfig, config_folder() / "study" / f"{name}.yaml")
    check_study(config)
    assert config.trials >= 100
    assert set(config.targets) == {"light_intensity", "light_color", "background", "table_texture", "robot_texture"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tasks": {}}, "tasks: expected at least one"),
        ({"arms": {"a": StudyArm("dems")}}, "arms.a.dataset 'dems': no such dataset; did you mean 'demos'"),
        ({"reference": "original"}, "reference 'original': no such arm; did you mean 'originals'"),
        ({"target_arm": "bot"}, "target_arm 'bot': no such arm; did you mean 'both'"),
        ({"targets": {"background": 85.0}}, "rate of background: expected 0 to 1, got 85.0"),
        ({"training_seeds": [1, 1]}, "training_seeds: expected each once"),
        (
            {"datasets": {"demos": StudyDataset(1), "photometric": StudyDataset()}},
            "datasets.demos: expected at least 2",
        ),
        ({"tasks": {"../up": StudyTask()}}, "name '../up'"),
        ({"tasks": {"lift": StudyTask(demos_times=0)}}, "tasks.lift.demos_times: expected at least 1, got 0"),
    ],
)
def test_study_that_does_not_fit_is_one_line(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_study(dataclasses.replace(CONFIG, **changed))  # type: ignore[arg-type]


def test_task_outside_the_study_is_named() -> None:
    assert choose_tasks(CONFIG, None) == ["lift"]
    with pytest.raises(InputError, match="--tasks 'lit': not in the study; did you mean 'lift'"):
        choose_tasks(CONFIG, "lit")


def test_study_goes_on_after_the_command_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = plan_study(CONFIG, tmp_path, ["lift"])[:4]
    ran: list[str] = []
    broken = {commands[2].name}

    def run(command: StudyCommand) -> int:
        ran.append(command.name)
        return 2 if command.name in broken else 0

    monkeypatch.setattr(study_run, "_run", run)
    with pytest.raises(InputError, match="ended with exit code 2"):
        run_study(commands, tmp_path)
    assert [command.name for command in missing_commands(commands, tmp_path)] == [c.name for c in commands[2:]]
    broken.clear()
    run_study(commands, tmp_path)
    assert ran == [command.name for command in (*commands[:3], *commands[2:])]


def _script(folder: Path, words: dict[str, str]) -> Callable[[StudyCommand], list[str]]:
    """Return what stands in for the engine: every command says when it began and ended, and runs a line of Python."""
    notes = folder / "notes.txt"

    def line(command: StudyCommand) -> list[str]:
        note = f"open({str(notes)!r}, 'a').write"
        does = words.get(command.name, "time.sleep(0.3)")
        return [
            sys.executable,
            "-c",
            f"import sys, time\n{note}('begin {command.name}\\n')\n{does}\n{note}('end {command.name}\\n')",
        ]

    return line


def test_several_commands_run_at_once_each_after_those_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = plan_study(CONFIG, tmp_path, ["lift"])
    # A training ends once three have begun: they do only if three commands run at once.
    begun = f"open({str(tmp_path / 'notes.txt')!r}).read().count('begin train')"
    meets = f"late = time.time() + 60\nwhile {begun} < 3 and time.time() < late: time.sleep(0.01)"
    words = {command.name: meets for command in commands if command.words[0] == "train"}
    monkeypatch.setattr(study_run, "_words", _script(tmp_path, words))
    run_study(commands, tmp_path, workers=3)
    assert missing_commands(commands, tmp_path) == []
    running: set[str] = set()
    ended: set[str] = set()
    most = 0
    for note in (tmp_path / "notes.txt").read_text().splitlines():
        kind, name = note.split()
        if kind == "end":
            running.remove(name)
            ended.add(name)
            continue
        command = next(command for command in commands if command.name == name)
        assert {other.name for other in commands if command.needs(other)} <= ended, name
        running.add(name)
        most = max(most, len(running))
    assert len(ended) == len(commands)
    assert most == 3


@pytest.mark.parametrize("ignores", [False, True])
def test_command_that_fails_beside_others_stops_them_and_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignores: bool
) -> None:
    commands = [
        StudyCommand("long", ("train", "a"), tmp_path / "long"),
        StudyCommand("bad", ("train", "b"), tmp_path / "bad"),
        StudyCommand("later", ("benchmark", tmp_path / "bad"), tmp_path / "later"),
    ]
    ready, saved = str(tmp_path / "ready"), str(tmp_path / "saved")
    saves = f"try:\n  open({ready!r}, 'w')\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  open({saved!r}, 'w')"
    fails = f"import os\nwhile not os.path.exists({ready!r}): time.sleep(0.01)\nsys.exit('bad: no such dataset')"
    words = {"long": saves, "bad": fails}
    monkeypatch.setattr(study_run, "_words", _script(tmp_path, words))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignores else signal.default_int_handler)
    try:
        _check_that_others_are_stopped(commands, tmp_path)
        assert (signal.getsignal(signal.SIGINT) == signal.SIG_IGN) == ignores
    finally:
        signal.signal(signal.SIGINT, before)


def _check_that_others_are_stopped(commands: list[StudyCommand], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"`cosmos-engine train b` ended with exit code 1.*It said: bad: no such dataset"
    ):
        run_study(commands, tmp_path, workers=2)
    assert (tmp_path / "saved").exists()
    assert [command.name for command in missing_commands(commands, tmp_path)] == ["long", "bad", "later"]


def test_gpus_are_dealt_in_turn_among_those_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_run.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [study_run._dealt_gpu(worker) for worker in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [study_run._dealt_gpu(worker) for worker in range(3)] == ["3", "5", "3"]


def test_finished_benchmarks_are_enough_wherever_the_study_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_run, "_run", lambda _command: 0)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    monkeypatch.chdir(here)
    run_study(plan_study(CONFIG, Path("."), ["lift"]), Path("."))
    commands = plan_study(CONFIG, here, ["lift"])
    for file in (here / "done").iterdir():
        if not file.name.startswith("benchmark_"):
            file.unlink()
    assert missing_commands(commands, here) == []
    (here / "done" / "benchmark_lift_one_seed1.json").unlink()
    here.rename(there)
    moved = plan_study(CONFIG, there, ["lift"])
    assert [command.name for command in missing_commands(moved, there)] == [
        "record_lift_2",
        "augment_lift_photometric",
        "train_lift_one_seed1",
        "benchmark_lift_one_seed1",
    ]


def test_folder_of_another_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_run, "_run", lambda _command: 0)
    run_study(plan_study(CONFIG, tmp_path, ["lift"])[:1], tmp_path)
    other = dataclasses.replace(CONFIG, record=["image_size=32"])
    with pytest.raises(InputError, match=r"holds another study: .*image_size=32"):
        missing_commands(plan_study(other, tmp_path, ["lift"]), tmp_path)
    (tmp_path / "done" / "record_lift_2.json").write_text("{")
    with pytest.raises(InputError, match="not a study's"):
        missing_commands(plan_study(CONFIG, tmp_path, ["lift"]), tmp_path)


def test_cells_pool_training_seeds_and_pair_trials_with_the_reference(tmp_path: Path) -> None:
    _result(tmp_path, "originals", 0, {"vanilla": "sssf", "background": "ffff"})
    _result(tmp_path, "originals", 1, {"vanilla": "sscf", "background": "ffff"})
    _result(tmp_path, "both", 0, {"vanilla": "ssss", "background": "sssf"})
    _result(tmp_path, "both", 1, {"vanilla": "fsss", "background": "sssc"})
    (table,) = write_results(CONFIG, tmp_path, ["lift"])
    reference, here = table.cell("originals", "vanilla"), table.cell("both", "vanilla")
    assert reference is not None
    assert here is not None
    assert (reference.successes, reference.finished, reference.crashes, reference.paired) == (5, 7, 1, None)
    # Pairs without a crash: seed 0 gains trial 3; seed 1 loses trial 0 and gains trial 3; trial 2 crashed there.
    assert (here.successes, here.finished) == (7, 8)
    assert here.paired == Paired("originals", 2, 1, 1.0)
    assert here.mark == ""
    background = table.cell("both", "background")
    assert background is not None
    assert background.paired == Paired("originals", 6, 0, 2 / 2**6)
    assert background.mark == "▲"
    assert table.cell("one", "vanilla") is None
    assert [(target.shift, target.met) for target in table.targets] == [("vanilla", True), ("background", True)]


def test_results_are_written_as_json_markdown_chart_and_page(tmp_path: Path) -> None:
    _result(tmp_path, "originals", 0, {"vanilla": "sssf", "camera_pose": "cccc"})
    tables = write_results(CONFIG, tmp_path, ["lift"])
    text = (tmp_path / "study.md").read_text()
    assert text == markdown(CONFIG, tables) + "\n"
    assert "| vanilla | 3/4 [30, 95] | not run | not run |" in text
    assert "none finished, 4 crashed" in text
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["kind"] == "cosmos-engine/study"
    assert content["tables"][0]["cells"][0]["successes"] == 3
    root = ElementTree.parse(tmp_path / "study.svg").getroot()
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["originals, vanilla: 3/4"]
    page = (tmp_path / "study.html").read_text()
    assert "3/4" in page
    assert "cosmos-engine record --task lift" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_benchmark_that_could_end_early_is_refused(tmp_path: Path) -> None:
    _result(tmp_path, "originals", 0, {"vanilla": "sssf"})
    file = benchmark_folder(tmp_path, "lift", "originals", 0) / "result.json"
    content = json.loads(file.read_text())
    content["cells"][0]["sequence_95"] = [0.2, 1.0]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="stop_half_width: a study compares trial by trial"):
        write_results(CONFIG, tmp_path, ["lift"])


def test_benchmark_of_another_task_is_refused(tmp_path: Path) -> None:
    _result(tmp_path, "originals", 0, {"vanilla": "s"}, task="stack")
    with pytest.raises(InputError, match="expected task 'lift', got 'stack'"):
        write_results(CONFIG, tmp_path, ["lift"])


@pytest.mark.slow
def test_a_study_runs_from_nothing_to_its_page(tmp_path: Path) -> None:
    policy = ["policy.image_size=16", "policy.crop_size=14", "policy.encoder.widths=[8,8]", "policy.unet_widths=[8,16]"]
    file = tmp_path / "tiny.yaml"
    file.write_text(
        json.dumps(  # JSON is YAML
            {
                "tasks": {"lift": {}},
                "datasets": {"demos": {"demos": 2}},
                "arms": {"originals": {"dataset": "demos"}},
                "reference": "originals",
                "record": ["image_size=16"],
                "train": [*policy, "updates=2", "batch_size=4", "log_every=2", "save_every=2"],
                "benchmark": ["videos=0", "environments=1"],
                "shifts": "vanilla",
                "trials": 1,
            }
        )
    )
    study_command: Sequence[str] = ["study", str(file), "--out", str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-m", "cosmos_engine", *study_command], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (cell,) = json.loads((tmp_path / "out" / "study.json").read_text())["tables"][0]["cells"]
    assert (cell["arm"], cell["shift"], cell["finished"] + cell["crashes"]) == ("originals", "vanilla", 1)
    listed = subprocess.run(
        [sys.executable, "-m", "cosmos_engine", *study_command, "--list"], capture_output=True, text=True
    )
    assert (listed.returncode, listed.stdout) == (0, "")
