import numpy as np
import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.quality import si_rmse
from cosmos_engine.quality.shown_reader import reader_of
from cosmos_engine.quality.video_depth_reader import VideoDepthReader, fitted_disparity

from .conftest import LABELS

transformers = pytest.importorskip("transformers")


def small_model() -> torch.nn.Module:
    """A Depth Anything of transformers' own, with random weights and two layers."""
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    return transformers.DepthAnythingForDepthEstimation(config)


def test_depth_comes_in_the_size_of_the_frames(passes):
    reader = VideoDepthReader(small_model(), "0123456789abcdef", input_px=56)
    assert reader.name == "depth-anything 0123456789ab"
    readings = reader_of(reader, passes, LABELS).read(passes.rgb)
    assert readings.log_depth.shape == passes.depth_m.shape
    assert np.isfinite(readings.log_depth).all()
    assert (readings.role_probabilities[..., 2] == 1).all()
    again = reader_of(reader, passes, LABELS).read(passes.rgb)
    np.testing.assert_array_equal(readings.log_depth, again.log_depth)


class Disparity:
    """Stand in for a relative model: disparity of the true depth, times a factor, plus a shift."""

    def __init__(self, depth_m):
        self.depth_m = torch.from_numpy(depth_m)

    def to(self, device):
        return self

    def eval(self):
        return self

    def __call__(self, pixel_values):
        count = len(pixel_values)
        predicted = 7.0 / self.depth_m[:count] + 3.0

        class Output:
            predicted_depth = predicted

        return Output()


def test_factor_and_shift_are_fitted_and_depth_is_metres(passes):
    reader = VideoDepthReader(Disparity(passes.depth_m), input_px=56)
    readings = reader_of(reader, passes, LABELS).read(passes.rgb)
    np.testing.assert_allclose(np.exp(readings.log_depth), passes.depth_m, rtol=1e-3)


def test_the_fit_cannot_bring_a_lost_object_back(passes):
    flat = passes.depth_m.copy()
    flat[passes.instance == 6] = 1.0
    reader = VideoDepthReader(Disparity(flat), input_px=56)
    readings = reader_of(reader, passes, LABELS).read(passes.rgb)
    assert si_rmse(readings.log_depth, passes.depth_m).min() > 0.01


def test_a_prediction_the_wrong_way_round_is_flat(passes):
    fitted = fitted_disparity(-1.0 / passes.depth_m.astype(np.float64), passes.depth_m)
    assert np.ptp(fitted) == pytest.approx(0, abs=1e-12)


def test_a_saved_model_loads_and_reads_the_same(passes, tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    loaded = VideoDepthReader.load(tmp_path)
    assert loaded.name.startswith("depth-anything ")
    assert len(loaded.name.split()[1]) == 12
    loaded = VideoDepthReader(transformers.AutoModelForDepthEstimation.from_pretrained(tmp_path), input_px=56)
    np.testing.assert_allclose(loaded.predict(passes.rgb), VideoDepthReader(model, input_px=56).predict(passes.rgb))


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"expected config\.json"):
        VideoDepthReader.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="no AutoModelForDepthEstimation that loads") as caught:
        VideoDepthReader.load(tmp_path)
    assert "\n" not in str(caught.value)
