"""The sensor: what each fault does to a picture, against what it must do."""

import cv2
import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.sensor import SensorModel, sample_training_sensor


def _rng(seed=0):
    return np.random.default_rng(seed)


def _grey(level, size=64):
    return np.full((size, size, 3), level, dtype=np.uint8)


def _linear(level):
    encoded = np.asarray(level) / 255
    return ((encoded + 0.055) / 1.055) ** 2.4


def test_ideal_camera_gives_back_every_level():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    np.testing.assert_array_equal(SensorModel().developed(levels, _rng()), levels)


def test_one_stop_doubles_the_light():
    brighter = SensorModel(exposure_stops=1.0).developed(_grey(100), _rng())
    assert _linear(brighter).mean() == pytest.approx(2 * _linear(100), rel=0.01)
    darker = SensorModel(exposure_stops=-1.0).developed(_grey(200), _rng())
    assert _linear(darker).mean() == pytest.approx(_linear(200) / 2, rel=0.01)


def test_light_beyond_white_is_cut_off():
    assert (SensorModel(exposure_stops=4.0).developed(_grey(200), _rng()) == 255).all()


def test_white_balance_scales_each_channel():
    seen = SensorModel(white_balance=(1.2, 1.0, 0.8)).developed(_grey(120), _rng())
    np.testing.assert_allclose(_linear(seen)[0, 0] / _linear(120), (1.2, 1.0, 0.8), rtol=0.01)


def test_noise_has_its_standard_deviation_and_no_mean():
    noise = SensorModel(noise_levels=12.0).developed(_grey(128, size=200), _rng()).astype(float) - 128
    assert noise.std() == pytest.approx(12, rel=0.02)
    assert abs(noise.mean()) < 0.2


def test_blur_keeps_the_light_and_spreads_a_point_by_its_sigma():
    image = _grey(0, size=128)
    image[60:68, 60:68] = 255
    light = _linear(SensorModel(blur_px=3.0).developed(image, _rng()).astype(float)[..., 0])
    light -= light.min()
    columns = np.arange(128)
    share = light.sum(axis=0) / light.sum()
    middle = (share * columns).sum()
    variance = (share * (columns - middle) ** 2).sum()
    assert light.sum() == pytest.approx(64, rel=0.02)
    assert variance == pytest.approx(3.0**2 + (8**2 - 1) / 12, rel=0.05)  # of the Gaussian and of the square


def test_blur_is_stated_for_128_pixels():
    large = _rng().integers(0, 256, (128, 128, 3), dtype=np.uint8)
    large = cv2.GaussianBlur(large, (0, 0), 4)
    small = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    sensor = SensorModel(blur_px=4.0)
    reduced = cv2.resize(sensor.developed(large, _rng()), (64, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(sensor.developed(small, _rng()).astype(int), reduced.astype(int), atol=3)


def test_a_clip_is_developed_frame_by_frame():
    clip = _rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    sensor = SensorModel(blur_px=8.0, exposure_stops=0.5)
    together = sensor.developed(clip, _rng())
    assert together.dtype == np.uint8
    for frame, seen in zip(clip, together, strict=True):
        np.testing.assert_array_equal(sensor.developed(frame, _rng()), seen)


def test_noise_of_a_frame_follows_from_seed_camera_and_control_step():
    sensor = SensorModel(noise_levels=5.0, seed=3)
    frames = [(0, 0), (0, 1), (1, 0)]
    seen = [sensor.developed(_grey(99), sensor.frame_rng(*frame)) for frame in frames]
    again = [sensor.developed(_grey(99), sensor.frame_rng(*frame)) for frame in frames]
    np.testing.assert_array_equal(seen, again)
    assert (seen[0] != seen[1]).any()
    assert (seen[0] != seen[2]).any()


def test_training_cameras_are_drawn_from_the_generator_alone():
    assert sample_training_sensor(_rng(4)) == sample_training_sensor(_rng(4))
    assert sample_training_sensor(_rng(4)) != sample_training_sensor(_rng(5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blur_px": -1.0}, r"sensor blur_px: expected a number in \[0, 16\], got -1.0"),
        ({"exposure_stops": float("nan")}, "sensor exposure_stops"),
        ({"white_balance": (1.0, 1.0, 9.0)}, "sensor white_balance: expected three gains"),
        ({"noise_levels": 100.0}, "sensor noise_levels"),
    ],
)
def test_value_out_of_range_is_named(change, message):
    with pytest.raises(InputError, match=message):
        SensorModel(**change)
