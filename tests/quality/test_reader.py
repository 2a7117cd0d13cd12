import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cosmos_engine.errors import InputError
from cosmos_engine.quality import GeometryReader, Reader, Readings, iou, shipped_weights, si_rmse
from cosmos_engine.quality.geometry_reader import FORMAT_VERSION, METADATA_KEY, save_reader
from cosmos_engine.quality.reader_network import ReaderNetwork


@pytest.fixture(scope="module")
def shipped() -> GeometryReader:
    return GeometryReader.shipped()


@pytest.mark.parametrize("size", [(48, 40), (33, 50), (8, 8)])
def test_every_frame_size_is_read_at_its_size(shipped, size):
    rgb = np.random.default_rng(0).integers(0, 255, (2, *size, 3)).astype(np.uint8)
    readings = shipped.read(rgb)
    assert readings.role_probabilities.shape == (2, *size, 3)
    assert readings.log_depth.shape == (2, *size)
    np.testing.assert_allclose(readings.role_probabilities.sum(-1), 1, atol=1e-5)
    masks = [readings.mask(role) for role in ("robot", "manipulated", "scene")]
    assert np.array_equal(np.sum(masks, axis=0), np.ones((2, *size)))


def test_a_frame_is_read_alone(shipped):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype(np.uint8)
    alone = shipped.read(rgb[33:34])
    np.testing.assert_allclose(shipped.read(rgb).log_depth[33], alone.log_depth[0], atol=1e-4)


def test_the_shipped_reader_is_small(shipped):
    assert shipped_weights().stat().st_size < 2.5e6
    assert sum(value.numel() for value in ReaderNetwork().parameters()) <= 1_000_000
    assert isinstance(shipped, Reader)
    assert shipped.name.startswith("geometry-reader ")


def test_the_shipped_reader_reads_a_render_it_never_saw(shipped):
    pytest.importorskip("mujoco")
    from cosmos_engine.sim.appearance import sample_appearance
    from cosmos_engine.sim.tabletop import TabletopEnvironment

    environment = TabletopEnvironment("stack", render=False)
    environment.reset(8_000_000)
    overlaps, errors = [], []
    try:
        for seed in range(3):
            rng = np.random.default_rng((8_000_000, seed))
            environment.appearance = sample_appearance(rng, environment.object_colors)
            for camera in environment.camera_names:
                frame = environment.render_passes(camera)
                readings = shipped.read(frame.rgb[None])
                roles = {
                    role: [i for i, label in environment.labels.items() if label.role == role]
                    for role in ("robot", "manipulated")
                }
                for role, ids in roles.items():
                    overlaps.append(iou(readings.mask(role), np.isin(frame.instance, ids)[None]))
                errors += si_rmse(readings.log_depth, frame.depth_m[None]).tolist()
    finally:
        environment.close()
    assert np.mean([overlap for overlap in overlaps if overlap is not None]) > 0.85
    assert np.mean(errors) < 0.15


def test_weights_come_back_as_they_were_but_for_float16(tmp_path):
    torch.manual_seed(0)
    network = ReaderNetwork().half().float()
    save_reader(tmp_path / "reader.safetensors", network, {"why": "test"})
    loaded = GeometryReader.load(tmp_path / "reader.safetensors")
    rgb = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(loaded.read(rgb).log_depth, GeometryReader(network).read(rgb).log_depth)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = ReaderNetwork()
    network.whole.bias.data[0] = float("nan")
    with pytest.raises(InputError, match=r"whole\.bias"):
        save_reader(tmp_path / "reader.safetensors", network, {})
    assert not list(tmp_path.iterdir())


def flipped(content: bytes) -> bytes:
    """Flip the lowest bit of the last weight."""
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]


def test_a_bad_file_gives_one_clear_line(tmp_path):
    file = tmp_path / "reader.safetensors"
    for make in (
        lambda: None,
        lambda: file.write_bytes(b"short"),
        lambda: file.write_bytes(shipped_weights().read_bytes()[:-100]),
        lambda: save_file({"a": torch.zeros(1)}, file),
        lambda: save_file({"a": torch.zeros(1)}, file, {METADATA_KEY: json.dumps({"version": 99})}),
        lambda: save_file({"a": torch.zeros(1)}, file, {METADATA_KEY: json.dumps({"version": FORMAT_VERSION})}),
        lambda: file.write_bytes(flipped(shipped_weights().read_bytes())),
        lambda: save_file({"a": torch.zeros(1)}, file, {METADATA_KEY: "{"}),
    ):
        make()
        with pytest.raises(InputError, match=r"reader\.safetensors") as caught:
            GeometryReader.load(file)
        assert "\n" not in str(caught.value)


def test_readings_name_the_most_probable_role():
    probabilities = np.array([[[[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]]]], np.float32)
    readings = Readings(probabilities, np.zeros((1, 1, 2), np.float32))
    assert readings.mask("manipulated").tolist() == [[[True, False]]]
    assert readings.mask("robot").tolist() == [[[False, True]]]
