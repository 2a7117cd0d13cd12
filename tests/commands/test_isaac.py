"""`cosmos-engine isaac`: what it lays out, what it finds, what it refuses."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from cosmos_engine import __version__
from cosmos_engine.config import config_folder, load_config
from cosmos_engine.data import CameraPasses, Recording
from cosmos_engine.errors import InputError
from isaac_ext.outside import doctor, generate, layout
from isaac_ext.outside.commands import add_commands
from isaac_ext.outside.isaac_sim import find_isaac_sim

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def isaac() -> Callable[..., int]:
    """Run `cosmos-engine isaac` as it is typed, without the installed entry point."""

    def run(*words: object) -> int:
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers())
        args = parser.parse_args(["isaac", *map(str, words)])
        return int(args.run(args))

    return run


@pytest.fixture
def isaac_sim(tmp_path: Path) -> Path:
    """A folder that looks like an unpacked Isaac Sim 5.1; its Python is this one, without this engine's packages."""
    folder = tmp_path / "isaacsim"
    folder.mkdir()
    (folder / "VERSION").write_text("5.1.0-rc.19+release.26219\n")
    launcher = folder / "python.sh"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    launcher.chmod(0o755)
    return folder


def test_entry_point_names_the_commands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["cosmos_engine.commands"]["isaac"] == "isaac_ext.outside.commands:add_commands"


