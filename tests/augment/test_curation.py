import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.augment.curation import (
    CurationConfig,
    clip_faults,
    demo_fault,
    look,
    look_distance,
    near_duplicates,
    read_exclusions,
)
from cosmos_engine.errors import InputError

from .conftest import make_episode

CONFIG = CurationConfig()


def images(episode):
    return {camera: passes.rgb for camera, passes in episode.cameras.items()}


@pytest.mark.parametrize(
    ("length", "success", "keep", "fault"),
    [(8, True, False, None), (7, True, True, "short"), (8, False, False, "no success"), (8, False, True, None)],
)
def test_demos_are_left_out_for_a_reason(length, success, keep, fault):
    assert demo_fault(length, success, CurationConfig(keep_failures=keep)) == fault


def test_a_clip_that_stands_still_or_is_black_is_named_by_camera():
    episode = make_episode(0, 9)
    made = images(episode)
    assert clip_faults(made, episode, CONFIG) == ()
    made["agentview"] = np.repeat(made["agentview"][:1], 9, axis=0)
    made["robot0_eye_in_hand"] = made["robot0_eye_in_hand"] // 64
    still, black = clip_faults(made, episode, CONFIG)
    assert still.startswith("agentview/change 0.00, expected at least")
    assert black.startswith("robot0_eye_in_hand/brightest_frame 1.")


def test_a_source_that_stands_still_asks_nothing_of_its_variants():
    episode = make_episode(0, 9)
    for passes in episode.cameras.values():
        passes.rgb[:] = passes.rgb[:1]
    assert clip_faults(images(episode), episode, CONFIG) == ()


def test_the_look_is_the_colours_and_not_the_motion():
    one = images(make_episode(0, 9))
    assert look_distance(look(one), look(one)) == 0
    warmer = {camera: np.clip(rgb.astype(int) + [30, 0, -30], 0, 255).astype(np.uint8) for camera, rgb in one.items()}
    noisy = {camera: rgb ^ 1 for camera, rgb in one.items()}
    assert look_distance(look(one), look(noisy)) < 0.5
    assert look_distance(look(one), look(warmer)) > 10


def test_of_two_variants_that_are_alike_the_first_is_kept():
    base = np.zeros((4, 3), np.float32)
    looks = {0: base, 1: base + 5, 2: base + 5.5, 3: base + 10, 4: base + 0.5}
    dropped = near_duplicates(looks, 2.0)
    assert dropped == {
        2: "look_distance 0.87 to variant 1, expected at least 2.00",
        4: "look_distance 0.87 to the original, expected at least 2.00",
    }
    assert near_duplicates(looks, 0.0) == {}


@given(st.sets(st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)), max_size=20))
def test_exclusions_are_read_as_they_are_written(tmp_path_factory, pairs):
    file = tmp_path_factory.mktemp("x") / "exclude.txt"
    file.write_text("# marked\n\n" + "".join(f" {demo}\t{variant}  # why\n" for demo, variant in sorted(pairs)))
    assert read_exclusions(file) == pairs


@pytest.mark.parametrize("line", ["3", "3 x", "-1 2", "1 2 3", "1,2", "1.0 2"])
def test_a_line_that_is_no_exclusion_is_named(line, tmp_path):
    (tmp_path / "exclude.txt").write_text(f"1 2\n{line}\n")
    with pytest.raises(InputError, match=r"exclude\.txt:2: expected `demo variant`"):
        read_exclusions(tmp_path / "exclude.txt")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_exclusions_that_cannot_be_read_are_named(content, tmp_path):
    if content:
        (tmp_path / "exclude.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"exclude\.txt: exclusions cannot be read"):
        read_exclusions(tmp_path / "exclude.txt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_frames", 0),
        ("near_duplicate", -1.0),
        ("static_share", 1.5),
        ("black_level", 300.0),
        ("black_level", float("nan")),
    ],
)
def test_a_number_out_of_range_is_named(key, value):
    with pytest.raises(InputError, match=f"curation.{key}: expected"):
        CurationConfig(**{key: value})
