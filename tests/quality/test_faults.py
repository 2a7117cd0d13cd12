import dataclasses

import numpy as np
import pytest

from cosmos_engine.data import Episode
from cosmos_engine.errors import InputError
from cosmos_engine.quality.faults import FAULTS, Injected, inject, severities_of

from .conftest import COLORS, LABELS, painted, scene

FRAMES = 40


def episode() -> Episode:
    """Two cameras that see the same scene; the cube moves half a pixel a frame."""
    passes = scene(FRAMES, move_px=0)
    instance = passes.instance.copy()
    for frame in range(FRAMES):
        instance[frame, 24:34] = np.where(instance[frame, 24:34] == 6, 3, instance[frame, 24:34])
        instance[frame, 24:34, 8 + frame // 2 : 18 + frame // 2] = 6
    passes = dataclasses.replace(passes, rgb=painted(instance), instance=instance)
    zeros = np.zeros(FRAMES, np.float32)
    return Episode(
        np.zeros((FRAMES, 7), np.float32), np.zeros((FRAMES, 2)), zeros, zeros > 0, {},
        {"front": passes, "side": passes}, LABELS, True, 0, 20.0, "id", "test", "t", "i",
    )  # fmt: skip


def images(made: Episode) -> dict[str, np.ndarray]:
    return {camera: passes.rgb for camera, passes in made.cameras.items()}


def injected(name: str, severity: int, seed: int) -> tuple[Episode, Injected]:
    made = episode()
    other = {camera: rgb[::-1][:30].copy() for camera, rgb in images(made).items()}
    found = inject(name, severity, made, images(made), np.random.default_rng(seed), other)
    assert found is not None
    return made, found


CASES = [(name, severity) for name, fault in FAULTS.items() for severity in fault.severities]


@pytest.mark.parametrize(("name", "severity"), CASES)
@pytest.mark.parametrize("seed", range(2))
def test_a_fault_is_where_it_says_and_nowhere_else(name, severity, seed):
    made, found = injected(name, severity, seed)
    first, end = found.frames
    assert found.cameras
    for camera, rgb in images(made).items():
        changed = (found.images[camera] != rgb).any((1, 2, 3))
        assert changed.any() == (camera in found.cameras)
        assert not changed[:first].any()
        assert not changed[end:].any()
        assert found.images[camera].shape == rgb.shape
        assert found.images[camera].dtype == np.uint8


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_a_fault_follows_from_its_seed_and_leaves_the_variant_alone(name, severity):
    made = episode()
    before = {camera: rgb.copy() for camera, rgb in images(made).items()}
    first, again = (
        inject(name, severity, made, images(made), np.random.default_rng(5), images(made)) for _ in range(2)
    )
    assert first is not None
    assert again is not None
    assert first.frames == again.frames
    for camera, rgb in images(made).items():
        np.testing.assert_array_equal(first.images[camera], again.images[camera])
        np.testing.assert_array_equal(rgb, before[camera])


def test_a_vanished_object_leaves_none_of_its_colour():
    _, found = injected("object_vanished", 0, 0)
    gone = [
        color
        for instance_id, color in COLORS.items()
        if LABELS[instance_id].role == "manipulated"
        and not (found.images[found.cameras[0]][found.frames[0] :] == color).all(-1).any()
    ]
    assert len(gone) == 1


@pytest.mark.parametrize("severity", FAULTS["object_moved"].severities)
def test_a_moved_object_is_as_far_away_as_it_says(severity):
    made, found = injected("object_moved", severity, 1)
    camera, frame = found.cameras[0], FRAMES - 1
    passes, rgb = made.cameras[camera], found.images[camera][frame]
    for instance_id in (6, 7):
        where = np.argwhere((rgb == COLORS[instance_id]).all(-1)).mean(0)
        was = np.argwhere(passes.instance[frame] == instance_id).mean(0)
        away_px = np.linalg.norm(where - was) * 128 / 48
        if away_px > 0.5:
            assert away_px == pytest.approx(severity, abs=2.7)  # a pixel of a frame 48 high is 2.7 of one 128 high
            return
    pytest.fail("nothing moved")


@pytest.mark.parametrize("severity", FAULTS["frozen_frames"].severities)
def test_frozen_frames_are_one_frame(severity):
    _, found = injected("frozen_frames", severity, 0)
    first, end = found.frames
    assert end - first == severity
    held = found.images[found.cameras[0]][first:end]
    assert (held == held[0]).all()


@pytest.mark.parametrize("severity", FAULTS["frame_slip"].severities)
def test_slipped_frames_are_those_of_another_time(severity):
    made, found = injected("frame_slip", severity, 3)
    camera, at = found.cameras[0], 25
    source, shown = made.cameras[camera].rgb, found.images[camera][at]
    assert any((shown == source[at + slip]).all() for slip in (severity, -severity))


def test_what_is_not_seen_is_not_altered():
    made = episode()
    labels = {i: label for i, label in LABELS.items() if label.role != "manipulated"}
    unseen = dataclasses.replace(
        made,
        cameras={
            camera: dataclasses.replace(passes, instance=np.where(passes.instance >= 6, 3, passes.instance))
            for camera, passes in made.cameras.items()
        },
        labels=labels,
    )
    rng = np.random.default_rng(0)
    for name in ("object_vanished", "object_moved", "hue_change"):
        assert inject(name, 60, unseen, images(unseen), rng) is None
    still = dataclasses.replace(
        made,
        cameras={
            camera: dataclasses.replace(passes, instance=np.repeat(passes.instance[:1], FRAMES, 0))
            for camera, passes in made.cameras.items()
        },
    )
    for name in ("frame_slip", "frozen_frames"):
        assert inject(name, 8, still, images(still), rng) is None
    assert inject("swapped_episode", 0, made, images(made), rng) is None


def test_an_unknown_fault_is_one_line_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'object_moved'"):
        inject("objectmoved", 4, episode(), {}, np.random.default_rng(0))
    with pytest.raises(InputError, match="unknown"):
        severities_of("nothing")
    assert severities_of("object_moved") == {4: "4 px", 6: "6 px", 10: "10 px"}
    assert severities_of("object_vanished") == {0: ""}
