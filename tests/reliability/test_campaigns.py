"""Short versions of the campaigns: nothing damaged is taken for right, and no kill loses anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGNS = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability"


def _run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(CAMPAIGNS / name), *words], capture_output=True, text=True)


def test_damaged_files_are_refused_or_right(tmp_path: Path) -> None:
    ended = _run("fuzz.py", "--inputs", "300", "--seed", "1", "--json", str(tmp_path / "found.json"))
    assert ended.returncode == 0, ended.stdout
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert sum(row["inputs"] for row in rows) >= 300
    assert all(row.get("refused", 0) > row["inputs"] / 4 for row in rows)


def test_a_reader_that_takes_wrong_for_right_is_found(tmp_path: Path) -> None:
    """The campaign itself can fail: a reader without any check is caught."""
    script = tmp_path / "blind.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(CAMPAIGNS)!r})\n"
        "import fuzz\n"
        "make = lambda path: path.write_bytes(bytes(range(64)))\n"
        "read = lambda path: fuzz.digest(path.read_bytes()[40])\n"
        "fuzz.TARGETS.clear(); fuzz.TARGETS['blind'] = fuzz.Target(make, read)\n"
        "sys.argv = ['fuzz.py', '--inputs', '60']\n"
        "sys.exit(fuzz.main())\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "different content" in ended.stdout
    assert "IndexError" in ended.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts small disks: needs root and Linux")
def test_full_and_read_only_disks_lose_nothing() -> None:
    ended = _run("disks.py", "--rounds", "1")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_kills_lose_nothing_and_change_no_byte() -> None:
    ended = _run("kills.py", "--kills", "9")
    assert ended.returncode == 0, ended.stdout