def test_install_lays_out_what_kit_finds(isaac, isaac_sim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isaac("install", "--isaac-path", isaac_sim) == 0
    folder = isaac_sim / "extsUser" / "cosmos.engine"
    manifest = tomllib.loads((folder / "config" / "extension.toml").read_text(encoding="utf-8"))
    assert manifest["settings"]["exts"]["cosmos.engine"]["engine_python"] == str(Path(sys.executable).absolute())
    for module in manifest["python"]["module"]:
        assert (folder / (module["name"].replace(".", "/") + ".py")).is_file()
    for name in ("readme", "changelog"):
        assert (folder / manifest["package"][name]).is_file()
    assert not (folder / "isaac_ext" / "outside").exists()
    assert not list(folder.rglob("__pycache__"))
    said = capsys.readouterr().out
    assert f"start it with: {isaac_sim}/isaac-sim.sh --enable cosmos.engine" in said
    assert "h5py: Isaac Sim has it" in said


# What Isaac Sim's Python has: the standard library, numpy and h5py. Writes an episode and reads it back.
IN_ISAAC_SIM = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    allowed = set(sys.stdlib_module_names) | {"numpy", "h5py", "isaac_ext", "cosmos_engine"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

folder, out = sys.argv[1:]
sys.path.insert(0, folder)
import numpy as np, h5py
sys.meta_path.insert(0, Refuse())
import cosmos_engine, isaac_ext
for module in (cosmos_engine, isaac_ext):
    assert module.__file__.startswith(folder), module.__file__
import isaac_ext.arena, isaac_ext.selfcheck, isaac_ext.session, isaac_ext.franka, isaac_ext.headless
from isaac_ext.demo import episode, observations
from isaac_ext.tape import TapeRows
from isaac_ext.stage import BodyPoses
from cosmos_engine.data.episode import CameraPasses, InstanceLabel
from cosmos_engine.data.episode_file import read_episode
from cosmos_engine.data.recording import RecordingWriter, episode_path

rows = TapeRows(["a", "panda_finger_joint1"], ["/World/robot/panda_hand", "/World/Cube"])
for step in range(4):
    rows.add(3 * step, np.full(2, 0.1 * step), np.zeros(2), np.full(2, 0.1 * step + 0.1),
             BodyPoses(np.full((2, 3), 0.1 * step), np.tile([1.0, 0, 0, 0], (2, 1))))
tape = rows.tape(step_hz=20.0, seed=5, episode_id="00000000-0000-4000-8000-000000000001", task="push",
                 instruction="push it", success=True)
passes = CameraPasses(np.zeros((4, 8, 8, 3), np.uint8), np.full((4, 8, 8), np.inf, np.float32),
                      np.ones((4, 8, 8), np.uint16), np.eye(3), np.tile(np.eye(4), (4, 1, 1)))
made = episode(tape, observations(tape, "/World/robot/panda_hand", ["/World/Cube"], 1.0), {"front": passes},
               {1: InstanceLabel("/World/Cube", "cube", "manipulated")})
with RecordingWriter(out, {"env_name": "push", "type": 2, "env_kwargs": {}}) as writer:
    writer.append(made)
assert read_episode(episode_path(writer.folder, 0)).length == 4
"""


def test_what_is_installed_writes_recordings_with_numpy_and_h5py_alone(tmp_path: Path) -> None:
    """Not a second writer: the engine's own modules, carried along, in a Python that has nothing else of ours."""
    extension = layout.install(tmp_path / "exts", Path(sys.executable))
    done = subprocess.run(
        [sys.executable, "-P", "-c", IN_ISAAC_SIM, str(extension), str(tmp_path / "demos")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    episode = Recording(tmp_path / "demos").episode(0)
    assert isinstance(episode.cameras["front"], CameraPasses)
    assert (episode.seed, episode.task, episode.source) == (5, "push", "isaac-sim")


def test_install_replaces_an_older_one_and_keeps_its_packages(tmp_path: Path) -> None:
    first = layout.install(tmp_path, Path("/old/python"))
    (first / "isaac_ext" / "retired.py").write_text("")
    (first / layout.PACKAGES / "h5py").mkdir(parents=True)
    second = layout.install(tmp_path, Path("/new/python"))
    assert second == first
    assert not (second / "isaac_ext" / "retired.py").exists()
    assert (second / layout.PACKAGES / "h5py").is_dir()
    assert '"/new/python"' in (second / "config" / "extension.toml").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["cosmos.engine"]
    assert layout.installed(tmp_path) == layout.Installed(__version__, "/new/python")


def test_install_and_uninstall_leave_alone_what_they_did_not_make(isaac, isaac_sim: Path, tmp_path: Path) -> None:
    other = tmp_path / "exts" / "cosmos.engine"
    other.mkdir(parents=True)
    (other / "work.txt").write_text("a week of it")
    for action in ("install", "uninstall"):
        with pytest.raises(InputError, match="was not made by"):
            isaac(action, "--isaac-path", isaac_sim, "--to", tmp_path / "exts")
    assert (other / "work.txt").read_text() == "a week of it"


def test_uninstall_takes_away_what_install_made(isaac, isaac_sim: Path) -> None:
    isaac("install", "--isaac-path", isaac_sim)
    assert isaac("uninstall", "--isaac-path", isaac_sim) == 0
    assert not (isaac_sim / "extsUser" / "cosmos.engine").exists()
    with pytest.raises(InputError, match="not installed"):
        isaac("uninstall", "--isaac-path", isaac_sim)


def test_folder_that_cannot_be_written_is_named(isaac, isaac_sim: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        isaac("install", "--isaac-path", isaac_sim, "--to", tmp_path / "file" / "exts")


def test_missing_h5py_is_brought_without_touching_numpy(isaac_sim: Path, tmp_path: Path) -> None:
    """Isaac Sim's Python is stood in for: it lacks h5py until its pip was asked for exactly that."""
    log = tmp_path / "asked"
    (isaac_sim / "python.sh").write_text(
        f'#!/bin/sh\nif [ "$2" = pip ]; then echo "$@" > "{log}"; exit 0; fi\n'
        'case "$2" in *h5py*) exit 1;; esac\necho 3.11.0\n'
    )
    said = layout.bring_h5py(find_isaac_sim(isaac_sim), tmp_path / "cosmos.engine")
    target = tmp_path / "cosmos.engine" / layout.PACKAGES
    assert said == f"h5py: installed into {target}"
    assert log.read_text().split() == [
        *("-m", "pip", "install", "--no-deps", "--upgrade", "--target", str(target), "h5py>=3.16,<4")
    ]
    (isaac_sim / "python.sh").write_text('#!/bin/sh\necho "no network" >&2\nexit 1\n')
    with pytest.raises(InputError, match=r"h5py: pip of .* failed: no network"):
        layout.bring_h5py(find_isaac_sim(isaac_sim), tmp_path / "cosmos.engine")


def test_isaac_sim_is_found_as_archive_and_as_package(isaac_sim: Path, tmp_path: Path, monkeypatch) -> None:
    assert find_isaac_sim(isaac_sim).version == (5, 1)
    environment = tmp_path / "env"
    package = environment / "lib" / "python3.12" / "site-packages" / "isaacsim"
    package.mkdir(parents=True)
    (package.parent / "isaacsim-6.0.1.0.dist-info").mkdir()
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(sys.executable)
    found = find_isaac_sim(environment)
    assert (found.version, found.root, found.supported) == ((6, 0), package, True)
    assert found.user_extensions == package / "extsUser"
    assert found.program == environment / "bin" / "isaacsim"
    monkeypatch.setenv("ISAACSIM_PATH", str(isaac_sim))
    assert find_isaac_sim(None).root == isaac_sim


def test_no_isaac_sim_is_one_line(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match="no Isaac Sim there"):
        find_isaac_sim(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ISAACSIM_PATH", "ISAAC_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        InputError, match=r"no Isaac Sim found; say where it is with --isaac-path \(looked at \$ISAACSIM"
    ):
        find_isaac_sim(None)


@pytest.mark.parametrize(
    ("version", "launcher", "line"),
    [
        (b"4.5.0\n", "#!/bin/sh\necho 1\n", "expected Isaac Sim 5.1 or 6.0, got 4.5"),
        (b"6.0.1\n", "#!/bin/sh\nexit 3\n", "python.sh: does not start; expected Isaac Sim's Python"),
        (b"6.0.1\n", "not a program", "python.sh: does not start; expected Isaac Sim's Python"),
        (b"\xff\xfe", "#!/bin/sh\necho 1\n", "no Isaac Sim there .expected a folder with python.sh and a VERSION"),
    ],
    ids=["too old", "broken", "no program", "no version"],
)
def test_broken_isaac_sim_is_one_line_and_nothing_is_installed(
    isaac, isaac_sim: Path, tmp_path: Path, version: bytes, launcher: str, line: str
) -> None:
    (isaac_sim / "VERSION").write_bytes(version)
    (isaac_sim / "python.sh").write_text(launcher)
    for words in (["install"], ["selfcheck", "--out", tmp_path / "check"]):
        with pytest.raises(InputError, match=line):
            isaac(*words, "--isaac-path", isaac_sim)
    assert not (isaac_sim / "extsUser").exists()


def test_doctor_says_what_is_there_and_what_is_missing(isaac, isaac_sim: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert isaac("doctor", "--isaac-path", isaac_sim) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"ok      Isaac Sim: 5.1 at {isaac_sim}" in lines
    assert any(line.startswith("missing extension: not in") for line in lines)
    assert any(line.startswith("ok      Isaac Sim's h5py: 3.") for line in lines)
    assert any(line.startswith("missing GPU: no nvidia-smi") for line in lines)
    assert lines[-1] == "2 things are missing"


def test_doctor_sees_that_the_engines_environment_was_moved(isaac, isaac_sim: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert isaac("install", "--isaac-path", isaac_sim) == 0
    mark = isaac_sim / "extsUser" / "cosmos.engine" / layout.MARK
    for python, told in (
        (sys.executable, "ok      extension's engine: starts the engine with "),
        ("/bin/sh", "ok      extension's engine: starts the engine with /bin/sh, another environment than this one"),
        ("/gone/python", "missing extension's engine: starts the engine with /gone/python, which is gone; run"),
    ):
        mark.write_text(json.dumps({"version": __version__, "engine_python": python}))
        capsys.readouterr()
        assert isaac("doctor", "--isaac-path", isaac_sim) == 1
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith(told) for line in lines), lines
    assert lines[-1] == "2 things are missing"
    mark.write_text("{")
    assert isaac("doctor", "--isaac-path", isaac_sim) == 1
    assert "missing extension: not in" in capsys.readouterr().out


def test_doctor_says_which_generators_fit_the_gpu(monkeypatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    answer = subprocess.CompletedProcess([], 0, "NVIDIA RTX 4090, 24564, 20480\n", "")
    (finding,) = doctor._gpus(lambda *args, **options: answer)
    assert str(finding) == (
        "ok      GPU: NVIDIA RTX 4090, 20 of 24 GiB free; enough for transfer25-tiny, transfer25-2b, offloaded"
    )


def test_shipped_config_is_read_whole() -> None:
    for file in sorted((config_folder() / "isaac").glob("*.yaml")):
        config = load_config(generate.GenerateConfig, file, ["out=there", "demos.cube_x_m=[0.45, 0.5]"])
        assert config.demos.cube_x_m == [0.45, 0.5]
        config.variants.__class__(**asdict(config.variants) | {"recording": "r", "out": "o"}).words()
    off = load_config(generate.GenerateConfig, None, ["variants.gate=off", "variants.recording=r", "variants.out=o"])
    assert off.variants.words()[-2:] == ["--gate", "off"]  # which YAML reads as false
    with pytest.raises(InputError, match=r"unknown key 'demos\.epsiodes'; did you mean 'demos\.episodes'"):
        load_config(generate.GenerateConfig, None, ["demos.epsiodes=3"])


def fake_isaac(folder: Path, outcome: str) -> None:
    """Make the stand-in's Python note how it is started, tell an outcome, and end as 5.1 does, whatever it was."""
    (folder / "python.sh").write_text(
        "#!/bin/sh\n"
        'if [ "$2" = isaac_ext.headless ]; then\n'
        f'cp "$4" "{folder}/options"; echo "$3 $PYTHONPATH" > "{folder}/how"\n'
        f"[ '{outcome}' ] && echo '{outcome}' > \"${{4%.json}}.outcome\"\n"
        "exit 0; fi\necho 3.11.0\n"
    )


WELL = '{"exit_code": 0, "error": ""}'


def test_generate_records_in_isaac_sim_and_then_augments(isaac_sim: Path, tmp_path: Path) -> None:
    fake_isaac(isaac_sim, WELL)
    asked: list[list[str]] = []
    config = load_config(
        generate.GenerateConfig,
        config_folder() / "isaac" / "franka_pick_place.yaml",
        [f"out={tmp_path / 'out'}", f"isaac_path={isaac_sim}", "demos.episodes=3", "variants.generator=photometric"],
    )
    checked: list[list[str]] = []
    assert generate.generate(config, checked.append, lambda words: asked.append(list(words)) or 0) == 0
    assert checked == asked
    options = json.loads((isaac_sim / "options").read_text())
    assert (options["episodes"], options["folder"]) == (3, str(tmp_path / "out" / "demos"))
    task, path = (isaac_sim / "how").read_text().split()
    assert task == "generate"
    assert path.endswith("/cosmos.engine")
    assert asked == [
        ["augment", str(tmp_path / "out" / "demos"), "--out", str(tmp_path / "out" / "dataset.zarr")]
        + ["--generator", "photometric", "--variants", "5"]
    ]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [('{"exit_code": 2, "error": "no room on the disk"}', "no room on the disk"), ("", "exit code 0")],
    ids=["said why", "said nothing"],
)
def test_generate_stops_where_isaac_sim_failed(isaac_sim: Path, tmp_path: Path, outcome: str, why: str) -> None:
    fake_isaac(isaac_sim, outcome)
    config = generate.GenerateConfig(out=str(tmp_path / "out"), isaac_path=str(isaac_sim))
    with pytest.raises(InputError, match=f"Isaac Sim did not finish: {why}; the same command goes on from there"):
        generate.generate(config, lambda words: None, lambda words: pytest.fail("augmented what was not recorded"))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["out=''"], "out: expected the folder of the results"),
        (["out=x", "demos.episodes=0"], "episodes: expected at least 1, got 0"),
        (["out=x", "demos.cube_x_m=[0.6, 0.4]"], "cube_x_m: expected \\[least, greatest\\]"),
        (["out=x", "demos.mode=later"], "mode 'later': expected replay or live"),
        (["out=x", "variants.variants=0"], "variants: expected 1 or more, got 0"),
    ],
)
def test_generate_refuses_before_isaac_sim_is_started(overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        generate.generate(
            load_config(generate.GenerateConfig, None, [*overrides, "isaac_path=/nowhere"]),
            lambda words: None,
            lambda words: 0,
        )


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("variants.generator=transfer25-tinny", "--generator 'transfer25-tinny': no such generator; did you mean"),
        ("variants.recipe=nope", "config 'recipe/nope': no such file"),
        ("variants.prompts=nope.txt", "nope.txt"),
        ("variants.gate=nope.yaml", "nope.yaml"),
        ("variants.overrides=[sead=3]", "unknown key 'sead'; did you mean 'seed'"),
        ("variants.generator=transfer25-2b", "no weights of transfer25-2b here; `cosmos-engine weights download`"),
        ("isaac_path=/nowhere", "isaac_path /nowhere: no Isaac Sim there"),
    ],
)
def test_variants_are_checked_before_hours_of_recording(isaac, isaac_sim: Path, tmp_path: Path, override, line) -> None:
    fake_isaac(isaac_sim, WELL)
    words = [f"out={tmp_path / 'out'}", f"isaac_path={isaac_sim}", f"variants.weights={tmp_path / 'weights'}"]
    if "2b" not in override:
        words.pop()
    with pytest.raises(InputError, match=line):
        isaac("generate", "franka_pick_place", *words, override)
    assert not (isaac_sim / "how").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["shifts.table_texture.scale=[1,2]"], "expected at least one folder of `cosmos-engine train`"),
        (["run", "--shifts", "tabel_texture"], "shift 'tabel_texture': unknown; did you mean 'table_texture'"),
        (["run", "--strengths", "defualt"], "config 'shifts/defualt': .*did you mean 'shifts/default'"),
        (["run", "shifts.table_textur.scale=[1,2]"], "unknown key 'shifts.table_textur.scale'; did you mean"),
        (["run", "shifts.camera_pose.turn_deg=[5,1]"], "camera_pose.turn_deg: expected two numbers in"),
        (["run", "--config", "franka"], "config 'isaac/franka': .*did you mean 'isaac/franka_pick_place'"),
        (["run"], "run: holds no policy"),
    ],
)
def test_benchmark_refuses_before_isaac_sim_is_started(isaac, words: list[str], line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line):
        isaac("benchmark", *words, "--isaac-path", "/nowhere", "--out", tmp_path / "bench")
    assert not (tmp_path / "bench").exists()


