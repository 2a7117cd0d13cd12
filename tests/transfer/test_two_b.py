import dataclasses
import json

import numpy as np
import pytest
import torch

from cosmos_engine.cli import main
from cosmos_engine.controls import RESOLUTIONS, ControlClip, frame_for
from cosmos_engine.data import Dataset
from cosmos_engine.errors import InputError
from cosmos_engine.transfer import two_b
from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.published.folder import GENERAL, WeightsFolder
from cosmos_engine.transfer.sampling import SAMPLING

from .small_two_b import SMALL, FakeEncoder, write_weights

QUICK = dataclasses.replace(SAMPLING[GENERAL], steps=3, segment_frames=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> WeightsFolder:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setitem(SIZES, "2b", SMALL)
    monkeypatch.setattr(two_b, "load_reason", lambda folder, device, dtype: FakeEncoder())
    monkeypatch.setenv("COSMOS_ENGINE_CACHE", str(tmp_path / "cache"))


def opened(weights, modalities=("edge", "vis"), sampling=QUICK, **options):
    options = two_b.TwoBOptions(**({"device": "cpu", "resolution": "256"} | options))
    return two_b.open_two_b(weights, modalities, sampling, options)


def clip(frames=5, height=32, width=48, weights=None, **changed) -> ControlClip:
    weights = weights or {"edge": 1.0, "vis": 0.5}
    rng = np.random.default_rng(frames)
    videos = {m: rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8) for m in weights}
    rgb = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return ControlClip(rgb, videos, weights, **changed)


def close(first: np.ndarray, second: np.ndarray) -> bool:
    """bfloat16 products of another batch size round differently, and three denoise steps amplify that."""
    return float(np.abs(first.astype(float) - second).mean()) < 2.0


@pytest.mark.parametrize("frames", [1, 5, 6, 11])
@pytest.mark.parametrize("conditional_frames", [0, 1, 2])
def test_frames_in_are_frames_out(weights, frames, conditional_frames):
    sampling = dataclasses.replace(QUICK, steps=1, conditional_frames=conditional_frames)
    (videos,) = opened(weights, sampling=sampling).generate([clip(frames)], ["a red cube"], [1])
    assert videos.shape == (1, frames, 32, 48, 3)


def test_a_variant_does_not_depend_on_the_batch(weights):
    generator = opened(weights)
    first, second = clip(), clip(weights={"edge": 0.25})
    second = dataclasses.replace(second, rgb=255 - second.rgb)
    together = generator.generate([first, second], ["a", "b"], [1, 2])
    for source, videos in zip((first, second), together, strict=True):
        for prompt, seed, video in zip("ab", (1, 2), videos, strict=True):
            assert close(generator.generate([source], [prompt], [seed])[0][0], video)


@pytest.mark.parametrize("limit", ["resident", "turns", "blocks"])
def test_offload_and_smaller_batches_do_not_change_the_pixels(weights, limit):
    plain, clips = opened(weights), [clip(), clip(weights={"edge": 0.25})]
    expected = plain.generate(clips, ["a", "b"], [1, 2])
    frugal = opened(weights)
    frugal.plan([(32, 48)], ["edge", "vis"], 4)
    frugal._placement.arrange(limit)
    frugal._plan = dataclasses.replace(frugal._plan, rows=1)
    for ours, theirs in zip(frugal.generate(clips, ["a", "b"], [1, 2]), expected, strict=True):
        assert close(ours, theirs)


def test_a_map_of_one_number_is_that_number(weights):
    generator = opened(weights)
    mapped = clip(weights={"edge": np.full((5, 32, 48), 0.5, np.float32), "vis": 0.5})
    scalar = clip(weights={"edge": 0.5, "vis": 0.5})
    np.testing.assert_array_equal(*[generator.generate([c], ["a"], [1])[0] for c in (mapped, scalar)])


def test_a_map_that_is_zero_in_a_half_changes_the_pixels(weights):
    generator = opened(weights)
    half = np.zeros((5, 32, 48), np.float32)
    half[:, :, :24] = 1.0
    made = [generator.generate([clip(weights={"edge": w, "vis": 0.5})], ["a"], [1])[0] for w in (half, 1.0)]
    assert (made[0] != made[1]).any()


def test_a_control_of_almost_no_weight_is_nearly_no_control(weights):
    generator = opened(weights)
    faint = clip(weights={"edge": 1e-6, "vis": 1.0})
    without = ControlClip(faint.rgb, {"vis": faint.controls["vis"]}, {"vis": 1.0})
    assert close(*[generator.generate([c], ["a"], [1])[0] for c in (faint, without)])


