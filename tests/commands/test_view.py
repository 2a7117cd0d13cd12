"""`cosmos-engine view` shows the demos that were asked for, and says what it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import Dataset
from cosmos_engine.errors import InputError
from cosmos_engine.view import EpisodeImages, VariantGroups, collect_report, selected_demos


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ("0-2", [0, 1, 2]),
        ("7", [7]),
        ("9, 0-1,1", [0, 1, 9]),
        ("all", [0, 1, 2, 7, 9]),
        ("3-8", [7]),
        ("8-1000000000000", [9]),
    ],
)
def test_demos_are_chosen_by_number_and_range(words: str, chosen: list[int]) -> None:
    assert selected_demos(words, [0, 1, 2, 7, 9]) == chosen


@pytest.mark.parametrize("words", ["", "x", "1-", "-1", "1..3", "3-8,4", "2-1", "10", "0,,1"])
def test_what_names_no_demo_is_refused(words: str) -> None:
    with pytest.raises(InputError, match="--demos: "):
        selected_demos(words, [0, 1, 2, 7, 9])


def test_the_first_twelve_demos_are_shown_and_the_rest_is_said(command, small_dataset: Path, tmp_path: Path) -> None:
    ran = command("view", small_dataset, "--out", tmp_path / "r.html")
    assert ran.out[0] == f"report: {tmp_path}/r.html"
    assert ran.out[1].startswith("12 of 16 demos, ")
    assert ran.out[1].endswith("--demos shows others, or all")
    page = (tmp_path / "r.html").read_text()
    assert "<strong>12 of 16 demos are shown</strong>, the first ones" in page
    assert page.count('data-mark="') == 12 * 3 - 1
    assert 'data-mark="11 2"' in page
    assert 'data-mark="12 0"' not in page


def test_chosen_demos_are_shown_also_those_that_were_left_out(command, small_dataset: Path, tmp_path: Path) -> None:
    ran = command("view", small_dataset, "--demos", "1,14-15", "--out", tmp_path / "r.html")
    assert ran.out[1].startswith("3 of 16 demos, ")
    page = (tmp_path / "r.html").read_text()
    assert [f'data-mark="{mark}"' in page for mark in ("1 1", "1 2", "14 2", "15 0", "0 0")] == [
        True,
        False,
        True,
        False,
        False,
    ]
    for shown in ("wrist/least_motion 0.01, expected at least 0.10", "whole demo", "look 14 2", "image/jpeg"):
        assert shown in page
    # Counted over all demos, not only those shown: 14 x 2 + 1 variants, of which half took two tries.
    assert "29 of 30 variants (96.7 %) are in the dataset, after 44 tries" in page


def test_certificate_and_signature_are_stated(
    command, small_dataset: Path, small_recording: Path, tmp_path: Path
) -> None:
    command("keygen", tmp_path / "mine")
    command("sign", small_dataset, "--key", tmp_path / "mine")
    view = ["view", small_dataset, "--demos", "0", "--out", tmp_path / "r.html"]
    sha256 = json.loads((small_dataset / "certificate.json").read_text())["sha256"]
    assert command(*view).code == 0
    page = (tmp_path / "r.html").read_text()
    for shown in ("certificate intact", "compared with itself", "signed, not checked", sha256[:16]):
        assert shown in page
    command(*view, "--recording", small_recording, "--public-key", tmp_path / "mine.pub")
    page = (tmp_path / "r.html").read_text()
    for shown in ("compared with the recording", "signature valid", "mine.pub"):
        assert shown in page
    (small_dataset / "rejected.json").write_text("[]")
    command(*view)
    page = (tmp_path / "r.html").read_text()
    for shown in ("certificate broken", "rejected.json: changed"):
        assert shown in page


def test_a_dataset_of_an_older_version_is_shown_unchecked(command, small_dataset: Path, tmp_path: Path) -> None:
    certificate = json.loads((small_dataset / "certificate.json").read_text())
    (small_dataset / "certificate.json").write_text(json.dumps({**certificate, "schema": 1}))
    assert command("view", small_dataset, "--demos", "0", "--out", tmp_path / "r.html").code == 0
    page = (tmp_path / "r.html").read_text()
    for shown in ("certificate not checked", "schema 1: made by another version", "certificate unread"):
        assert shown in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--demos", "99"], "--demos: no demo 99; there are 0 to 15"),
        (["--demos", "x"], "--demos: expected numbers and ranges as in 0-11,40 or 'all', got 'x'"),
        (["--recording", "{tmp}/gone"], "gone: no recording here"),
        (["--benchmark", "{tmp}/gone"], "gone: cannot be read as a benchmark"),
        (["--public-key", "{tmp}/gone"], "gone: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    command, small_dataset: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    ran = command("view", small_dataset, *(word.format(tmp=tmp_path) for word in words), "--out", tmp_path / "r.html")
    assert ran.code == 2
    assert message in ran.error
    assert not list(tmp_path.glob("*r.html*"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: (path / "rejected.json").write_text('[{"variant": 1'),
            "rejected.json: truncated or damaged JSON",
        ),
        (lambda path: (path / "rejected" / "000001_002_wrist.jpg").unlink(), "000001_002_wrist.jpg: cannot be read"),
        (
            lambda path: (path / "data" / "wrist_image" / "0.0.0.0").write_bytes(b"x"),
            "storage chunk is truncated or damaged",
        ),
    ],
)
def test_damage_is_one_line_and_an_older_report_stays(
    command, small_dataset: Path, tmp_path: Path, damage, message: str
) -> None:
    (tmp_path / "r.html").write_text("older")
    damage(small_dataset)
    ran = command("view", small_dataset, "--demos", "0-1", "--out", tmp_path / "r.html")
    assert ran.code == 2
    assert message in ran.error
    assert (tmp_path / "r.html").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir() if "r.html" in path.name] == ["r.html"]


def test_images_are_read_when_they_are_asked_for(small_dataset: Path) -> None:
    dataset = Dataset(small_dataset)
    images = EpisodeImages(dataset, 4)
    assert list(images) == ["agentview", "wrist"]
    np.testing.assert_array_equal(images["wrist"], dataset.episode(4)["wrist_image"])
    with pytest.raises(KeyError):
        images["side"]


def test_groups_are_a_sequence_of_the_shown_demos(small_dataset: Path) -> None:
    groups = collect_report(small_dataset, None, (), "1,15").groups
    assert isinstance(groups, VariantGroups)
    assert [group.demo for group in groups] == [1, 15]
    assert groups[-1].rejections[0].entry.reason == "short"
    assert [group.demo for group in groups[:1]] == [1]
    with pytest.raises(IndexError):
        groups[2]
