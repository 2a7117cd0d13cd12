"""What was rejected is read as it was written, and whatever else stands there is one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cosmos_engine.data.rejected import RejectedVariant, Try, read_rejected, rejected_digests
from cosmos_engine.errors import InputError

ENTRY: dict[str, Any] = {
    "source_demo": 3,
    "variant": 2,
    "prompt": "a kitchen",
    "reason": "gate",
    "tries": [{"seed": 1, "recipe": "default", "failures": ["a 0.1, expected b"], "measures": {"external/iou": 0.1}}],
    "strips": {"external": "rejected/000003_002_external.jpg"},
}


def test_nothing_was_rejected_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_rejected(tmp_path) == ()
    assert rejected_digests(tmp_path) == (None, {})


def test_entries_are_read_in_order_with_what_may_be_absent(tmp_path: Path) -> None:
    left_out = {"source_demo": 5, "variant": 0, "reason": "no success"}
    (tmp_path / "rejected.json").write_text(json.dumps([ENTRY, left_out]))
    attempt = Try(1, "default", ("a 0.1, expected b",), {"external/iou": 0.1})
    assert read_rejected(tmp_path) == (
        RejectedVariant(3, 2, "gate", "a kitchen", (attempt,), {"external": "rejected/000003_002_external.jpg"}),
        RejectedVariant(5, 0, "no success"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"source_demo": 3', "truncated or damaged JSON"),
        ("{}", "expected a JSON list, got dict"),
        ("[5]", "entry 0: a value of the wrong type"),
        (json.dumps([ENTRY, {"variant": 1}]), "entry 1: no key 'source_demo'"),
        (json.dumps([ENTRY | {"variant": -1}]), "entry 0: a value of the wrong type: expected 0 or more, got -1"),
        (json.dumps([ENTRY | {"variant": True}]), "expected a whole number, got True"),
        (json.dumps([ENTRY | {"reason": None}]), "expected text, got None"),
        (json.dumps([ENTRY | {"tries": [{"measures": {"a": float("nan")}}]}]), "expected a finite number, got nan"),
        (json.dumps([ENTRY | {"tries": ["x"]}]), "a value of the wrong type"),
        (json.dumps([ENTRY | {"strips": {"a": "rejected/../../x.jpg"}}]), "expected a file rejected/NAME.jpg"),
        (json.dumps([ENTRY | {"strips": {"a": "/etc/x.jpg"}}]), "expected a file rejected/NAME.jpg"),
    ],
)
def test_damaged_entries_are_one_line_that_names_them(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rejected.json").write_text(text)
    with pytest.raises(InputError) as refusal:
        read_rejected(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path / "rejected.json"))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_digests_are_those_of_the_files_and_leave_temporaries_out(tmp_path: Path) -> None:
    (tmp_path / "rejected").mkdir()
    for name, content in (("b.jpg", b"b"), ("a.jpg", b"a"), (".a.jpg.tmp-12", b"c")):
        (tmp_path / "rejected" / name).write_bytes(content)
    (tmp_path / "rejected.json").write_bytes(b"[]")
    sha256, strips = rejected_digests(tmp_path)
    assert sha256 == hashlib.sha256(b"[]").hexdigest()
    assert list(strips.items()) == [(f"rejected/{n}.jpg", hashlib.sha256(n.encode()).hexdigest()) for n in "ab"]
