import numpy as np
import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.quality.sam2_reader import Sam2Reader, box_px
from cosmos_engine.quality.shown_reader import reader_of

from .conftest import LABELS, scene

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A SAM2 of transformers' own, with random weights and one layer of everything; 64 is built into its memory."""
    torch.manual_seed(0)
    hiera = transformers.Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=128,
    )  # fmt: skip
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=transformers.Sam2VideoPromptEncoderConfig(hidden_size=128, image_size=64),
        mask_decoder_config=transformers.Sam2VideoMaskDecoderConfig(
            hidden_size=128, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=32
        ),
        image_size=64, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
    )  # fmt: skip
    return transformers.Sam2VideoModel(config).eval()


def test_roles_come_in_the_size_of_the_frames_and_sum_to_one(model):
    passes = scene(5, 2)
    reader = Sam2Reader(model, "0123456789abcdef")
    assert reader.name == "sam2 0123456789ab"
    readings = reader_of(reader, passes, LABELS).read(passes.rgb)
    assert readings.role_probabilities.shape == (5, 48, 48, 3)
    np.testing.assert_allclose(readings.role_probabilities.sum(-1), 1, atol=1e-6)
    assert (readings.role_probabilities[0, ..., :2] > 0).any()  # SAM2 may say of a frame that an object is not in it
    again = reader_of(reader, passes, LABELS).read(passes.rgb)
    np.testing.assert_array_equal(readings.role_probabilities, again.role_probabilities)


def test_every_frame_is_followed_from_one_in_the_middle(model, monkeypatch):
    passes = scene(5)
    boxes = np.stack([box_px(passes.instance[2], 6), box_px(passes.instance[2], 7)])
    propagate, frames = model.propagate_in_video_iterator, []

    def watched(*args, **kwargs):
        for output in propagate(*args, **kwargs):
            frames.append(output.frame_idx)
            output.pred_masks = torch.full_like(output.pred_masks, 3.0)
            yield output

    monkeypatch.setattr(model, "propagate_in_video_iterator", watched)
    found = Sam2Reader(model).follow(passes.rgb, 2, boxes)
    assert sorted(set(frames)) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found, np.full((5, 2, 48, 48), 1 / (1 + np.exp(-3.0))), rtol=1e-5)


def test_only_what_the_recording_shows_is_looked_for(model):
    passes = scene(3)
    asked = []

    class Counting(Sam2Reader):
        def follow(self, rgb, frame, boxes_px):
            asked.append((frame, boxes_px.tolist()))
            return super().follow(rgb, frame, boxes_px)

    passes.instance[1:][passes.instance[1:] == 7] = 3
    reader_of(Counting(model), passes, LABELS).read(passes.rgb)
    assert asked == [(0, [[30.0, 0.0, 44.0, 14.0], [8.0, 24.0, 18.0, 34.0], [32.0, 32.0, 46.0, 44.0]])]


def test_a_clip_without_robot_and_objects_is_all_scene(model):
    passes = scene(2)
    passes.instance[:] = 3
    readings = reader_of(Sam2Reader(model), passes, LABELS).read(passes.rgb)
    assert (readings.role_probabilities[..., 2] == 1).all()


def test_a_saved_model_loads(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Sam2Reader.load(tmp_path)
    passes = scene(2)
    boxes = box_px(passes.instance[0], 6)[None]
    np.testing.assert_allclose(
        loaded.follow(passes.rgb, 0, boxes), Sam2Reader(model).follow(passes.rgb, 0, boxes), atol=1e-6
    )


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"expected config\.json"):
        Sam2Reader.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="no Sam2VideoModel that loads") as caught:
        Sam2Reader.load(tmp_path)
    assert "\n" not in str(caught.value)
