import dataclasses
import json
import math

import numpy as np
import pytest

from cosmos_engine.augment.gate import Gate, open_gate
from cosmos_engine.augment.gate_config import (
    CAMERA_MEASURES,
    CameraThresholds,
    CrossViewThresholds,
    GateConfig,
    failure,
)
from cosmos_engine.config import load_config
from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.quality.critic import Opinion

from .gate_scene import CAMERAS, COLORS, FRAMES, LABELS, PaintReader, episode, ids, painted

THRESHOLDS = CameraThresholds(
    iou_robot=0.9, iou_manipulated=0.9, presence_manipulated=0.5, own_time=0.8, hue_manipulated=30.0,
    displacement_px=3.0, edge_f1=0.8,
)  # fmt: skip
CONFIG = GateConfig(THRESHOLDS, THRESHOLDS, CrossViewThresholds(view_difference=20.0))


def gate(config: GateConfig = CONFIG, critic=None) -> Gate:
    return Gate(config, PaintReader(), critic)


def right() -> dict[str, np.ndarray]:
    return {camera: painted(ids()) for camera in CAMERAS}


def test_a_variant_that_shows_the_recording_is_accepted():
    verdict = gate().judge(episode(), right())
    assert verdict.accepted
    assert verdict.failures == ()
    assert verdict.measures["front/iou_manipulated"] == verdict.measures["wrist/iou_robot"] == 1
    assert verdict.measures["cross_view/view_difference"] == 0


def test_measures_are_finite_json_numbers_of_known_names():
    measures = gate().judge(episode(), right()).measures
    assert json.loads(json.dumps(measures)) == measures
    assert all(type(value) is float and math.isfinite(value) for value in measures.values())
    groups = {key.rsplit("/", 1)[0] for key in measures}
    assert groups == {*CAMERAS, "cross_view"}
    assert {key.rsplit("/", 1)[1] for key in measures} <= {*CAMERA_MEASURES, "view_difference"}


def wrong(fault: str) -> dict[str, np.ndarray]:
    """The right variant with a fault in the front camera."""
    instance = ids()
    if fault == "vanished":
        frames = painted(instance, COLORS | {6: COLORS[3]})
    elif fault == "moved":
        frames = painted(np.where(instance == 6, 3, instance).astype(np.uint16))
        frames[np.roll(instance == 6, (0, 8, 2), (0, 1, 2))] = COLORS[6]
    elif fault == "slipped":
        frames = painted(instance)[np.clip(np.arange(FRAMES) + 8, 0, FRAMES - 1)]
    elif fault == "flipped":
        frames = painted(instance)[:, :, ::-1]
    else:
        frames = painted(instance, COLORS | {6: (26, 60, 204)})
    return right() | {"front": frames}


@pytest.mark.parametrize(
    ("fault", "measure"),
    [
        ("vanished", "presence_manipulated"),
        ("moved", "displacement_px"),
        ("slipped", "own_time"),
        ("flipped", "iou_robot"),
        ("recoloured", "hue_manipulated"),
    ],
)
def test_a_fault_is_named_with_its_camera_measure_and_threshold(fault, measure):
    verdict = gate().judge(episode(), wrong(fault))
    assert not verdict.accepted
    line = next(line for line in verdict.failures if line.startswith(f"front/{measure} "))
    assert ", expected at " in line
    assert not any(line.startswith("wrist/") for line in verdict.failures)


def test_a_colour_that_only_one_camera_shows_is_found_between_them():
    verdict = gate().judge(episode(), wrong("recoloured"))
    assert any(line.startswith("cross_view/view_difference ") for line in verdict.failures)


def test_a_colour_that_the_prompt_asks_for_is_right():
    blue = {camera: painted(ids(), COLORS | {6: (26, 60, 204)}) for camera in CAMERAS}
    hues = [f"{camera}/hue_manipulated" for camera in CAMERAS]
    asked = gate().judge(episode(), blue, "a blue cube on brown wood").measures
    unasked = gate().judge(episode(), blue, "a red cube on brown wood").measures
    assert all(asked[hue] < 20 for hue in hues)
    assert all(unasked[hue] > 60 for hue in hues)


def test_the_same_inputs_give_the_same_verdict_whatever_was_judged_before():
    source, judge = episode(), gate()
    first = judge.judge(source, wrong("moved"))
    judge.judge(source, right())
    judge.judge(episode(), wrong("vanished"))
    assert judge.judge(source, wrong("moved")) == first
    assert gate().judge(episode(), wrong("moved")) == first


