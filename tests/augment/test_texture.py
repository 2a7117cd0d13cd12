import json

import cv2
import numpy as np
import pytest

from cosmos_engine.augment.job import AugmentConfig, augment
from cosmos_engine.augment.part_materials import part_materials
from cosmos_engine.augment.texture import USUAL_BRIGHTNESS, Texture
from cosmos_engine.controls import ControlClip, Recipe, control_clip
from cosmos_engine.data import CameraPasses, Dataset, Recording, verify_dataset
from cosmos_engine.errors import InputError
from cosmos_engine.sim.recorder import RecordConfig, record_demos
from cosmos_engine.transfer.generator import Generator

from .plane import (
    CUBE,
    FOCAL_PX,
    INTRINSICS_PX,
    LABELS,
    ROBOT,
    SIZE,
    TABLE,
    clip_of,
    grey,
    looking_down,
    rays,
    table_passes,
)

MARBLE = "table: red and blue marble."


def three_parts(frames: int = 3) -> np.ndarray:
    """Return ids of a table with a cube that moves by a pixel a frame and a robot beside it."""
    instance = np.full((frames, SIZE, SIZE), TABLE, np.uint16)
    for frame in range(frames):
        instance[frame, 20:30, 10 + frame : 22 + frame] = CUBE
    instance[:, 40:60, 40:60] = ROBOT
    return instance


def noisy_clip(frames: int = 3) -> ControlClip:
    rgb = np.random.default_rng(0).integers(60, 200, (frames, SIZE, SIZE, 3), dtype=np.uint8)
    return clip_of(table_passes(np.array([looking_down(0, 0, 0.8)] * frames), rgb, three_parts(frames)))


@pytest.fixture(scope="module")
def lift_clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texture") / "lift"
    record_demos(RecordConfig(task="lift", episodes=1, image_size=64), folder)
    episode = Recording(folder).episode(0)
    return [control_clip(every_fourth(passes), episode.labels, Recipe(), 0) for passes in episode.cameras.values()]


def every_fourth(passes: CameraPasses) -> CameraPasses:
    return CameraPasses(
        passes.rgb[::4],
        passes.depth_m[::4],
        passes.instance[::4],
        passes.intrinsics_px,
        passes.world_from_camera[::4],
    )


def test_it_is_a_generator():
    assert isinstance(Texture(), Generator)


def test_manipulated_objects_keep_their_pixels_bitwise_and_the_rest_is_repainted(lift_clips):
    for clip, variants in zip(lift_clips, Texture().generate(lift_clips, ["", MARBLE], [1, 2]), strict=True):
        assert variants.shape == (2, *clip.rgb.shape)
        assert variants.dtype == np.uint8
        ids = clip.source.passes.instance
        of_object = np.isin(ids, [i for i, label in clip.source.labels.items() if label.role == "manipulated"])
        assert of_object.any()
        for variant in variants:
            np.testing.assert_array_equal(variant[of_object], clip.rgb[of_object])
            assert (variant != clip.rgb).any(axis=-1)[~of_object].mean() > 0.9


def test_borders_are_the_masks_to_the_pixel():
    flat = clip_of(table_passes(np.array([looking_down(0, 0, 0.8)] * 3), grey(3), three_parts()))
    ((variant,),) = Texture().generate([flat], ["table: plain blue. robot: plain yellow."], [1])
    ids = flat.source.passes.instance
    for painted in (TABLE, ROBOT):
        assert len(np.unique(variant[ids == painted], axis=0)) == 1
    assert (variant[ids == CUBE] == 120).all()


def test_the_robot_can_be_kept():
    clip = noisy_clip()
    ((variant,),) = Texture(repaint_robot=False).generate([clip], [MARBLE], [1])
    kept = np.isin(clip.source.passes.instance, [ROBOT, CUBE])
    np.testing.assert_array_equal(variant[kept], clip.rgb[kept])


def test_prompts_are_obeyed():
    flat = clip_of(table_passes(np.array([looking_down(0, 0, 0.8)] * 3), grey(3), three_parts()))
    prompts = ["a plain yellow robot arm at a plain dark blue table", "table: plain green. robot: plain white."]
    (variants,) = Texture().generate([flat], prompts, [1, 2])
    ids = flat.source.passes.instance
    for variant, prompt, seed in zip(variants, prompts, (1, 2), strict=True):
        materials = part_materials(prompt, seed, LABELS)
        table, robot = (np.array(materials[part].colors()[0]) * 255 for part in ("table", "robot"))
        np.testing.assert_allclose(variant[ids == TABLE][0], table * USUAL_BRIGHTNESS, atol=1.5)
        lit = variant[ids == ROBOT][0] / robot  # of the source's brightness of 120 where 127.5 counts as full
        np.testing.assert_allclose(lit, 120 / 127.5, atol=0.02)
    assert variants[0][ids == TABLE][0].argmax() == 2
    assert variants[1][ids == TABLE][0].argmax() == 1


def test_a_texture_moves_with_the_world_pixel_by_pixel():
    """A camera that moves by a whole number of pixels along a level table sees a shifted picture."""
    shift = 7
    poses = np.array([looking_down(index * shift / FOCAL_PX * 0.8, 0.3, 0.8) for index in range(3)])
    ((variant,),) = Texture().generate([clip_of(table_passes(poses, grey(3)))], [MARBLE], [4])
    for index in (1, 2):
        ahead = variant[0][:, index * shift :].astype(int)
        np.testing.assert_allclose(variant[index][:, : -index * shift].astype(int), ahead, atol=2)
    assert np.abs(variant[1].astype(int) - variant[0]).mean() > 3


