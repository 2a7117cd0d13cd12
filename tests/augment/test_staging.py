import numpy as np
import pytest

from cosmos_engine.augment.staging import (
    Outcome,
    OutcomeJournal,
    TriedVariant,
    Unit,
    forget_tries,
    keep_try,
    read_try,
    rejected_entries,
    try_file,
)
from cosmos_engine.data.rejected import RejectedVariant, Try
from cosmos_engine.errors import InputError

UNIT = Unit(3, 1, {1: "a", 2: "b"})
REJECTED = RejectedVariant(3, 2, "gate", "b", (Try(4, "default", ("x/y 1",), {"x/y": 1.0}),), {"a/b": "rejected/z.jpg"})


def tried() -> dict[int, TriedVariant]:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8) for name in ("agent/view", "hand")}
    return {
        1: TriedVariant(
            Try(7, "default", (), {"hand/iou": 0.1 + 0.2}), images=images, look=np.ones((4, 3), np.float32)
        ),
        2: TriedVariant(Try(8, "default", ("hand/iou 0.1",), {}), "gate", strips={"hand": b"\xff\xd8jpeg"}),
    }


def test_a_try_is_read_as_it_was_kept(tmp_path):
    file = try_file(tmp_path / "work", UNIT, 2)
    made = tried()
    keep_try(file, made)
    read = read_try(file)
    assert read is not None
    assert [read[v].tried for v in (1, 2)] == [made[v].tried for v in (1, 2)]
    assert (read[1].accepted, read[2].accepted) == (True, False)
    assert all((read[1].images[name] == frames).all() for name, frames in made[1].images.items())
    assert (read[1].look == made[1].look).all()
    assert (read[2].reason, read[2].strips, read[2].images) == ("gate", {"hand": b"\xff\xd8jpeg"}, {})


def test_a_file_that_is_cut_anywhere_counts_as_not_made(tmp_path):
    file = try_file(tmp_path, UNIT, 0)
    assert read_try(file) is None
    keep_try(file, tried())
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        assert read_try(file) is None


def test_only_the_tries_of_the_demo_are_forgotten(tmp_path):
    for demo in (3, 4):
        keep_try(try_file(tmp_path, Unit(demo, 1, {1: ""}), 0), tried())
    forget_tries(tmp_path, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["000004_001_00.safetensors"]


def test_outcomes_are_read_as_they_were_written_wherever_the_last_line_is_cut(tmp_path):
    outcomes = [Outcome(3, 1, 5, {"x/y": 1}, (REJECTED,)), Outcome(4, 2, 2)]
    journal = OutcomeJournal(tmp_path)
    for outcome in outcomes:
        journal.append(outcome)
    assert OutcomeJournal(tmp_path).outcomes == tuple(outcomes)
    file = tmp_path / "outcomes.jsonl"
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        again = OutcomeJournal(tmp_path)
        assert again.outcomes == tuple(outcomes[: int(length >= first)])
        again.append(outcomes[len(again.outcomes)])
        assert file.read_bytes() == whole[: len(file.read_bytes())]


def test_a_line_that_is_damaged_is_named(tmp_path):
    (tmp_path / "outcomes.jsonl").write_text('{"demo": 1}\n')
    with pytest.raises(InputError, match=r"outcomes\.jsonl: damaged"):
        OutcomeJournal(tmp_path)


def test_rejected_entries_are_sorted():
    outcomes = [Outcome(3, rejected=(REJECTED, RejectedVariant(3, 0, "short"))), Outcome(4)]
    assert [(e["source_demo"], e["variant"]) for e in rejected_entries(outcomes)] == [(3, 0), (3, 2)]
