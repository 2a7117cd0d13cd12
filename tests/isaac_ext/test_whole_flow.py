"""From the menu to a verified dataset: the extension on a stand-in for Kit, the engine as the real process it is."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pxr")


from cosmos_engine.data import Dataset, Recording, verify_dataset
from isaac_ext import kit as kit_module
from isaac_ext import settings as settings_module
from isaac_ext.engine import AugmentJob
from isaac_ext.session import Session

MENU = "Cosmos Engine"
needs_entry_point = pytest.mark.skipif(
    "isaac" not in {point.name for point in entry_points(group="cosmos_engine.commands")},
    reason="the command `isaac` came after this installation; `make test` installs it",
)


def opened(kit: Any, folder: Path, python: str = sys.executable, **job: Any) -> Any:
    """Start the extension with settings as a user would have typed them."""
    kit.update_s = 0.01
    kit.settings["/exts/cosmos.engine/engine_python"] = python
    values: dict[str, Any] = {
        "recording": str(folder / "demos"),
        "out": str(folder / "pushes.zarr"),
        "generator": "photometric",
        "variants": 2,
        "gate": "off",
    }
    kept = settings_module.Settings(
        folder=str(folder / "demos"), task="push", height=48, width=64, job=AugmentJob(**values | job)
    )
    kit.settings["/persistent/exts/cosmos.engine/window"] = settings_module.to_json(kept)
    from isaac_ext.extension import CosmosEngineExtension

    extension = CosmosEngineExtension()
    extension.on_startup("cosmos.engine-0.1.0")
    return extension


async def until(condition: Any) -> None:
    while not condition():
        await kit_module.next_update()


@needs_entry_point
@pytest.mark.parametrize(
    ("version", "label_format"), [("5.1", "rgba_packed"), pytest.param("6.0", "paths", marks=pytest.mark.slow)]
)
def test_menu_click_to_verified_dataset(make_kit, in_kit, tmp_path: Path, version: str, label_format: str) -> None:
    kit = make_kit(version, label_format=label_format)
    extension = opened(kit, tmp_path)
    session = extension.session

    async def user() -> None:
        kit.click_menu(MENU, "Augment episode")
        kit.button("Find cameras, robot and objects on the stage").given["clicked_fn"]()
        kit.button("Record").given["clicked_fn"]()
        await until(lambda: session.is_recording and session._recorder.steps >= 20)
        assert "Stop" in [w.__dict__.get("text") for w in kit.widgets]
        kit.press("F9")
        kit.press("F8")
        await until(lambda: any("episode 0 recorded" in text for _, text in kit.notifications))
        kit.button("Augment").given["clicked_fn"]()
        updates = 0
        while not session.pictures and not any(status == "WARNING" for status, _ in kit.notifications):
            await kit_module.next_update()
            updates += 1
        assert updates > 100  # the application went on updating while the engine worked
        await kit_module.next_update()

    in_kit(kit, user())
    assert [text for status, text in kit.notifications if status == "WARNING"] == []
    recording, dataset = Recording(tmp_path / "demos"), Dataset(tmp_path / "pushes.zarr")
    assert recording.header(0).length >= 20
    assert recording.header(0).success
    assert set(recording.header(0).cameras) == {"front", "wrist"}
    assert dataset.variant.tolist() == [0, 1, 2]
    report = verify_dataset(tmp_path / "pushes.zarr", tmp_path / "demos")
    assert report.intact
    assert report.against_recording
    episode = recording.episode(0)
    for index in range(3):
        np.testing.assert_array_equal(dataset.array("action")[dataset.rows(index)], episode.actions)
    assert [(picture.camera, picture.variant) for picture in session.pictures] == [
        (camera, variant) for camera in ("front", "wrist") for variant in range(3)
    ]
    shown = [widget.given["source_url"] for widget in kit.widgets if widget.kit_name == "omni.ui.Image"]
    assert len(shown) == 6
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in shown)
    assert session.status.fraction == 1.0
    assert "done: 2 of 2 variants accepted" in kit.labels_shown()
    log = next(text for text in kit.labels_shown() if text.startswith("> cosmos-engine"))
    assert [line.split()[2] for line in log.splitlines() if line.startswith("> ")] == ["augment", "isaac"]
    extension.on_shutdown()
    assert kit.menus == {}
    assert kit.keyboard == []
    assert settings_module.unfinished_job() is None


def test_engine_without_an_environment_is_one_notification(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    extension = opened(kit, tmp_path, python="")
    in_kit(kit, extension.session.augment())
    assert kit.notifications == [
        ("WARNING", "engine: no environment is set; run `cosmos-engine isaac install`, or set its Python")
    ]
    extension.session.engine_python = str(tmp_path / "gone" / "python")
    in_kit(kit, extension.session.augment())
    assert "no Python at" in kit.notifications[-1][1]


def test_broken_environment_is_the_engines_last_line(make_kit, in_kit, tmp_path: Path) -> None:
    """An interpreter that has no engine: a bare one, without site packages."""
    kit = make_kit("5.1")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    extension = opened(kit, tmp_path, python=str(bare))
    in_kit(kit, extension.session.augment())
    status, text = kit.notifications[-1]
    assert status == "WARNING"
    assert "No module named 'cosmos_engine'" in text


def test_engines_own_line_is_shown(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    extension = opened(kit, tmp_path)
    in_kit(kit, extension.session.augment())
    status, text = kit.notifications[-1]
    assert status == "WARNING"
    assert text.startswith("cosmos-engine augment:")
    assert "demos" in text


SLEEPY = """#!{python}
import json, signal, sys, time
print(json.dumps({{"stage": "generate", "done": 3, "total": 10, "eta_s": 70.0}}), flush=True)
print("loading", file=sys.stderr, flush=True)
try:
    time.sleep(120)
