"""The page shows what it was given, is whole in itself, and trusts no text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import weakref
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cosmos_engine.data.episode import Episode
from cosmos_engine.data.rejected import RejectedVariant, Try
from cosmos_engine.data.signature import SignatureState
from cosmos_engine.errors import InputError
from cosmos_engine.report import (
    Bound,
    Figure,
    MeasureValues,
    Outcome,
    Provenance,
    RecordedDemo,
    Rejection,
    ReportInput,
    Selection,
    Variant,
    VariantGroup,
    build_report,
    encode_mp4,
    write_report,
)
from cosmos_engine.report.benchmark import Benchmark, Cell
from cosmos_engine.report.variant_views import group_view

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
        Variant(
            1,
            {camera: 255 - rgb for camera, rgb in source.items()},
            PROMPT,
            41,
            "transfer25-tiny",
            True,
            tries=2,
            recipe="stricter",
            measures={"agentview/iou": 0.8125, "cross_view/color": 3.0},
        ),
        Variant(
            2,
            {camera: rgb // 2 for camera, rgb in source.items()},
            "dark",
            42,
            "transfer25-tiny",
            False,
            note="too dark",
        ),
    )
    strip = tmp_path / "000003_003_agentview.jpg"
    Image.fromarray(np.concatenate(list(source["agentview"][:4]), axis=1)).save(strip)
    failed = Try(7, "default", ("agentview/iou 0.41, expected at least 0.60",), {"agentview/iou": 0.41})
    last = Try(8, "stricter", ("agentview/<i>iou</i> 0.55, expected at least 0.60",), {"agentview/iou": 0.55})
    rejections = (
        Rejection(RejectedVariant(3, 3, "gate", PROMPT, (failed, last)), {"agentview": strip}),
        Rejection(RejectedVariant(3, 4, "excluded")),
    )
    controls = {"agentview": {"edge": source["agentview"], "seg": source["agentview"]}}
    return ReportInput(
        title="Roll",
        subtitle="One ball.",
        created="2026-11-21",
        figures=(Figure("1", "demo recorded", "12 control steps"),),
        demos=(RecordedDemo(3, episode, controls),),
        groups=(VariantGroup(3, 20.0, source, variants, rejections),),
        selection=Selection((3,), 20),
        outcome=Outcome(
            2,
            {1: 1, 2: 1},
            5,
            {"gate": 1, "excluded": 1},
            {"short": 4},
            {"iou": 2},
            (MeasureValues("agentview/iou", (0.8125,), (0.41, 0.55), Bound(0.6, True)),),
        ),
        list_comment="roll.zarr <b>",
        benchmarks=(Benchmark("roll", "2026-11-21", {}, cells(tmp_path)),),
        provenance=Provenance({"torch": "2.13.0"}, ("cosmos-engine record",), "size: 64\n", "broken", "demo_3: action"),
    )


def test_the_page_asks_for_nothing_outside_itself(report: ReportInput) -> None:
    page = Page(build_report(report))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "data-src"):
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
    # Three passes of two cameras, and two controls of one; then the strip of what was rejected.
    assert len(page.all("img")) == 8 + 1
    for image in page.all("img"):
        media_type = "image/jpeg" if image.get("decoding") else "image/webp"
        assert Image.open(io.BytesIO(decoded(image["src"], media_type))).size[1] == 48
    lengths = []
    for video in page.all("video"):
        assert "src" not in video  # the script gives it one near the screen: browsers refuse many players at once
        with av.open(io.BytesIO(decoded(video["data-src"], "video/mp4"))) as container:
            lengths.append(sum(1 for _ in container.decode(video=0)))
    # The head, source and two variants for two cameras, and the rollouts that are there.
    assert lengths == [12] * (1 + 3 * 2) + [3] * 3
    stills = [video["poster"] for video in page.all("video") if "poster" in video]
    assert len(stills) == 1 + 3 * 2
    for still in stills:
        Image.open(io.BytesIO(decoded(still, "image/webp"))).verify()


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
        "2nd try",
        "recipe stricter",
        "0.8125",
    ):
        assert shown in text


def test_rejected_variants_show_reason_tries_and_the_last_failures(report: ReportInput) -> None:
    text = Page(build_report(report)).text
    for shown in ("Not in the dataset", "2 tries", "last seed 8", "0.55, expected at least 0.60", "excluded"):
        assert shown in text
    assert "0.41, expected" not in text


def test_source_and_variants_can_be_marked_and_what_was_rejected_cannot(report: ReportInput) -> None:
    page = Page(build_report(report))
    assert [tile["data-mark"] for _, tile in page.tags if "data-mark" in tile] == ["3 0", "3 1", "3 2"]
    (comment,) = [tag["data-list-comment"] for _, tag in page.tags if "data-list-comment" in tag]
    assert comment == "roll.zarr <b>"
    # One tile of each demo is reached by the tab key, the others by arrows.
    assert [tile["tabindex"] for _, tile in page.tags if "data-mark" in tile] == ["0", "-1", "-1"]


def test_yield_reasons_and_histograms_are_shown(report: ReportInput) -> None:
    html = build_report(report)
    text = Page(html).text
    for shown in (
        "2 of 3 variants (66.7 %) are in the dataset, after 5 tries: 40.0 % of the tries made a variant.",
        "1 accepted at try 2",
        "1 never passed the gate",
        "1 variant excluded by a person",
        "4 demos left out whole: short.",
        "median 0.55",
        "at least 0.6",
    ):
        assert shown in text
    page = Page(html)
    assert len([bar for bar in page.all("rect") if bar["class"] == "accepted" and float(bar["height"] or 0) > 0]) == 1
    assert len([bar for bar in page.all("rect") if bar["class"] == "rejected" and float(bar["height"] or 0) > 0]) == 2
    assert len(page.all("line")) == 1


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        (Selection((3,), 20), "1 of 20 demos are shown , the first ones, to keep the page small."),
        (Selection((3,), 20, chosen=True), "1 of 20 demos are shown , to keep the page small."),
        (Selection((3,), 1), "The one demo is shown."),
    ],
)
def test_what_is_not_shown_is_said(report: ReportInput, selection: Selection, shown: str) -> None:
    assert shown in Page(build_report(dataclasses.replace(report, selection=selection))).text


def test_a_demo_that_was_left_out_whole_needs_no_source(report: ReportInput) -> None:
    left_out = VariantGroup(9, 1.0, {}, (), (Rejection(RejectedVariant(9, 0, "no success")),))
    page = Page(build_report(dataclasses.replace(report, groups=(left_out, *report.groups))))
    assert "demo 9 Not in the dataset whole demo no success" in page.text
    with pytest.raises(InputError, match="demo 9: a variant group needs a source camera or a rejection"):
        VariantGroup(9, 1.0, {}, ())


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("none", "not signed"),
        ("not checked", "signed, not checked"),
        ("valid", "signature valid"),
        ("invalid", "signature invalid"),
    ],
)
def test_provenance_shows_the_signatures_state(report: ReportInput, state: SignatureState, shown: str) -> None:
    provenance = dataclasses.replace(report.provenance, signature=state, signature_note="by mine.pub")
    text = Page(build_report(dataclasses.replace(report, provenance=provenance))).text
    assert f"{shown} by mine.pub" in text


def test_each_demo_is_read_when_it_is_its_turn_and_then_let_go(report: ReportInput, tmp_path: Path) -> None:
    (group,) = report.groups
    alive: weakref.WeakSet[VariantGroup] = weakref.WeakSet()
    most = 0

    class Lazy(Sequence[VariantGroup]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            nonlocal most
            if index == len(self):
                raise IndexError(index)
            made = dataclasses.replace(group, demo=index)
            alive.add(made)
            most = max(most, len(alive))
            return made

    write_report(dataclasses.replace(report, groups=Lazy(), benchmarks=()), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("data-group") >= 5
    assert most <= 3


def test_text_from_outside_is_never_markup(report: ReportInput) -> None:
    html = build_report(dataclasses.replace(report, title="</title><script>alert(1)</script>"))
    assert "<script>alert" not in html
    assert "<b>marble" not in html
    assert "<i>iou" not in html
    assert "<b>" not in html.replace("<b>1</b>", "")
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
    page = Page(build_report(dataclasses.replace(report, groups=(), benchmarks=(*report.benchmarks, other))))
    assert len(page.all("table")) == 1
    assert [row["scope"] for row in page.all("th") if "scope" in row] == ["rowgroup", "row", "row", "rowgroup", "row"]


def test_cells_that_could_end_early_are_marked_and_show_their_own_interval(report: ReportInput) -> None:
    assert "†" not in Page(build_report(report)).text
    cell = Cell("dppo", "vanilla", 11, 11, 0, 1.0, (0.74, 1.0), 50.0, {}, (), sequence_95=(0.61, 1.0))
    early = Benchmark("roll", "2026-11-22", {}, (cell,))
    text = Page(build_report(dataclasses.replace(report, groups=(), benchmarks=(early,)))).text
    assert "61–100 %†" in text
    assert "† sequential: trials ended as soon as" in text
    assert "74–100" not in text


def test_provenance_shows_the_certificates_state(report: ReportInput) -> None:
    text = Page(build_report(report)).text
    for shown in ("certificate broken", "demo_3: action", "cosmos-engine record", "torch", "2.13.0", "size: 64"):
        assert shown in text


def test_an_empty_report_has_no_empty_sections() -> None:
    page = Page(build_report(ReportInput("Nothing yet", "", "2026-11-21")))
    assert [section["id"] for section in page.all("section")] == ["provenance"]
    assert "certificate" not in page.text


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
        group_view(VariantGroup(3, 20.0, source, (short,)))
    with pytest.raises(InputError, match="expected cameras"):
        VariantGroup(3, 20.0, source, (dataclasses.replace(short, cameras={}),))
    with pytest.raises(InputError, match="control 'edge'"):
        RecordedDemo(3, episode, {"agentview": {"edge": source["agentview"][:-1]}})
    with pytest.raises(InputError, match="camera 'side'"):
        RecordedDemo(3, episode, {"side": {}})
