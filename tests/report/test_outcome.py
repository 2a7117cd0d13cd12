"""Yield, reasons and histograms count every variant and every value once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.data import Dataset, DatasetWriter
from cosmos_engine.data.rejected import RejectedVariant, Try
from cosmos_engine.report.histogram import BINS, HEIGHT, WIDTH, axis, histogram, measure_views, split_name
from cosmos_engine.report.outcome import Bound, MeasureValues, bounds, read_outcome
from cosmos_engine.report.outcome_view import outcome_view

MakeDataset = Callable[[Mapping[tuple[int, int], dict[str, Any]]], Dataset]
IOU, FLOW = "agentview/iou", "wrist/flow_error_px"
FAILED = Try(3, "default", (f"{IOU} 0.41, expected at least 0.60", f"{FLOW} 3, expected at most 2.5"), {IOU: 0.41})
REJECTED = (
    RejectedVariant(0, 2, "gate", "", (FAILED, FAILED)),
    RejectedVariant(1, 1, "near-duplicate", "", (Try(4, "default", ("look_distance 1.2 to variant 2",), {IOU: 0.9}),)),
    RejectedVariant(1, 3, "excluded"),
    RejectedVariant(4, 0, "short"),
    RejectedVariant(5, 0, "short"),
)


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """A dataset of (demo, variant) -> provenance."""

    def make(episodes: Mapping[tuple[int, int], dict[str, Any]]) -> Dataset:
        with DatasetWriter(tmp_path / "x.zarr", attrs={}) as writer:
            for (demo, variant), info in episodes.items():
                arrays = {
                    "action": np.zeros((2, 3), np.float32),
                    "state": np.zeros((2, 4)),
                    "timestamp": np.arange(2.0),
                    "agentview_image": np.zeros((2, 8, 8, 3), np.uint8),
                }
                writer.append(arrays, source_demo=demo, variant=variant, accepted=True, info=info)
            writer.finish({})
        return Dataset(tmp_path / "x.zarr")

    return make


def gate(tries: int, **measures: float) -> dict[str, Any]:
    return {"gate": {"measures": measures, "tries": tries, "recipe": "default"}}


def test_every_variant_and_try_is_counted_once(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(
        {(0, 0): {}, (0, 1): gate(1, **{IOU: 0.7}), (1, 0): {}, (1, 2): gate(3, **{IOU: 0.8}), (1, 4): gate(1)}
    )
    outcome = read_outcome(dataset, REJECTED)
    assert (outcome.accepted, outcome.asked, outcome.tries) == (3, 5, 1 + 3 + 1 + 2 + 1)
    assert outcome.accepted_at == {1: 2, 3: 1}
    assert outcome.rejected == {"excluded": 1, "gate": 1, "near-duplicate": 1}
    assert outcome.demos_left_out == {"short": 2}
    assert outcome.failed_tries == {"flow_error_px": 2, "iou": 2, "look_distance": 1}
    assert outcome.measures == (MeasureValues(IOU, (0.7, 0.8), (0.41, 0.41, 0.9), Bound(0.6, True)),)


def test_what_nobody_counted_is_none_and_not_zero(make_dataset: MakeDataset) -> None:
    outcome = read_outcome(make_dataset({(0, 0): {}, (0, 1): {"prompt": "x"}}), ())
    assert (outcome.accepted, outcome.asked, outcome.tries) == (1, 1, None)
    assert outcome.accepted_at == {}
    assert outcome.measures == ()
    assert "Nobody counted the tries" in outcome_view(outcome).headline


@pytest.mark.parametrize(
    "damaged", [{"gate": None}, {"gate": 5}, {"gate": {"measures": {"a": "x", "b": float("inf")}, "tries": "2"}}]
)
def test_provenance_of_another_shape_is_no_measure(make_dataset: MakeDataset, damaged: dict[str, Any]) -> None:
    outcome = read_outcome(make_dataset({(0, 0): {}, (0, 1): damaged}), ())
    assert (outcome.measures, outcome.accepted_at) == ((), {})


def test_bounds_are_read_from_failures_and_other_sentences_are_passed_over() -> None:
    found = bounds(
        [
            f"{IOU} 0.41, expected at least 0.60",
            f"{FLOW} 1e+3, expected at most 2.5e1",
            "a: no frames",
            "b expected ...",
        ]
    )
    assert found == {IOU: Bound(0.6, True), FLOW: Bound(25.0, False)}


def test_shares_add_up_to_all_that_was_asked_for(make_dataset: MakeDataset) -> None:
    dataset = make_dataset({(0, 0): {}, (0, 1): gate(1), (1, 2): gate(2)})
    view = outcome_view(read_outcome(dataset, REJECTED))
    assert sum(share.count for share in view.shares) == 4
    assert sum(share.percent for share in view.shares) == pytest.approx(100)
    assert view.headline == (
        "2 of 4 variants (50.0 %) are in the dataset, after 6 tries: 33.3 % of the tries made a variant."
    )
    assert view.apart == (
        "1 variant excluded by a person, in no figure above.",
        "2 demos left out whole: short.",
    )


@settings(deadline=None)
@given(
    accepted=st.lists(st.floats(-1e6, 1e6), max_size=30),
    rejected=st.lists(st.floats(-1e6, 1e6), max_size=30),
    bound=st.none() | st.floats(-1e6, 1e6),
)
def test_bars_hold_every_value_within_the_picture(
    accepted: list[float], rejected: list[float], bound: float | None
) -> None:
    known = None if bound is None else Bound(bound, True)
    everything = [*accepted, *rejected, *([] if bound is None else [bound])]
    if not everything:
        return
    values = MeasureValues("a/b", tuple(accepted), tuple(rejected), known)
    ((view,),) = (measure.histograms for measure in measure_views((values,)))
    most = max((bar.accepted_height + bar.rejected_height for bar in view.bars), default=0.0)
    assert most == pytest.approx(HEIGHT if accepted or rejected else 0.0)
    # Heights are in proportion to counts, so all bars together stand for all values.
    heights = np.array([(bar.accepted_height, bar.rejected_height) for bar in view.bars]).reshape(-1, 2).sum(axis=0)
    assert heights[0] * len(rejected) == pytest.approx(heights[1] * len(accepted))
    for bar in view.bars:
        assert 0 <= bar.x < bar.x + bar.width <= WIDTH
        assert bar.rejected_y >= -1e-9
        assert bar.accepted_y + bar.accepted_height == pytest.approx(HEIGHT)
    assert view.bound_x is None or -1e-6 <= view.bound_x <= WIDTH + 1e-6


@settings(deadline=None)
@given(low=st.floats(-1e9, 1e9), width=st.floats(0, 1e9))
def test_axis_holds_its_values_and_has_a_width(low: float, width: float) -> None:
    left, right = axis(low, low + width)
    assert left <= low <= low + width <= right
    assert right > left
    assert right - left <= 3 * max(width, 0.1, 0.1 * abs(low))


def test_counts_stand_where_their_values_do() -> None:
    view = histogram(MeasureValues("a/b", (0.0, 0.01, 0.99), (1.0,), Bound(0.5, True)), 0.0, 1.0)
    slot = WIDTH / BINS
    assert [round(bar.x // slot) for bar in view.bars] == [0, BINS - 1]
    assert [bar.caption.rpartition(": ")[2] for bar in view.bars] == [
        "2 accepted, 0 rejected",
        "1 accepted, 1 rejected",
    ]
    assert view.bound_x == WIDTH / 2
    assert (view.low, view.high, view.middle, view.bound) == ("0", "1", "median 0.5", "at least 0.5")
    with pytest.raises(ValueError, match=r"expected values in \[0.0, 1.0\], got 0.0 to 1.2"):
        histogram(MeasureValues("a/b", (0.0, 1.2), ()), 0.0, 1.0)


def test_cameras_of_one_measure_share_their_axis() -> None:
    (view,) = measure_views((MeasureValues("a/m", (0.0, 3.0), ()), MeasureValues("b/m", (9.0,), ())))
    assert view.name == "m"
    assert [(h.camera, h.low, h.high) for h in view.histograms] == [("a", "0", "9"), ("b", "0", "9")]


def test_a_camera_may_hold_slashes() -> None:
    assert split_name("/World/Cam/iou") == ("/World/Cam", "iou")
    assert split_name("iou") == ("", "iou")