except KeyboardInterrupt:
    print("cosmos-engine augment: stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(130)
"""


def sleepy_engine(folder: Path) -> str:
    """Return an interpreter that runs a job which never ends by itself."""
    script = folder / "sleepy"
    script.write_text(SLEEPY.format(python=sys.executable))
    script.chmod(0o755)
    return str(script)


def test_job_is_shown_cancelled_and_can_go_on(make_kit, in_kit, tmp_path: Path) -> None:
    from isaac_ext.window import progress_line

    kit = make_kit("6.0")
    extension = opened(kit, tmp_path, python=sleepy_engine(tmp_path))
    session = extension.session

    async def user() -> None:
        kit.click_menu(MENU, "Augment episode")
        kit.button("Augment").given["clicked_fn"]()
        await until(lambda: session.status.done == 3 and "loading" in session.log)
        await kit_module.next_update()
        assert progress_line(session) == "generate: 3 of 10, 70 s to go"
        assert any(text.startswith("> ") and text.endswith("\nloading") for text in kit.labels_shown())
        await session.augment()  # a second job while one runs
        assert kit.notifications[-1] == ("WARNING", "engine: busy (augment); cancel it first")
        kit.button("Cancel").given["clicked_fn"]()
        await until(lambda: session.task == "")

    in_kit(kit, user())
    assert session.status.cancelled
    assert session.status.error == ""
    assert kit.notifications[-1] == ("INFO", "stopped; 'Augment' goes on from here")
    assert settings_module.unfinished_job() == session.settings.job


def test_simulator_closed_during_a_job_stops_the_engine_and_the_next_start_offers_to_go_on(
    make_kit, in_kit, tmp_path: Path
) -> None:
    kit = make_kit("5.1")
    extension = opened(kit, tmp_path, python=sleepy_engine(tmp_path))

    async def closed() -> None:
        job = kit_module.run(extension.session.augment())
        await until(lambda: extension.session.status.done == 3)
        process = extension.session._process._process
        extension.on_shutdown()
        assert process.poll() is not None
        job.cancel()

    in_kit(kit, closed())
    said: list[str] = []
    again = Session(notify=lambda text, is_error: said.append(text))
    assert said == [f"{tmp_path / 'pushes.zarr'}: was not finished when Isaac Sim ended; 'Augment' goes on with it"]
    assert again.settings.job.out == str(tmp_path / "pushes.zarr")


def test_killed_engine_says_that_it_was_killed(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    extension = opened(kit, tmp_path, python=sleepy_engine(tmp_path))
    session = extension.session

    async def killed() -> None:
        job = kit_module.run(session.augment())
        await until(lambda: session.status.done == 3)
        os.kill(session._process._process.pid, signal.SIGKILL)
        await job

    in_kit(kit, killed())
    assert kit.notifications[-1][1].startswith("the engine was ended by signal 9; was memory short?")


def test_errors_of_the_recorder_are_notifications(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    extension = opened(kit, tmp_path)
    in_kit(kit, extension.session.toggle_recording())
    assert kit.notifications[-1] == ("WARNING", "cameras: none is chosen")
    for key in ("F9", "F6"):
        kit.press(key)
        assert kit.notifications[-1] == ("WARNING", "cameras: none is chosen")


def test_paths_do_not_depend_on_where_isaac_sim_was_started(make_kit, in_kit, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_module.absolute("out", "~/a/b") == f"{tmp_path}/a/b"
    assert settings_module.absolute("out", "~") == str(tmp_path)
    assert settings_module.absolute("out", "/a") == "/a"
    assert settings_module.absolute("out", "") == ""
    kit = make_kit("6.0")
    extension = opened(kit, tmp_path, out="pushes.zarr")
    session = extension.session
    session.change(folder="demos", cameras=("/World/front",))
    for work, field in (
        (session.toggle_recording, "recording folder: expected an absolute path, as in {}/demos, got 'demos'"),
        (session.augment, "out: expected an absolute path, as in {}/pushes.zarr, got 'pushes.zarr'"),
        (session.open_report, "out: expected an absolute path, as in {}/pushes.zarr, got 'pushes.zarr'"),
    ):
        in_kit(kit, work())
        assert kit.notifications[-1] == ("WARNING", field.format(tmp_path))


def test_defect_is_said_and_raised(make_kit, in_kit, tmp_path: Path, monkeypatch) -> None:
    kit = make_kit("5.1")
    extension = opened(kit, tmp_path)
    monkeypatch.setattr(AugmentJob, "words", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_kit(kit, extension.session.augment())
    assert kit.notifications[-1] == ("WARNING", "ZeroDivisionError: division by zero; the log has the details")


def test_find_says_what_the_stage_lacks(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    kit.world.stage.RemovePrim("/World/front")
    kit.world.stage.RemovePrim("/World/robot")
    extension = opened(kit, tmp_path)

    async def user() -> None:
        kit.click_menu(MENU, "Record episode")
        kit.button("Find cameras, robot and objects on the stage").given["clicked_fn"]()

    in_kit(kit, user())
    assert kit.notifications[-1] == ("WARNING", "the stage has no camera and no robot")
    assert extension.session.settings.manipulated == ("/World/Cube",)


def test_unknown_hotkey_is_named_and_the_rest_works(make_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    kit.settings["/exts/cosmos.engine/hotkey_record"] = "F99"
    opened(kit, tmp_path)
    assert kit.notifications[-1] == ("WARNING", "hotkey 'F99': there is no such key; expected a name as F8")
    assert set(kit.menus) == {MENU}


def test_settings_outlive_the_application_and_other_versions_of_themselves() -> None:
    kept = settings_module.Settings(
        folder="/x", cameras=("/a", "/b"), control_hz=30.0, job=AugmentJob(out="/y", variants=3, overrides=["seed=1"])
    )
    assert settings_module.from_json(settings_module.to_json(kept)) == kept
    stored = json.loads(settings_module.to_json(kept)) | {"retired": 1, "height": "tall"}
    assert settings_module.from_json(json.dumps(stored)) == kept
    for broken in ("", "[1]", "{"):
        assert settings_module.from_json(broken) == settings_module.Settings()