def test_guided_generation_with_nothing_to_keep_changes_nothing_and_with_all_it_does(weights):
    generator, source = opened(weights), clip()
    plain = generator.generate([source], ["a"], [1])[0]
    keep = np.zeros((5, 32, 48), bool)
    none = dataclasses.replace(source, keep=keep, keep_steps=3)
    some = dataclasses.replace(source, keep=~keep, keep_steps=3)
    np.testing.assert_array_equal(generator.generate([none], ["a"], [1])[0], plain)
    assert (generator.generate([some], ["a"], [1])[0] != plain).any()


def test_guidance_of_the_recipe_is_used(weights):
    generator = opened(weights)
    made = [generator.generate([dataclasses.replace(clip(), guidance=g)], ["a"], [1])[0] for g in (0.0, 3.0, None)]
    assert (made[0] != made[1]).any()
    np.testing.assert_array_equal(made[1], made[2])


def test_only_the_branches_that_are_used_are_loaded_and_the_image_path_is_folded(weights):
    network = two_b.load_network(weights, ["edge"])
    assert list(network.branches) == ["edge"]
    assert not [name for name, _ in network.named_parameters() if "img" in name]
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_the_text_encoder_is_loaded_once_and_never_for_known_prompts(weights, monkeypatch):
    loads = []
    monkeypatch.setattr(two_b, "load_reason", lambda *_: loads.append(1) or FakeEncoder())
    opened(weights).prepare(["a", "b"])
    assert len(loads) == 1
    opened(weights).generate([clip()], ["a", "b"], [1, 2])
    assert len(loads) == 1


def test_the_compile_option_compiles_every_block_of_base_and_branches(weights, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda forward, dynamic: compiled.append(1) or forward)
    opened(weights, compile=True)
    assert len(compiled) == SMALL.blocks + 2 * SMALL.control_blocks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda:99"}, "--device cuda:99: PyTorch finds"),
        ({"device": "tpu9"}, "--device"),
        ({"resolution": "481"}, "resolution '481'"),
        ({"memory_limit_bytes": 1000}, "even with offload"),
    ],
)
def test_bad_options_are_one_line_before_any_long_work(weights, change, message):
    def start() -> None:
        generator = opened(weights, **change)
        generator.plan([generator.framing(64, 64).size], ["edge"], 1)

    with pytest.raises(InputError, match=message) as caught:
        start()
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_name_the_command_that_fetches_them(tmp_path):
    with pytest.raises(InputError, match="cosmos-engine weights download"):
        opened(WeightsFolder(tmp_path))


def test_a_branch_for_another_size_is_refused(tmp_path, monkeypatch):
    weights = write_weights(tmp_path / "w", dataclasses.replace(SMALL, width=96))
    with pytest.raises(InputError, match="another size: width 96 instead of 48"):
        opened(weights)


def test_the_distilled_model_takes_edge_only_and_one_segment(weights):
    options = two_b.TwoBOptions(device="cpu", resolution="256")
    with pytest.raises(InputError, match="a branch for edge only"):
        two_b.open_two_b(weights, ["seg"], None, options, "transfer25-2b-distilled")
    sampling = dataclasses.replace(SAMPLING["transfer25-2b-distilled"], segment_frames=5)
    generator = two_b.open_two_b(weights, ["edge"], sampling, options, "transfer25-2b-distilled")
    assert generator.generate([clip(weights={"edge": 1.0})], ["a"], [1])[0].shape == (1, 5, 32, 48, 3)
    with pytest.raises(InputError, match="at most 5 frames"):
        generator.generate([clip(6, weights={"edge": 1.0})], ["a"], [1])


def test_cameras_are_brought_to_a_size_of_the_table(weights):
    assert opened(weights).framing(100, 200) == frame_for(100, 200, "256", "letterbox")


def test_augment_with_the_2b_generator_differs_in_nothing_but_size(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RESOLUTIONS, "256", {"1,1": (64, 64)})  # seconds in place of a minute
    demos, out = tmp_path / "demos", tmp_path / "out.zarr"
    record = ["record", "--task", "lift", "--episodes", "1", "--out", str(demos), "image_size=32"]
    assert main(record) == 0
    words = ["augment", str(demos), "--generator", "transfer25-2b", "--weights", str(weights.path), "--variants", "1"]
    words += ["--gate", "off"]
    words += ["--device", "cpu", "--resolution", "256", "--out", str(out), "--max-memory", "4GiB"]
    words += ["sampling.steps=1", "sampling.segment_frames=33", "recipe.vis=0.0"]
    assert main(words) == 0
    assert "memory: about" in capsys.readouterr().err
    dataset = Dataset(out)
    assert dataset.episode_count == 2
    job = json.loads(json.dumps(dataset.attrs["job"]))
    assert job["generator"]["name"] == "transfer25-2b"
    assert job["config"]["recipe"]["edge_preset"] == "medium"
    assert set(job["generator"]["weights_sha256"]) >= {"transfer25-2b/base.safetensors", "wan2.1-vae", "reason1"}
    assert main(["verify", str(out), "--against", str(demos)]) == 0
