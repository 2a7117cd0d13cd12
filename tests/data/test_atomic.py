from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cosmos_engine.data.atomic import atomic_file, remove_temporaries, temporaries, write_file
from cosmos_engine.errors import InputError


def test_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_file(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:  # noqa: PT012 (the body is the subject)
        temporary.write_bytes(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_one_line_that_names_the_file(tmp_path: Path, file_size_limit) -> None:
    path = tmp_path / "model.bin"
    with file_size_limit(1000), pytest.raises(InputError, match=r"model\.bin: cannot be written: File too large"):
        write_file(path, bytes(2000))
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write_file(tmp_path / "absent" / "file", b"")


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path, kill_after) -> None:
    def write_and_die() -> None:
        with atomic_file(tmp_path / "part") as part:
            part.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert kill_after(60, write_and_die)
    assert len(temporaries(tmp_path)) == 1
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []
