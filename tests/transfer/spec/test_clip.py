"""A sample's files become a control clip whose pixels lie on the video's, or are refused before work begins."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.controls import edge_control, vis_control
from cosmos_engine.controls.framing import frame_for
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.spec.clip import check_files, load_clip
from cosmos_engine.transfer.spec.sample import ControlSpec, Sample
from cosmos_engine.transfer.spec.video_file import read_video, write_image, write_video

FRAMES = 5
HEIGHT, WIDTH = 48, 84  # letterboxed at the sides in 320 x 192


def gradient(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    clip = np.broadcast_to(ramp[None, None, :, None], (frames, height, width, 3)).copy()
    clip[:, height // 4 : height // 2, width // 4 : width // 2] = (200, 30, 30)
    return clip


def half_white(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    clip = np.zeros((frames, height, width, 3), np.uint8)
    clip[:, :, width // 2 :] = 255
    return clip


def video(path: Path, frames: np.ndarray) -> Path:
    write_video(path, frames, Fraction(10))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return video(tmp_path / "video.mp4", gradient())


def sample(source: Path, controls: dict[str, ControlSpec] | None = None, **keys: object) -> Sample:
    chosen = {"edge": ControlSpec()} if controls is None else controls
    return Sample("one", "a kitchen", source, chosen, resolution="256", **keys)  # type: ignore[arg-type]


def test_controls_that_are_not_given_are_computed_at_the_models_size(source):
    both = sample(source, {"edge": ControlSpec(preset="low"), "vis": ControlSpec(control_weight=0.5, preset="high")})
    size = check_files(both)
    assert (size.frames, size.fps, size.framing) == (FRAMES, Fraction(10), frame_for(HEIGHT, WIDTH, "256"))
    loaded = load_clip(both, size)
    rgb = size.framing.fitted(read_video(source))
    np.testing.assert_array_equal(loaded.clip.rgb, rgb)
    np.testing.assert_array_equal(loaded.clip.controls["edge"], edge_control(rgb, "low"))
    np.testing.assert_array_equal(loaded.clip.controls["vis"], vis_control(rgb, "high"))
    assert loaded.clip.weights == {"edge": 1.0, "vis": 0.5}
    assert loaded.clip.guidance is None
    assert loaded.clip.rgb.shape == (FRAMES, 192, 320, 3)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (192, 320)])
def test_given_control_covers_the_picture_of_the_video(tmp_path, source, size):
    control = video(tmp_path / "depth.mp4", half_white(FRAMES, *size))
    chosen = sample(source, {"depth": ControlSpec(control)})
    checked = check_files(chosen)
    (shown,) = load_clip(chosen, checked).clip.controls.values()
    back = checked.framing.restored(shown)
    assert (back[:, :, : WIDTH // 2 - 3] < 60).all()
    assert (back[:, :, WIDTH // 2 + 3 :] > 200).all()


def test_control_at_the_models_size_is_taken_as_it_is_where_there_are_no_bars(tmp_path):
    source = video(tmp_path / "video.mp4", gradient(FRAMES, 96, 160))
    control = video(tmp_path / "seg.mp4", half_white(FRAMES, 192, 320))
    chosen = sample(source, {"seg": ControlSpec(control)})
    loaded = load_clip(chosen, check_files(chosen))
    np.testing.assert_array_equal(loaded.clip.controls["seg"], read_video(control))


def test_mask_becomes_a_weight_map_and_darkens_the_shown_control(tmp_path, source):
    mask = video(tmp_path / "mask.mp4", half_white())
    chosen = sample(source, {"vis": ControlSpec(control_weight=0.5, mask_path=mask)})
    loaded = load_clip(chosen, check_files(chosen))
    weight = loaded.clip.weights["vis"]
    assert isinstance(weight, np.ndarray)
    assert set(np.unique(weight)) == {0.0, 0.5}
    np.testing.assert_array_equal(loaded.masks["vis"] == 255, weight > 0)
    assert (loaded.shown["vis"][weight == 0] == 0).all()
    np.testing.assert_array_equal(
        loaded.shown["vis"][weight > 0], loaded.clip.controls["vis"][weight > 0]
    )  # the branch itself sees the whole control


def test_white_mask_is_the_weight_itself(tmp_path, source):
    mask = video(tmp_path / "mask.mp4", np.full((FRAMES, HEIGHT, WIDTH, 3), 255, np.uint8))
    chosen = sample(source, {"edge": ControlSpec(control_weight=0.25, mask_path=mask)})
    assert load_clip(chosen, check_files(chosen)).clip.weights == {"edge": 0.25}


def test_control_of_weight_zero_is_shown_and_not_run(source):
    chosen = sample(source, {"edge": ControlSpec(), "vis": ControlSpec(control_weight=0.0)})
    loaded = load_clip(chosen, check_files(chosen))
    assert set(loaded.shown) == {"edge", "vis"}
    assert set(loaded.clip.controls) == {"edge"}


@pytest.mark.parametrize("kind", ["video", "labels", "all labels", "booleans"])
def test_guided_mask_keeps_its_foreground(tmp_path, source, kind):
    labels = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    labels[:, :, WIDTH // 2 :] = 4
    wanted = None
    if kind == "labels":
        labels[:, :, : WIDTH // 4] = 7
        wanted = (4, 9)
    if kind == "video":
        mask = video(tmp_path / "keep.mp4", half_white())
    else:
        mask = tmp_path / "keep.npz"
        np.savez(mask, labels > 0 if kind == "booleans" else labels)
    chosen = sample(source, guided_generation_mask=mask, guided_generation_foreground_labels=wanted)
    size = check_files(chosen)
    loaded = load_clip(chosen, size)
    assert loaded.clip.keep is not None
    assert loaded.clip.keep_steps == 26  # NVIDIA's threshold 25 is the last step's index
    kept = size.framing.restored(np.repeat(loaded.masks["guided_generation"][..., None], 3, axis=-1))[..., 0]
    assert (kept[:, :, : WIDTH // 2 - 2] < 50).all()
    assert (kept[:, :, WIDTH // 2 + 2 :] > 200).all()


def test_max_frames_cuts_the_video_and_what_goes_with_it(tmp_path, source):
    whole = video(tmp_path / "whole.mp4", half_white())
    cut = video(tmp_path / "cut.mp4", half_white(3))
    chosen = sample(source, {"depth": ControlSpec(whole), "seg": ControlSpec(cut)}, max_frames=3)
    loaded = load_clip(chosen, check_files(chosen))
    assert loaded.clip.length == 3


def test_image_is_a_clip_of_one_frame(tmp_path):
    write_image(tmp_path / "image.jpg", gradient()[0])
    write_image(tmp_path / "depth.png.jpg", gradient()[0])
    chosen = sample(tmp_path / "image.jpg", {"depth": ControlSpec(tmp_path / "depth.png.jpg")})
    assert load_clip(chosen, check_files(chosen)).clip.length == 1


def refusal(chosen: Sample) -> str:
    with pytest.raises(InputError) as refused:
        check_files(chosen)
    message = str(refused.value)
    assert message.startswith("sample 'one': key ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (half_white(4), ["expected the 5 frames of the video", "got 4"]),
        (half_white(FRAMES, 64, 64), ["84x48", "320x192", "got 64x64"]),
    ],
)
@pytest.mark.parametrize("role", ["control_path", "mask_path", "guided_generation_mask", "npz"])
def test_file_that_does_not_fit_the_video_is_refused_with_both_numbers(tmp_path, source, role, made, said):
    file = video(tmp_path / "other.mp4", made)
    if role == "npz":
        np.savez(tmp_path / "other.npz", made[..., 0])
        chosen = sample(source, guided_generation_mask=tmp_path / "other.npz")
    elif role == "guided_generation_mask":
        chosen = sample(source, guided_generation_mask=file)
    else:
        chosen = sample(source, {"edge": ControlSpec(**{role: file})})
    message = refusal(chosen)
    for words in said:
        assert words in message


def test_frames_beyond_the_video_are_refused(source):
    assert "max_frames is 6, but the video has 5" in refusal(sample(source, max_frames=6))


def test_black_mask_is_refused(tmp_path, source):
    black = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    black[-1] = 255
    mask = video(tmp_path / "black.mp4", black)
    assert check_files(sample(source, {"edge": ControlSpec(mask_path=mask)}))
    # White only after the frames that are used.
    assert "black everywhere" in refusal(sample(source, {"edge": ControlSpec(mask_path=mask)}, max_frames=4))
    assert "black everywhere" in refusal(sample(source, guided_generation_mask=mask, max_frames=4))
    np.savez(tmp_path / "empty.npz", np.ones(black.shape[:3], np.uint8))
    keys = {"guided_generation_mask": tmp_path / "empty.npz", "guided_generation_foreground_labels": (2,)}
    assert "foreground" in refusal(sample(source, **keys))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mask": np.ones((5, 48, 84), np.uint8)}, "arr_0"),
        ({"arr_0": np.ones((5, 48, 84, 3), np.uint8)}, "(t, h, w)"),
        ({"arr_0": np.ones((5, 48, 84), np.float32)}, "whole numbers"),
        ({"arr_0": np.array([{}], object)}, "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_npz_that_is_no_mask_is_refused(tmp_path, source, arrays, said):
    if arrays is None:
        (tmp_path / "mask.npz").write_bytes(b"PK\x03\x04 and no more")
    else:
        np.savez(tmp_path / "mask.npz", **arrays)
    assert said in refusal(sample(source, guided_generation_mask=tmp_path / "mask.npz"))


def test_file_that_changes_while_the_job_runs_is_refused(tmp_path, source):
    control = video(tmp_path / "depth.mp4", half_white())
    chosen = sample(source, {"depth": ControlSpec(control)})
    size = check_files(chosen)
    video(control, half_white(2))
    with pytest.raises(InputError, match="changed while the job ran"):
        load_clip(chosen, size)