def test_a_variant_of_another_shape_is_rejected_and_not_measured():
    short, wide, floats = right(), right(), right()
    short["front"] = short["front"][:-1]
    wide["wrist"] = np.concatenate([wide["wrist"]] * 2, 2)
    floats["front"] = floats["front"] / 255
    lacking = {"front": right()["front"]}
    added = right() | {"side": right()["front"]}
    for images, line in (
        (short, "front: expected uint8 24 x 48 x 48 x 3 as its source, got uint8 23 x 48 x 48 x 3"),
        (wide, "wrist: expected uint8 24 x 48 x 48 x 3 as its source, got uint8 24 x 48 x 96 x 3"),
        (floats, "front: expected uint8 24 x 48 x 48 x 3 as its source, got float64 24 x 48 x 48 x 3"),
        (lacking, "wrist: no frames"),
        (added, "side: the source has no such camera"),
    ):
        verdict = gate().judge(episode(), images)
        assert (verdict.accepted, verdict.failures, verdict.measures) == (False, (line,), {})


def test_masks_without_the_robot_are_one_clear_line():
    labels = LABELS | {1: InstanceLabel("robot", "robot_arm", "scene")}
    with pytest.raises(InputError, match="expected an instance of role robot in view, got manipulated, scene"):
        gate().judge(episode(labels), right())
    with pytest.raises(InputError, match="needs a camera"):
        gate().judge(dataclasses.replace(episode(), cameras={}), {})


def test_a_cheap_failure_leaves_the_dearer_checks_out_if_asked():
    class Counting(PaintReader):
        calls = 0

        def read(self, rgb):
            Counting.calls += 1
            return super().read(rgb)

    early = dataclasses.replace(CONFIG, stop_early=True)
    verdict = Gate(early, Counting()).judge(episode(), wrong("recoloured"))
    assert not verdict.accepted
    assert Counting.calls == 0
    assert "front/iou_robot" not in verdict.measures
    assert Gate(early, Counting()).judge(episode(), right()).accepted
    assert Counting.calls == 2
    assert "front/iou_robot" in gate().judge(episode(), wrong("recoloured")).measures


class ListeningCritic:
    name = "critic 1234"

    def __init__(self, score: float) -> None:
        self.score = score
        self.heard: list[str] = []

    def judge(self, source, variant, instruction):
        self.heard.append(instruction)
        return Opinion(self.score, "because")


@pytest.mark.parametrize(("score", "accepted"), [(0.9, True), (0.3, False)])
def test_a_critic_is_asked_last_about_every_camera(score, accepted):
    critic = ListeningCritic(score)
    config = dataclasses.replace(CONFIG, fixed=dataclasses.replace(THRESHOLDS, critic=0.5))
    verdict = gate(config, critic).judge(episode(), right())
    assert verdict.accepted == accepted
    assert critic.heard == ["lift the red cube"] * 2
    assert [*verdict.measures][-2:] == ["front/critic", "wrist/critic"]


def test_a_threshold_for_a_critic_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match="threshold critic"):
        gate(GateConfig(fixed=CameraThresholds(critic=0.5)))


def test_provenance_is_json_with_config_reader_and_critic():
    told = json.loads(json.dumps(gate(critic=ListeningCritic(1.0)).provenance))
    assert told["reader"] == "paint-reader"
    assert told["critic"] == "critic 1234"
    assert told["config"]["fixed"]["iou_robot"] == 0.9
    assert gate().provenance["critic"] is None


def test_the_gate_that_ships_has_thresholds_for_both_kinds_of_camera():
    shipped = open_gate()
    assert shipped.provenance["reader"].startswith("geometry-reader ")
    config = load_config(GateConfig, "gate/default")
    assert len(config.fixed.as_mapping()) >= 3
    assert len(config.moving.as_mapping()) >= 3
    assert config.cross_view.view_difference is not None


def test_overrides_change_thresholds_and_unknown_measures_are_one_line(tmp_path):
    changed = open_gate(None, ["fixed.iou_robot=0.123", "stop_early=true", "moving.own_time=null"]).provenance["config"]
    assert changed["fixed"]["iou_robot"] == 0.123
    assert changed["stop_early"] is True
    assert changed["moving"]["own_time"] is None
    with pytest.raises(InputError, match=r"unknown key 'fixed\.iou_robots'; did you mean 'fixed\.iou_robot'"):
        open_gate(None, ["fixed.iou_robots=0.5"])
    file = tmp_path / "gate.yaml"
    file.write_text("fixed: {sharpness: 3}\n")
    with pytest.raises(InputError, match=r"gate\.yaml: unknown key 'fixed\.sharpness'"):
        open_gate(file)
    file.write_text("fixed: {iou_robot: .nan}\n")
    with pytest.raises(InputError, match="iou_robot: expected a finite number"):
        open_gate(file)
    with pytest.raises(InputError, match=r"missing\.yaml"):
        open_gate(tmp_path / "missing.yaml")


def test_every_measure_has_a_threshold_and_a_side():
    assert {field.name for field in dataclasses.fields(CameraThresholds)} == {*CAMERA_MEASURES, "critic"}
    assert failure("front/iou_robot", 0.4, 0.6) == "front/iou_robot 0.4, expected at least 0.6"
    assert failure("front/iou_robot", 0.6, 0.6) is None
    assert failure("front/si_rmse", 0.7, 0.5) == "front/si_rmse 0.7, expected at most 0.5"
    assert failure("front/si_rmse", 0.5, 0.5) is None