def test_a_texture_sticks_to_the_world_under_a_camera_that_tilts_turns_and_rises():
    poses = np.array(
        [
            looking_down(0.02 * k, -0.03 * k, 0.6 + 0.02 * k, tilt_rad=0.3 + 0.03 * k, turn_rad=0.05 * k)
            for k in range(6)
        ]
    )
    passes = table_passes(poses, grey(6))
    ((variant,),) = Texture().generate([clip_of(passes)], [MARBLE], [4])
    for index in range(5):
        points = (rays() * passes.depth_m[index][..., None]) @ poses[index][:3, :3].T + poses[index][:3, 3]
        seen = ((points - poses[index + 1][:3, 3]) @ poses[index + 1][:3, :3]) @ INTRINSICS_PX.T
        at = (seen[..., :2] / seen[..., 2:]).astype(np.float32)
        inside = ((at > 0) & (at < SIZE - 1)).all(axis=-1)
        warped = cv2.remap(variant[index + 1].astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
        sticking = np.abs(warped - variant[index])[inside].mean()
        staying = np.abs(variant[index + 1].astype(float) - variant[index])[inside].mean()
        assert sticking < 2.5
        assert staying > 3 * sticking


def test_both_cameras_of_a_demo_show_the_same_look(lift_clips):
    ((front,), (hand,)) = Texture().generate(lift_clips, [""], [11])
    colors = [
        variant[clip.source.passes.instance == 3].mean(axis=0)
        for clip, variant in zip(lift_clips, (front, hand), strict=True)
    ]
    np.testing.assert_allclose(colors[0], colors[1], atol=40)


def test_a_still_scene_stays_still():
    still = clip_of(table_passes(np.array([looking_down(0, 0, 0.8)] * 4), np.repeat(noisy_clip(1).rgb, 4, axis=0)))
    ((variant,),) = Texture().generate([still], [MARBLE], [1])
    for frame in variant[1:]:
        np.testing.assert_array_equal(frame, variant[0])


def test_same_bytes_whatever_the_batch(lift_clips):
    prompts, seeds = [MARBLE, "a blue wall", ""], [5, 6, 7]
    together = Texture().generate(lift_clips, prompts, seeds)
    for clip, variants in zip(lift_clips, together, strict=True):
        alone = Texture().generate([clip], [prompts[2]], [seeds[2]])[0][0]
        assert alone.tobytes() == variants[2].tobytes()
        backwards = Texture().generate([clip], prompts[::-1], seeds[::-1])[0]
        assert backwards[::-1].tobytes() == variants.tobytes()


def test_background_and_ids_without_a_label_are_painted_as_the_background():
    ids = three_parts()
    ids[:, :10], ids[:, 10:15] = 0, 99
    rgb = grey(3)
    rgb[:, :10] = 0
    clip = clip_of(table_passes(np.array([looking_down(0, 0, 0.8)] * 3), rgb, ids))
    ((variant,),) = Texture().generate([clip], ["background: plain red."], [1])
    assert len(np.unique(variant[:, :15].reshape(-1, 3), axis=0)) == 1
    assert variant[0, 0, 0].argmax() == 0
    assert variant[0, 0, 0, 0] > 150


def test_a_clip_where_nothing_was_hit_is_all_background():
    pose = looking_down(0, 0, 1.0, tilt_rad=-np.pi / 2 - 1.0)
    clip = clip_of(table_passes(np.array([pose, pose]), grey(2)))
    assert np.isinf(clip.source.passes.depth_m).all()
    ((variant,),) = Texture().generate([clip], ["background: red and blue tiles."], [1])
    assert len(np.unique(variant[0].reshape(-1, 3), axis=0)) > 10


def test_one_frame_of_one_pixel_is_enough():
    passes = table_passes(np.array([looking_down(0, 0, 0.8)]), grey(1))
    cut = CameraPasses(
        passes.rgb[:, :1, :1],
        passes.depth_m[:, :1, :1],
        passes.instance[:, :1, :1],
        passes.intrinsics_px,
        passes.world_from_camera,
    )
    assert Texture().generate([clip_of(cut)], [""], [0])[0].shape == (1, 1, 1, 1, 3)


def test_a_clip_without_passes_is_one_line():
    rgb = grey(2)
    with pytest.raises(InputError, match="texture: expected a clip with render passes and labels"):
        Texture().generate([ControlClip(rgb, {"edge": rgb}, {"edge": 1.0})], [""], [0])


def test_a_texture_of_the_benchmark_is_refused_before_work():
    with pytest.raises(InputError, match="table: 'checks' is a texture kept for the benchmark"):
        Texture().prepare(["a blue wall", "a red checks table"])


def test_provenance_is_json_that_states_what_is_painted():
    stated = json.loads(json.dumps(Texture().provenance))
    assert stated["weights_sha256"] == {}
    assert "checker" not in stated["families"]
    assert stated["manipulated"] == "kept"
    assert json.loads(json.dumps(Texture(repaint_robot=False).provenance))["robot"] == "kept"


def test_a_job_with_it_ends_in_an_intact_dataset(recording, tmp_path):
    config = AugmentConfig(variants=2, recipe=Recipe(depth=0.0, seg=0.0))
    augment(Recording(recording), tmp_path / "x.zarr", Texture(), config)
    assert verify_dataset(tmp_path / "x.zarr", recording).intact
    assert Dataset(tmp_path / "x.zarr").episode_count == 9
