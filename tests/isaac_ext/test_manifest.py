"""The manifest describes what is in the repository, and Isaac Sim's Python can import it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# An interpreter that has what Isaac Sim brings and nothing more of ours: any other import fails.
IMPORT_WITH_NUMPY_ONLY = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    allowed = set(sys.stdlib_module_names) | {"numpy", "isaac_ext", "cosmos_engine"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import numpy
import isaac_ext
ids = isaac_ext.InstanceIds()
print(ids.frame(numpy.array([[0, 2]], numpy.uint32), {"idToLabels": {2: "/World/cube"}}).tolist())
"""


def manifest() -> dict[str, Any]:
    return tomllib.loads((ROOT / "extension.toml").read_text(encoding="utf-8"))


def test_manifest_and_distribution_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert manifest()["package"]["version"] == project["version"]


def test_manifest_names_modules_that_exist() -> None:
    assert manifest()["python"]["module"]
    for module in manifest()["python"]["module"]:
        assert (ROOT / (module["name"].replace(".", "/") + ".py")).is_file()


def test_manifest_has_the_line_that_the_install_fills_in() -> None:
    assert manifest()["settings"]["exts"]["cosmos.engine"]["engine_python"] == ""
    assert (ROOT / "extension.toml").read_text(encoding="utf-8").count('engine_python = ""') == 1


def test_tests_of_the_manifest_are_there() -> None:
    for test in manifest()["test"]:
        for pattern in test["pythonTests"]["include"]:
            assert (ROOT / (pattern.removesuffix(".*").replace(".", "/") + ".py")).is_file()


def test_manifest_asks_for_no_archive_extension() -> None:
    assert not {"omni.kit.pip_archive", "omni.isaac.ml_archive"} & set(manifest()["dependencies"])


def test_extension_imports_with_numpy_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITH_NUMPY_ONLY], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[[0, 1]]"), done.stderr
