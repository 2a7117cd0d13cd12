import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_engine.controls import ControlClip
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.conditioning import SegmentVideos
from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.sampling import SamplingConfig
from cosmos_engine.transfer.segments import plan_segments
from cosmos_engine.transfer.tiny import TinyModel, save_tiny
from cosmos_engine.transfer.transfer25 import Transfer25


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = TinyModel(SIZES["tiny"])
    # Branches and modulations start as the identity; give them something to say.
    for parameter in model.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.02)
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_tiny(file, model, {})
    return file


def generator(checkpoint: Path, **sampling) -> Transfer25:
    return Transfer25.tiny(
        checkpoint, SamplingConfig(**{"steps": 1, "segment_frames": 5, "bfloat16": False} | sampling)
    )


def one(make: Transfer25, source: ControlClip, prompts: list[str], seeds: list[int]) -> np.ndarray:
    """The variants of a single clip."""
    (videos,) = make.generate([source], prompts, seeds)
    return videos


def clip(t: int = 5, h: int = 32, w: int = 32, weights: dict[str, float] | None = None) -> ControlClip:
    weights = weights or {"edge": 1.0, "seg": 0.5}
    rng = np.random.default_rng(t)
    videos = {m: rng.integers(0, 256, (t, h, w, 3), dtype=np.uint8) for m in weights}
    return ControlClip(rng.integers(0, 256, (t, h, w, 3), dtype=np.uint8), videos, weights)


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 9, 12])
def test_frames_in_are_frames_out(checkpoint, frames):
    video = one(generator(checkpoint), clip(frames), ["brown wood table"], [1])
    assert video.shape == (1, frames, 32, 32, 3)
    assert video.dtype == np.uint8


def test_a_size_that_is_no_multiple_of_a_token_comes_back_as_it_went_in(checkpoint):
    assert one(generator(checkpoint), clip(h=40, w=23), ["a"], [1]).shape == (1, 5, 40, 23, 3)


def test_a_variant_does_not_depend_on_its_siblings(checkpoint):
    make = partial(one, generator(checkpoint))
    alone = make(clip(9), ["grey wall"], [7])
    together = make(clip(9), ["brown table", "grey wall"], [3, 7])
    # Batched matrix products round differently; a grey level is the most that may show.
    assert np.abs(alone[0].astype(int) - together[1]).max() <= 1


def test_seed_and_prompt_and_control_each_change_the_pixels(checkpoint):
    make = partial(one, generator(checkpoint))
    base = make(clip(), ["grey wall"], [1])
    assert (make(clip(), ["grey wall"], [1]) == base).all()
    assert (make(clip(), ["grey wall"], [2]) != base).any()
    assert (make(clip(), ["red wall"], [1]) != base).any()
    other = ControlClip(clip().rgb, {m: video[::-1] for m, video in clip().controls.items()}, clip().weights)
    assert (make(other, ["grey wall"], [1]) != base).any()


def test_the_source_pixels_reach_a_variant_through_its_controls_only(checkpoint):
    make, source = partial(one, generator(checkpoint)), clip()
    blank = ControlClip(np.zeros_like(source.rgb), source.controls, source.weights)
    np.testing.assert_array_equal(make(source, ["a"], [1]), make(blank, ["a"], [1]))


def test_guidance_changes_the_pixels(checkpoint):
    plain = one(generator(checkpoint), clip(), ["grey wall"], [1])
    guided = one(generator(checkpoint, guidance=3.0), clip(), ["grey wall"], [1])
    assert (plain != guided).any()


def test_the_first_segment_does_not_see_later_frames(checkpoint):
    long, short = clip(9), clip(9)
    cut = ControlClip(long.rgb[:5], {m: video[:5] for m, video in short.controls.items()}, long.weights)
    make = partial(one, generator(checkpoint))
    np.testing.assert_array_equal(make(long, ["a"], [1])[:, :5], make(cut, ["a"], [1]))


def test_a_prompt_of_too_many_words_is_refused_before_work(checkpoint):
    with pytest.raises(InputError, match="at most 64 words"):
        generator(checkpoint).prepare(["grey wall", "word " * 65])


@pytest.mark.parametrize("sampling", [{"steps": 0}, {"conditional_frames": 3}, {"segment_frames": 6}])
def test_sampling_out_of_range_is_refused(sampling):
    with pytest.raises(InputError):
        SamplingConfig(**sampling)


def test_a_truncated_checkpoint_is_one_line(checkpoint, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"broken\.safetensors"):
        Transfer25.tiny(broken)


def test_the_decoder_does_not_see_a_control_where_its_weight_map_is_zero():
    source = clip()
    shown = np.zeros(source.rgb.shape[:3], np.float32)
    shown[:, :, :16] = 1.0
    mapped = dataclasses.replace(source, weights=dict.fromkeys(source.controls, shown))
    (segment,) = plan_segments(source.length, segment_frames=17, conditional_frames=1)
    whole, weighted = (SegmentVideos(mapped, segment, torch.device("cpu"), weighted=w)["edge"] for w in (False, True))
    torch.testing.assert_close(weighted[..., :16], whole[..., :16])
    assert (weighted[..., 16:] == -1).all()
    assert (whole[..., 16:] > -1).any()
    plain = SegmentVideos(source, segment, torch.device("cpu"), weighted=True)["edge"]
    torch.testing.assert_close(plain, whole)
