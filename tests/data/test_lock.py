from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cosmos_engine.data.lock import WriterLock, take_folder, writer_of
from cosmos_engine.errors import InputError


def test_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing here"):
        WriterLock(tmp_path)
    assert str(os.getpid()) in (writer_of(tmp_path) or "")
    lock.release()


def test_released_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    assert writer_of(tmp_path) is None
    WriterLock(tmp_path).release()


def test_lock_of_a_killed_writer_is_taken_over(tmp_path: Path, kill_after) -> None:
    def hold_and_die() -> None:
        WriterLock(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)

    assert kill_after(60, hold_and_die)
    assert list(tmp_path.iterdir())
    assert writer_of(tmp_path) is None
    WriterLock(tmp_path).release()


def test_taken_folder_is_made_and_cleared_of_what_a_killed_writer_left(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "bc"
    take_folder(folder).release()
    left, of_another = folder / ".state.tmp-0123abcd", folder / "inner" / ".state.tmp-0123abcd"
    of_another.parent.mkdir()
    for file in (left, of_another, folder / "state"):
        file.touch()
    lock = take_folder(folder)
    assert sorted(folder.iterdir()) == [folder / ".writer.lock", folder / "inner", folder / "state"]
    assert of_another.exists()
    left.touch()
    with pytest.raises(InputError, match="is writing here"):
        take_folder(folder)
    assert left.exists()
    lock.release()
