"""The page shows what it was given, is whole in itself, and trusts no text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cosmos_engine.data.episode import Episode
from cosmos_engine.errors import InputError
from cosmos_engine.report import (
    Figure,
    Provenance,
    RecordedDemo,
    ReportInput,
    Variant,
    VariantGroup,
    build_report,
    encode_mp4,
    write_report,
)
from cosmos_engine.report.benchmark import Benchmark, Cell

PROMPT = 'a ball on a <b>marble</b> table & "warm" light'


class Page(HTMLParser):
    """Every start tag of a page with its attributes, and its text outside style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"style", "script"}:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text = " ".join([*self.text.split(), *data.split()])

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def decoded(uri: str | None, media_type: str) -> bytes:
    assert uri is not None
    prefix = f"data:{media_type};base64,"
    assert uri.startswith(prefix)
    return base64.b64decode(uri[len(prefix) :], validate=True)


def cells(folder: Path) -> tuple[Cell, ...]:
    videos = tuple(folder / f"bc_vanilla_{seed}.mp4" for seed in range(1000, 1006))
    for video in videos[1:]:
        video.write_bytes(encode_mp4(np.zeros((3, 16, 16, 3), np.uint8), 20.0))
    outcomes = {1000: "success", 1001: "failure"}
    return (
        Cell("bc", "vanilla", 10, 7, 0, 0.7, (0.397, 0.892), 61.2, outcomes, videos),
        Cell("bc", "table_texture", 5, 0, 5, None, None, None, {}, ()),
    )


@pytest.fixture
def report(episode: Episode, tmp_path: Path) -> ReportInput:
    source = {camera: passes.rgb for camera, passes in episode.cameras.items()}
    variants = (
        Variant(1, {camera: 255 - rgb for camera, rgb in source.items()}, PROMPT, 41, "transfer25-tiny", True),
        Variant(
            2, {camera: rgb // 2 for camera, rgb in source.items()}, "dark", 42, "transfer25-tiny", False, "too dark"
        ),
    )
    controls = {"agentview": {"edge": source["agentview"], "seg": source["agentview"]}}
    return ReportInput(
        title="Roll",
        subtitle="One ball.",
        created="2026-11-21",
        figures=(Figure("1", "demo recorded", "12 control steps"),),
        demos=(RecordedDemo(3, episode, controls),),
        groups=(VariantGroup(3, 20.0, source, variants),),
        benchmarks=(Benchmark("roll", "2026-11-21", {}, cells(tmp_path)),),
        provenance=Provenance({"torch": "2.13.0"}, ("cosmos-engine record",), "size: 64\n", "broken", "demo_3: action"),
    )


def test_the_page_asks_for_nothing_outside_itself(report: ReportInput) -> None:
    page = Page(build_report(report))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]
    assert not page.all("link")
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    script_hash = base64.b64encode(hashlib.sha256(page.raw["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{script_hash}'" in policy


def test_every_picture_and_video_decodes(report: ReportInput) -> None:
    page = Page(build_report(report))
    # Three passes of two cameras, and two controls of one.
    assert len(page.all("img")) == 8
    for image in page.all("img"):
        assert Image.open(io.BytesIO(decoded(image["src"], "image/webp"))).size[1] == 48
    lengths = []
    for video in page.all("video"):
        with av.open(io.BytesIO(decoded(video["src"], "video/mp4"))) as container:
            lengths.append(sum(1 for _ in container.decode(video=0)))
    # The head, source and two variants for two cameras, and the rollouts that are there.
    assert lengths == [12] * (1 + 3 * 2) + [3] * 3


def test_variants_show_prompt_seed_model_verdict_and_note(report: ReportInput) -> None:
    text = Page(build_report(report)).text
    for shown in (
        "recorded",
        "variant 1",
        "seed 41",
        "transfer25-tiny",
        "accepted",
        "rejected",
        "too dark",
        "agentview",
    ):
        assert shown in text


def test_text_from_outside_is_never_markup(report: ReportInput) -> None:
    html = build_report(dataclasses.replace(report, title="</title><script>alert(1)</script>"))
    assert "<script>alert" not in html
    assert "<b>marble" not in html
    assert len(Page(html).all("script")) == 1


def test_the_legend_names_what_is_seen_and_nothing_else(report: ReportInput) -> None:
    text = Page(build_report(report)).text
    for shown in ("arm", "panda", "robot", "ball", "manipulated", "wall", "scene"):
        assert shown in text
    assert "lamp" not in text


def test_success_table_keeps_crashes_out_of_the_rate(report: ReportInput) -> None:
    html = build_report(report)
    text = Page(html).text
    for shown in ("7/10", "70 %", "40–89 %", "0/0", "no trial finished", "61"):
        assert shown in text
    assert "left: 39.70%; width: 49.50%" in html
    # One point for two cells: a cell without a finished trial has no bar, not a bar at 0.
    assert html.count('class="point"') == 1


def test_rollouts_are_captioned_limited_and_missed_when_absent(report: ReportInput) -> None:
    text = Page(build_report(report)).text
    assert "seed 1000: video not found: bc_vanilla_1000.mp4" in text
    assert "seed 1001 failure" in text
    assert "2 more rollout videos" in text


def test_benchmarks_of_one_task_share_a_table(report: ReportInput) -> None:
    other = Benchmark("roll", "2026-11-22", {}, (Cell("dppo", "vanilla", 4, 4, 0, 1.0, (0.51, 1.0), 50.0, {}, ()),))
    page = Page(build_report(dataclasses.replace(report, benchmarks=(*report.benchmarks, other))))
    assert len(page.all("table")) == 1
    assert [row["scope"] for row in page.all("th") if "scope" in row] == ["rowgroup", "row", "row", "rowgroup", "row"]


def test_provenance_shows_the_certificates_state(report: ReportInput) -> None:
    text = Page(build_report(report)).text
    for shown in ("certificate broken", "demo_3: action", "cosmos-engine record", "torch", "2.13.0", "size: 64"):
        assert shown in text


def test_an_empty_report_has_no_empty_sections() -> None:
    page = Page(build_report(ReportInput("Nothing yet", "", "2026-11-21")))
    assert [section["id"] for section in page.all("section")] == ["provenance"]
    assert "certificate not checked" in page.text


def test_the_same_input_gives_the_same_page(report: ReportInput) -> None:
    assert build_report(report) == build_report(report)


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    report = ReportInput("Nothing yet", "", "2026-11-21")
    write_report(report, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="cannot be written"):
        write_report(report, tmp_path / "report.html" / "report.html")


def test_frame_counts_that_differ_are_named(episode: Episode) -> None:
    source = {"agentview": episode.cameras["agentview"].rgb}
    short = Variant(1, {"agentview": source["agentview"][:-1]}, "", 0, "tiny")
    with pytest.raises(InputError, match="demo 3 variant 1 camera 'agentview': expected 12 frames, got 11"):
        VariantGroup(3, 20.0, source, (short,))
    with pytest.raises(InputError, match="expected cameras"):
        VariantGroup(3, 20.0, source, (dataclasses.replace(short, cameras={}),))
    with pytest.raises(InputError, match="control 'edge'"):
        RecordedDemo(3, episode, {"agentview": {"edge": source["agentview"][:-1]}})
    with pytest.raises(InputError, match="camera 'side'"):
        RecordedDemo(3, episode, {"side": {}})
