import numpy as np
import pytest

from cosmos_engine.augment.gate_calibration import JudgedVariant, calibrated
from cosmos_engine.augment.gate_config import GateConfig
from cosmos_engine.config import as_yaml, load_config

FIXED = frozenset({"front"})


def variant(fault: str = "", severity: int = 0, **measures: float) -> JudgedVariant:
    return JudgedVariant({f"front/{name}": value for name, value in measures.items()}, FIXED, fault, severity)


def right(count: int, seed: int = 0) -> list[JudgedVariant]:
    rng = np.random.default_rng(seed)
    return [
        variant(iou_robot=0.95 + rng.normal(0, 0.01), own_time=0.9 + rng.normal(0, 0.02), si_rmse=rng.uniform(0.1, 0.3))
        for _ in range(count)
    ]


def faults(count: int, seed: int = 1) -> list[JudgedVariant]:
    """Vanished: the overlap falls. Slipped: the time. Depth tells of neither."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        si_rmse = rng.uniform(0.1, 0.3)
        made.append(variant("object_vanished", iou_robot=rng.uniform(0.2, 0.6), own_time=0.9, si_rmse=si_rmse))
        made.append(variant("frame_slip", 3, iou_robot=0.95, own_time=rng.uniform(0.1, 0.5), si_rmse=si_rmse))
    return made


def test_thresholds_catch_what_can_be_told_apart_and_keep_what_is_right():
    config = calibrated(right(60) + faults(30))
    assert not any(one.failures(config) for one in right(60))
    assert np.mean([bool(one.failures(config)) for one in faults(30)]) >= 0.97
    new_right, new_faults = right(200, seed=2), faults(100, seed=3)
    assert np.mean([bool(one.failures(config)) for one in new_right]) < 0.02
    assert np.mean([bool(one.failures(config)) for one in new_faults]) > 0.95


def test_thresholds_lie_well_inside_the_gap():
    config = calibrated(right(60) + faults(30))
    assert config.fixed.iou_robot is not None
    assert config.fixed.own_time is not None
    assert 0.57 < config.fixed.iou_robot < 0.91
    assert 0.48 < config.fixed.own_time < 0.82


def test_a_measure_that_tells_nothing_gets_room_and_one_not_measured_no_threshold():
    config = calibrated(right(60) + faults(30))
    assert config.fixed.si_rmse is not None
    assert config.fixed.si_rmse > 0.45
    assert config.moving.si_rmse is None
    assert config.fixed.edge_f1 is None


def test_less_recall_buys_wider_margins():
    together = right(60) + faults(100)
    wide, close = calibrated(together, recall=0.7), calibrated(together, recall=1.0)
    assert wide.fixed.own_time < close.fixed.own_time
    caught = [bool(one.failures(wide)) for one in faults(100)]
    assert 0.7 <= np.mean(caught) < 1
    assert all(one.failures(close) for one in faults(100))


def test_a_threshold_that_no_variant_can_miss_is_none():
    """Right variants as bad as can be: time tells nothing here, and neither would a threshold below 0."""
    bad_at_time = [variant(iou_robot=0.95, own_time=value, si_rmse=0.2) for value in np.linspace(0.02, 0.9, 40)]
    config = calibrated(bad_at_time + [one for one in faults(30) if one.fault == "object_vanished"])
    assert config.fixed.own_time is None
    assert config.fixed.iou_robot is not None


def test_the_worst_camera_of_a_kind_counts_and_kinds_are_kept_apart():
    made = JudgedVariant(
        {"front/own_time": 0.9, "side/own_time": 0.4, "wrist/own_time": 0.1, "cross_view/view_difference": 3.0},
        frozenset({"front", "side"}),
    )
    assert made.badness() == {"fixed/own_time": -0.4, "moving/own_time": -0.1, "cross_view/view_difference": 3.0}


def test_a_kind_of_fault_counts_the_same_however_often_it_comes():
    """Three hundred vanished objects do not outweigh the slips: half of the recall is theirs."""
    vanished = [one for one in faults(300) if one.fault == "object_vanished"]
    slips = [one for one in faults(10) if one.fault == "frame_slip"]
    config = calibrated(right(60) + vanished + slips)
    assert all(one.failures(config) for one in slips)


def test_calibrated_thresholds_come_back_from_yaml(tmp_path):
    config = calibrated(right(30) + faults(10))
    file = tmp_path / "gate.yaml"
    file.write_text(as_yaml(config))
    assert load_config(GateConfig, file) == config


def test_without_right_variants_or_faults_nothing_can_be_set():
    with pytest.raises(ValueError, match="got 0 and 2"):
        calibrated(faults(1))
    with pytest.raises(ValueError, match="got 3 and 0"):
        calibrated(right(3))
