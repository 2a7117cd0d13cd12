from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_engine.data import Recording, RecordingWriter, verify_recording
from cosmos_engine.errors import InputError


def test_sound_recording_is_reported_so(recording_folder: Path, make_episode) -> None:
    report = verify_recording(recording_folder)
    assert report.sound
    assert (report.episodes, report.intact, report.broken) == (3, 3, ())
    assert report.control_steps == sum(make_episode(i).length for i in range(3))
    assert (report.writer, report.leftovers) == (None, ())


def test_broken_episode_is_named_and_the_others_are_intact(recording_folder: Path) -> None:
    path = Recording(recording_folder).path(1)
    path.write_bytes(path.read_bytes()[:3000])
    report = verify_recording(recording_folder)
    assert not report.sound
    assert (report.episodes, report.intact) == (3, 2)
    assert len(report.broken) == 1
    assert "episode_000001.hdf5: truncated, damaged or changed" in report.broken[0]


def test_index_that_lags_is_named(recording_folder: Path, env_args, make_episode) -> None:
    index = (recording_folder / "demos.hdf5").read_bytes()
    with RecordingWriter(recording_folder, env_args) as writer:
        writer.append(make_episode(3))
    (recording_folder / "demos.hdf5").write_bytes(index)
    assert "demos.hdf5: lists 3 of 4 episodes" in verify_recording(recording_folder).broken[0]


def test_writer_at_work_and_leftovers_are_told(recording_folder: Path, env_args) -> None:
    with RecordingWriter(recording_folder, env_args):
        leftover = recording_folder / "episodes" / ".episode_000003.hdf5.tmp-1234"
        leftover.write_bytes(b"half")
        report = verify_recording(recording_folder)
    assert report.writer is not None
    assert report.writer.startswith("process ")
    assert report.leftovers == (str(leftover),)
    assert report.sound


def test_missing_recording_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recording here"):
        verify_recording(tmp_path)
