"""The estimate: what a person reckons by hand, from the same figures."""

from __future__ import annotations

import dataclasses

import pytest

from cosmos_engine.augment.estimate import (
    BytesPerPixel,
    Figures,
    JobSize,
    SegmentFigure,
    choose_figure,
    estimate,
    relative_cost,
    report_lines,
)
from cosmos_engine.config import load_config
from cosmos_engine.errors import InputError

TINY = SegmentFigure("transfer25-tiny", "a core", 128, 128, 17, 1, 3, 2.0, "by hand")
H200 = SegmentFigure("transfer25-2b", "H200", 704, 1280, 93, 1, 1, 374.0, "by hand")
EXACT = {"tries": 1.0, "accepted": 1.0, "overhead": 0.0}
STORED = BytesPerPixel(2.5, 0.5, "by hand")
SMALL = JobSize(demos=10, variants=3, control_steps=64, cameras=2, height=128, width=128, controls=3, **EXACT)


def test_tiny_job_is_what_a_person_reckons() -> None:
    result = estimate(dataclasses.replace(SMALL, price=1.5, training_pixels=72), TINY, STORED)
    assert result.segments_per_clip == 4  # 17 + 16 + 16 + 15 frames
    assert result.segments == 10 * 3 * 2 * 4
    assert result.seconds_per_segment == 2.0
    assert result.gpu_hours == pytest.approx(480 / 3600)
    assert result.hours == pytest.approx(480 / 3600)
    assert result.cost == pytest.approx(0.2)
    assert result.recording_bytes == pytest.approx(10 * 64 * 2 * 128 * 128 * 2.5)
    assert result.dataset_bytes == pytest.approx(10 * 4 * 64 * 2 * 128 * 128 * 0.5)
    assert result.frames_bytes == 10 * 4 * 64 * 2 * 72 * 72 * 3


def test_large_job_on_eight_devices() -> None:
    size = JobSize(
        demos=10_000, variants=5, control_steps=186, cameras=1, height=704, width=1280, gpus=8, price=4.0,
        tries=1.2, accepted=0.9, overhead=0.5,
    )  # fmt: skip
    result = estimate(size, H200, STORED)
    assert result.segments_per_clip == 3  # 93 + 92 frames, and one more
    assert result.segments == 60_000 * 3
    assert result.gpu_hours == pytest.approx(180_000 * 374 * 1.5 / 3600)  # 28,050
    assert result.hours == pytest.approx(28_050 / 8)
    assert result.cost == pytest.approx(112_200)
    assert result.dataset_bytes == pytest.approx(10_000 * 5.5 * 186 * 704 * 1280 * 0.5)


def test_devices_follow_from_the_hours() -> None:
    result = estimate(dataclasses.replace(SMALL, hours=120 / 3600), TINY, STORED)
    assert (result.gpus, result.hours) == (4, pytest.approx(120 / 3600))
    result = estimate(dataclasses.replace(SMALL, hours=119 / 3600), TINY, STORED)
    assert result.gpus == 5
    with pytest.raises(InputError, match=r"hours: 0\.004 is less than one variant takes"):
        estimate(dataclasses.replace(SMALL, hours=0.004), TINY, STORED)  # 2 cameras x 4 segments x 2 s are 16 s


def test_more_devices_than_variants_do_not_help() -> None:
    result = estimate(dataclasses.replace(SMALL, demos=1, gpus=100), TINY, STORED)
    assert result.hours == pytest.approx(16 / 3600)


def test_no_variants_take_no_time() -> None:
    result = estimate(dataclasses.replace(SMALL, variants=0, hours=1.0), TINY, STORED)
    assert (result.segments, result.hours, result.cost) == (0, 0.0, None)
    assert result.dataset_bytes == pytest.approx(10 * 64 * 2 * 128 * 128 * 0.5)


@pytest.mark.parametrize(
    ("size", "controls", "expected"),
    [
        ((704, 1280), 1, 1.0),
        ((704, 1280), 4, 44 / 32),  # blocks
        ((480, 640), 1, 24 / 156),  # PFLOP, counted
        ((480, 640), 4, 24 / 156 * 44 / 32),
        ((256, 320), 1, 3.4 / 156),
    ],
)
def test_cost_of_the_2b_at_other_sizes_is_what_was_counted(
    size: tuple[int, int], controls: int, expected: float
) -> None:
    job = JobSize(height=100, width=100, generated_height=size[0], generated_width=size[1], controls=controls)
    assert relative_cost(job, H200) == pytest.approx(expected, rel=0.02)


def test_cost_of_tiny_grows_with_the_pixels() -> None:
    assert relative_cost(dataclasses.replace(SMALL, height=64, width=256), TINY) == 1.0
    assert relative_cost(dataclasses.replace(SMALL, height=256, width=256, controls=1), TINY) == 4.0


@pytest.mark.parametrize("generator", ["transfer25-tiny", "transfer25-2b", "transfer25-2b-distilled"])
def test_shipped_figures_say_where_they_are_from(generator: str) -> None:
    figures = load_config(Figures, "plan/figures")
    name, figure = choose_figure(figures, generator)
    lines = report_lines(SMALL, name, figure, figures.bytes_per_pixel, estimate(SMALL, figure, STORED))
    text = "\n".join(lines)
    for said in (figure.source, figures.bytes_per_pixel.source, "tries=1", "accepted=1", "overhead=0", name):
        assert said
        assert said in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("demos", 0), ("variants", -1), ("control_steps", 0), ("cameras", 0), ("height", 0), ("controls", 0),
        ("gpus", 0), ("tries", 0.5), ("tries", float("nan")), ("accepted", 1.5), ("overhead", -0.1), ("hours", 0.0),
        ("hours", float("inf")), ("price", -1.0), ("generated_width", 0), ("training_pixels", 0),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_named(key: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{key}: expected"):
        dataclasses.replace(SMALL, **{key: value})


@pytest.mark.parametrize("key", ["height", "width", "segment_frames", "controls", "seconds"])
def test_figure_that_is_no_measurement_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"figure {key}: expected"):
        estimate(SMALL, dataclasses.replace(TINY, **{key: 0.0 if key == "seconds" else 0}), STORED)


def test_unknown_figures_are_named() -> None:
    figures = Figures({"here": TINY, "there": H200})
    assert choose_figure(figures, "transfer25-2b") == ("there", H200)
    with pytest.raises(InputError, match="no such figure; did you mean 'there'"):
        choose_figure(figures, "transfer25-2b", "theere")
    with pytest.raises(InputError, match="'here': of transfer25-tiny, not of transfer25-2b"):
        choose_figure(figures, "transfer25-2b", "here")
    with pytest.raises(
        InputError, match=r"no figure of texture \(there are: transfer25-2b, transfer25-tiny\); --measure"
    ):
        choose_figure(figures, "texture")
