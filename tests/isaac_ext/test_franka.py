"""Headless generation on a stand-in: seeds, resuming, failures, and what the process answers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pxr")

from fake_kit import World
from franka_controller import Controller

from cosmos_engine.data import Recording
from cosmos_engine.errors import InputError
from isaac_ext import headless, selfcheck
from isaac_ext.franka import FrankaConfig, record_demos
from isaac_ext.stage import PoseLayer


def config(folder: Path, **changed: Any) -> FrankaConfig:
    return FrankaConfig(**{"folder": str(folder), "episodes": 2, "height": 32, "width": 48} | changed)


@pytest.mark.parametrize("version", ["5.1", "6.0"])
def test_demos_are_recorded_failures_are_not_and_the_same_command_goes_on(
    make_kit, in_kit, tmp_path: Path, version: str
) -> None:
    kit = make_kit(version)
    controller = Controller(unlucky=(1,))
    controller.add_to(kit)
    said: list[str] = []
    assert in_kit(kit, record_demos(config(tmp_path / "demos"), said.append)) == 2
    recording = Recording(tmp_path / "demos")
    assert recording.seeds() == [0, 2]
    assert "seed 1: the controller failed; not kept" in said
    assert all(recording.header(index).success for index in range(2))
    assert set(recording.header(0).cameras) == {"front", "wrist"}
    assert recording.header(0).length >= 5
    roles = {label.name: label.role for label in recording.header(0).labels.values()}
    assert roles["/World/robot"] == "robot"

    kit = make_kit(version)
    again = Controller()
    again.add_to(kit)
    assert in_kit(kit, record_demos(config(tmp_path / "demos", episodes=3), said.append)) == 3
    assert Recording(tmp_path / "demos").seeds() == [0, 2, 3]
    # A start follows from its seed alone, whatever was recorded before.
    rng = np.random.default_rng(3)
    np.testing.assert_allclose(again.resets[0][:2], [rng.uniform(0.4, 0.6), rng.uniform(-0.2, 0.2)])


def test_controller_that_always_fails_is_given_up(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    Controller(unlucky=tuple(range(99))).add_to(kit)
    with pytest.raises(InputError, match="the controller failed at 20 seeds in a row, the last was 19"):
        in_kit(kit, record_demos(config(tmp_path / "demos"), lambda line: None))
    assert len(Recording(tmp_path / "demos")) == 0


@pytest.mark.parametrize("version", ["5.1", "6.0"])
def test_process_closes_isaac_sim_and_answers_with_its_exit_code(
    make_kit, tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(version)
    closed: list[dict[str, Any]] = []
    loaded: list[str] = []
    enable = "omni.kit.app.ExtensionManager.set_extension_enabled_immediate"
    kit.behaviour[enable] = lambda owner, name, enabled: loaded.append(name)

    def run(owner: Any, coroutine: Any) -> Any:
        coroutine.close()
        raise InputError("no room on the disk")

    kit.behaviour["isaacsim.SimulationApp.run_coroutine"] = run
    kit.behaviour["isaacsim.SimulationApp.close"] = lambda owner, **options: closed.append(options)
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"folder": str(tmp_path / "demos")}))
    assert headless.main(["generate", str(file)]) == 2
    assert capsys.readouterr().err == "isaac generate: no room on the disk\n"
    assert json.loads((tmp_path / "options.outcome").read_text()) == {"exit_code": 2, "error": "no room on the disk"}
    assert closed == [
        {"wait_for_replicator": True, "skip_cleanup": False} | ({"exit_code": 2} if version == "6.0" else {})
    ]
    # Without the extension itself, nobody else loads what its manifest names.
    manifest = tomllib.loads((Path(__file__).parents[2] / "extension.toml").read_text(encoding="utf-8"))
    needed = {name for name in manifest["dependencies"] if name.startswith("isaacsim.") or "replicator" in name}
    assert set(loaded) == needed
    assert headless.main(["generate"]) == 2
    assert "expected generate|selfcheck|serve FILE.json" in capsys.readouterr().err


def _keeps(self: World, rgb: np.ndarray, where: np.ndarray, path: str, cover: Any = World._cover) -> None:
    before = rgb.copy()
    cover(self, rgb, where, path)
    kept = self.__dict__.setdefault("kept", {})
    if not np.array_equal(rgb, before):
        kept[path] = rgb[where].mean(axis=0)
    elif path in kept:
        rgb[where] = kept[path]


def test_selfcheck_gives_one_verdict_a_promise_and_goes_on_after_a_failure(
    make_kit, in_kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit("6.0")
    Controller().add_to(kit)
    verdicts = in_kit(kit, selfcheck.check_all(tmp_path))
    by_promise = {verdict.promise: verdict.passed for verdict in verdicts}
    assert all(by_promise.values()), verdicts
    assert json.loads((tmp_path / "selfcheck.json").read_text()) == [vars(verdict) for verdict in verdicts]
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("PASS", "FAIL")) for line in lines) == len(verdicts)
    assert lines[-1] == f"{sum(by_promise.values())} of {len(verdicts)} promises hold"

    # Frames that show the poses of the row before: what a renderer that is late by one would give.
    shown: list[Any] = []
    show = PoseLayer.show
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PoseLayer, "show", lambda self, poses: show(self, (shown.append(poses) or shown)[-2:][0]))
        late = in_kit(kit, selfcheck.check_all(tmp_path / "late"))
    assert "passes show the recorded states" in {verdict.promise for verdict in late if not verdict.passed}

    # A renderer that shows no materials, and one that keeps what it has once shown.
    for broken in (lambda self, rgb, where, path: None, _keeps):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(World, "_cover", broken)
            verdicts = in_kit(kit, selfcheck.check_all(tmp_path / broken.__name__.strip("<>")))
        (looks,) = [verdict for verdict in verdicts if not verdict.passed]
        assert looks.promise == "every look shows and is taken back"

    kit.world.empty_passes = True
    verdicts = in_kit(kit, selfcheck.check_all(tmp_path / "second"))
    failed = {verdict.promise for verdict in verdicts if not verdict.passed}
    assert "scripted demos are recorded, states first" in failed
    assert "the version is 5.1 or later" not in failed
