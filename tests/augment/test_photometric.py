import colorsys
import dataclasses
import json

import numpy as np
import pytest

from cosmos_engine.augment.job import AugmentConfig, augment
from cosmos_engine.augment.photometric import Jitter, Photometric, PhotometricRanges, draw_jitter, jittered
from cosmos_engine.controls import ControlClip, Recipe
from cosmos_engine.data import Dataset, Recording, verify_dataset
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.generator import Generator


def clip(seed: int = 0, t: int = 4, h: int = 12, w: int = 16) -> ControlClip:
    rgb = np.random.default_rng(seed).integers(0, 256, (t, h, w, 3), dtype=np.uint8)
    return ControlClip(rgb, {"edge": rgb}, {"edge": 1.0})


def of_color(rgb: tuple[int, int, int], jitter: Jitter) -> np.ndarray:
    """Return what a jitter makes of a frame of one colour."""
    return jittered(np.full((1, 4, 4, 3), rgb, np.uint8), jitter)[0, 0, 0].astype(int)


def test_it_is_a_generator():
    assert isinstance(Photometric(), Generator)


def test_the_neutral_jitter_changes_nothing():
    frames = clip().rgb
    np.testing.assert_array_equal(jittered(frames, Jitter()), frames)


def test_each_adjustment_is_torchvisions_formula():
    rgb = np.array([100, 50, 200])
    grey = rgb @ [0.299, 0.587, 0.114]
    expected = {
        Jitter(brightness=1.2): rgb * 1.2,
        Jitter(contrast=0.5): 127.5 + 0.5 * (rgb - 127.5),
        Jitter(saturation=0.25): grey + 0.25 * (rgb - grey),
        Jitter(gamma=0.8): 255 * (rgb / 255) ** 0.8,
        Jitter(gains=(1.1, 1.0, 0.5)): rgb * [1.1, 1.0, 0.5],
    }
    for jitter, color in expected.items():
        np.testing.assert_allclose(of_color((100, 50, 200), jitter), color, atol=0.51)


def test_hue_turns_the_colour_circle():
    assert of_color((255, 0, 0), Jitter(hue=1 / 3)).tolist() == [0, 255, 0]
    turned = of_color((200, 90, 40), Jitter(hue=-0.08)) / 255
    before, after = colorsys.rgb_to_hsv(200 / 255, 90 / 255, 40 / 255), colorsys.rgb_to_hsv(*turned)
    assert abs((after[0] - before[0] + 0.5) % 1 - 0.5 + 0.08) < 0.01
    np.testing.assert_allclose(after[1:], before[1:], atol=0.02)


def test_adjustments_are_applied_in_the_drawn_order():
    first = Jitter(order=("brightness", "contrast", "saturation", "hue"), brightness=1.5, contrast=0.5)
    second = dataclasses.replace(first, order=("contrast", "brightness", "saturation", "hue"))
    assert of_color((100, 100, 100), first)[0] == round(127.5 + 0.5 * (150 - 127.5))
    assert of_color((100, 100, 100), second)[0] == round((127.5 + 0.5 * (100 - 127.5)) * 1.5)


def test_light_keeps_the_luma_of_white_and_covers_warm_to_cool():
    gains = np.array([draw_jitter(seed, PhotometricRanges()).gains for seed in range(200)])
    np.testing.assert_allclose(gains @ [0.299, 0.587, 0.114], 1, atol=1e-6)
    assert (gains[:, 0] > 1.2 * gains[:, 2]).any()
    assert (gains[:, 2] > 1.2 * gains[:, 0]).any()


def test_draws_stay_within_their_ranges_and_fill_them():
    ranges = PhotometricRanges()
    draws = [draw_jitter(seed, ranges) for seed in range(300)]
    for field in ("brightness", "contrast", "saturation", "gamma"):
        values, reach = np.array([getattr(draw, field) for draw in draws]), getattr(ranges, field)
        assert values.min() >= 1 - reach
        assert values.max() <= 1 + reach
        assert np.ptp(values) > 1.8 * reach
    assert max(abs(draw.hue) for draw in draws) <= ranges.hue
    blurred = np.mean([draw.blur_px > 0 for draw in draws])
    assert 0.4 < blurred < 0.6
    assert len({draw.order for draw in draws}) == 24


def test_the_same_frame_becomes_the_same_frame_at_any_time_and_in_any_camera():
    still = clip(t=1).rgb
    clips = [ControlClip(np.repeat(still, times, axis=0), {}, {}) for times in (1, 5)]
    (once,), (often,) = Photometric().generate(clips, [""], [7])
    for frame in often:
        np.testing.assert_array_equal(frame, once[0])


def test_prompt_and_controls_are_not_read():
    given = clip()
    other = ControlClip(given.rgb, {"edge": given.rgb[::-1]}, {"edge": 0.5})
    first, second = Photometric().generate([given, other], ["a red table"], [3])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, Photometric().generate([given], ["a blue wall"], [3])[0])


def test_same_bytes_whatever_the_batch():
    clips, seeds = [clip(0), clip(1, t=3, h=8)], [5, 6, 7]
    together = Photometric().generate(clips, ["a", "b", "c"], seeds)
    for given, variants in zip(clips, together, strict=True):
        assert variants.shape == (3, *given.rgb.shape)
        assert variants.dtype == np.uint8
        for seed, variant in zip(seeds, variants, strict=True):
            alone = Photometric().generate([given], ["x"], [seed])[0][0]
            assert alone.tobytes() == variant.tobytes()
    assert len({variant.tobytes() for variant in together[0]}) == 3


def test_provenance_is_json_that_states_the_ranges():
    stated = json.loads(json.dumps(Photometric(PhotometricRanges(hue=0.3)).provenance))
    assert stated["ranges"]["hue"] == 0.3
    assert stated["ranges"]["temperature_k"] == [3000, 15000]
    assert stated["weights_sha256"] == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("hue", 0.6), ("brightness", -0.1), ("gamma", 1.0), ("noise", 2.0), ("temperature_k", (9000.0, 3000.0))],
)
def test_ranges_out_of_range_are_one_line(field, value):
    with pytest.raises(InputError, match=field):
        PhotometricRanges(**{field: value})


def test_a_job_with_it_ends_in_an_intact_dataset(recording, tmp_path):
    config = AugmentConfig(variants=2, recipe=Recipe(depth=0.0, seg=0.0))
    augment(Recording(recording), tmp_path / "x.zarr", Photometric(), config)
    assert verify_dataset(tmp_path / "x.zarr", recording).intact
    assert Dataset(tmp_path / "x.zarr").episode_count == 9
