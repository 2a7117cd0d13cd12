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
    assert all(one.failures(config) for one in faults(30))
    new_right, new_faults = right(200, seed=2), faults(100, seed=3)
    assert np.mean([bool(one.failures(config)) for one in new_right]) < 0.02
    assert np.mean([bool(one.failures(config)) for one in new_faults]) > 0.98


def test_needed_thresholds_lie_well_inside_the_gap():
    config = calibrated(right(60) + faults(30))
    assert config.fixed.iou_robot is not None
    assert config.fixed.own_time is not None
    assert 0.62 < config.fixed.iou_robot < 0.91
    assert 0.52 < config.fixed.own_time < 0.82


def test_a_measure_that_is_not_needed_gets_room():
    config = calibrated(right(60) + faults(30))
    assert config.fixed.si_rmse is not None
    assert config.fixed.si_rmse > 0.5
    assert config.moving.si_rmse is None
    assert config.fixed.edge_f1 is None


def test_a_few_right_variants_are_given_up_only_for_recall():
    outlier = [variant(iou_robot=0.3, own_time=0.9, si_rmse=0.2)]
    together = right(99) + outlier + faults(30)
    strict = calibrated(together, rejected_share=0.01)
    lenient = calibrated(together, rejected_share=0.0)
    assert [bool(one.failures(strict)) for one in outlier] == [True]
    assert not any(one.failures(strict) for one in right(99))
    assert all(one.failures(strict) for one in faults(30))
    assert not any(one.failures(lenient) for one in outlier)
    assert not all(one.failures(lenient) for one in faults(30))


def test_the_worst_camera_of_a_kind_counts_and_kinds_are_kept_apart():
    made = JudgedVariant(
        {"front/own_time": 0.9, "side/own_time": 0.4, "wrist/own_time": 0.1, "cross_view/view_difference": 3.0},
        frozenset({"front", "side"}),
    )
    assert made.badness() == {"fixed/own_time": -0.4, "moving/own_time": -0.1, "cross_view/view_difference": 3.0}


def test_a_kind_of_fault_counts_the_same_however_often_it_comes():
    """One slip among many vanished objects: with a budget of one, the slip's measure is worth it."""
    many = [one for one in faults(300) if one.fault == "object_vanished"]
    slip = [variant("frame_slip", 3, iou_robot=0.95, own_time=0.5, si_rmse=0.2)]
    outlier = [variant(iou_robot=0.95, own_time=0.4, si_rmse=0.2)]
    config = calibrated(right(99) + outlier + many + slip, rejected_share=0.01)
    assert slip[0].failures(config)


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