def test_selfcheck_wants_a_new_folder(isaac, isaac_sim: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "old").write_text("")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        isaac("selfcheck", "--isaac-path", isaac_sim, "--out", tmp_path / "used")
    fake_isaac(isaac_sim, WELL)
    assert isaac("selfcheck", "--isaac-path", isaac_sim, "--out", tmp_path / "new") == 0
    fake_isaac(isaac_sim, '{"exit_code": 1, "error": ""}')
    assert isaac("selfcheck", "--isaac-path", isaac_sim, "--out", tmp_path / "new") == 1
    assert json.loads((isaac_sim / "options").read_text()) == {"folder": str(tmp_path / "new")}


def test_pictures_show_the_recorded_frame_beside_its_variants(
    isaac, small_dataset: Path, tmp_path: Path, capsys
) -> None:
    assert isaac("pictures", small_dataset, "--out", tmp_path / "shown", "--demo", 2) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["camera"], line["variant"]) for line in lines] == [
        (camera, variant) for camera in ("agentview", "wrist") for variant in range(3)
    ]
    assert all(Path(line["picture"]).is_file() for line in lines)
    assert isaac("pictures", small_dataset, "--out", tmp_path / "shown", "--demo", 2, "--variants", 1) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    with pytest.raises(InputError, match="no demo 99"):
        isaac("pictures", small_dataset, "--out", tmp_path / "shown", "--demo", 99)


def test_engine_starts_without_isaac_sims_variables() -> None:
    from isaac_ext.engine import engine_environment

    kept = engine_environment({"PYTHONPATH": "/isaac", "LD_LIBRARY_PATH": "/isaac", "HOME": "/home/x", "LANG": "C"})
    assert kept["HOME"] == "/home/x"
    assert not {"PYTHONPATH", "LD_LIBRARY_PATH"} & set(kept)
    assert os.environ is not kept
