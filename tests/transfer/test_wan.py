import inspect
import json
import sys

import pytest
import torch
from diffusers import AutoencoderKLWan

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.codec import Codec, Guide
from cosmos_engine.transfer.wan import WanCodec, load_wan

# The statistics in NVIDIA's tokenizer (predict2/tokenizers/wan2pt1.py), which diffusers must share.
NVIDIA_MEAN = [
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
]
NVIDIA_STD = [
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
]


def small_vae(**changed) -> AutoencoderKLWan:
    torch.manual_seed(0)
    config = {
        "base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 1, 2, 2],
        "num_res_blocks": 1,
        "latents_mean": NVIDIA_MEAN[:4],
        "latents_std": NVIDIA_STD[:4],
    }
    return AutoencoderKLWan(**(config | changed)).eval().requires_grad_(False)


def noise_video(frames: int, height: int = 16, width: int = 24, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    return small_vae()


@pytest.fixture(scope="module")
def codec(vae) -> WanCodec:
    return WanCodec(vae)


@pytest.fixture
def folder(tmp_path):
    small_vae().save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def one_line(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_a_codec(codec):
    assert isinstance(codec, Codec)
    assert codec.latent_channels == 4


@pytest.mark.parametrize("frames", [1, 5, 9, 17])
def test_latents_are_the_normalised_mean_of_diffusers_posterior(codec, vae, frames):
    video = noise_video(frames)
    mean, std = (torch.tensor(values[:4]).view(1, 4, 1, 1, 1) for values in (NVIDIA_MEAN, NVIDIA_STD))
    expected = (vae.encode(video).latent_dist.mean - mean) / std
    latent = codec.encode(video)
    assert latent.shape == (1, 4, (frames - 1) // 4 + 1, 2, 3)
    torch.testing.assert_close(latent, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(codec.encode_control(video), latent, atol=0, rtol=0)


@pytest.mark.parametrize("frames", [1, 5, 9, 17])
def test_decoding_is_diffusers_own_whatever_the_controls(codec, vae, frames):
    latent = torch.randn(1, 4, (frames - 1) // 4 + 1, 2, 3, generator=torch.Generator().manual_seed(frames))
    mean, std = (torch.tensor(values[:4]).view(1, 4, 1, 1, 1) for values in (NVIDIA_MEAN, NVIDIA_STD))
    expected = vae.decode(latent * std + mean).sample
    video = codec.decode(latent, Guide({"edge": noise_video(frames)}))
    assert video.shape == (1, 3, frames, 16, 24)
    torch.testing.assert_close(video, expected, atol=1e-5, rtol=1e-5)


def test_the_statistics_of_the_published_vae_are_nvidias():
    parameters = inspect.signature(AutoencoderKLWan.__init__).parameters  # its defaults are the published config
    assert parameters["latents_mean"].default == NVIDIA_MEAN
    assert parameters["latents_std"].default == NVIDIA_STD


def test_slices_of_a_batch_are_the_batch():
    video = noise_video(5, batch=3)
    sliced, whole = WanCodec(small_vae(), slicing=True), WanCodec(small_vae(), slicing=False)
    assert sliced.vae.use_slicing
    assert not whole.vae.use_slicing
    latent = whole.encode(video)
    torch.testing.assert_close(sliced.encode(video), latent, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(sliced.decode(latent, Guide({})), whole.decode(latent, Guide({})), atol=1e-5, rtol=1e-5)


def test_tiles_leave_small_frames_alone_and_change_big_ones(codec):
    tiled = WanCodec(small_vae(), tile=32)
    small, big = noise_video(5, 32, 32), noise_video(5, 32, 64)
    torch.testing.assert_close(tiled.encode(small), codec.encode(small))
    latent = codec.encode(big)
    assert tiled.encode(big).shape == latent.shape
    assert (tiled.encode(big) - latent).abs().max() > 1e-4
    assert tiled.decode(latent, Guide({})).shape == big.shape
    with pytest.raises(ValueError, match="multiple of 32, got 40"):
        WanCodec(small_vae(), tile=40)


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 16, 16), (6, 16, 16), (5, 12, 16), (5, 16, 20)])
def test_frames_that_the_vae_would_drop_are_refused(codec, frames, height, width):
    with pytest.raises(ValueError, match=f"got {frames} of {height}x{width}"):
        codec.encode(noise_video(frames, height, width))


def test_bfloat16_stays_inside_and_statistics_are_rounded_as_nvidia_rounds_them():
    codec = WanCodec(small_vae().to(torch.bfloat16))
    latent = codec.encode(noise_video(5))
    assert latent.dtype == codec.decode(latent, Guide({})).dtype == torch.float32
    assert codec.vae.dtype == torch.bfloat16
    _, scale = codec._statistics(torch.device("cpu"))
    expected = (1.0 / torch.tensor(NVIDIA_STD[:4], dtype=torch.bfloat16)).float()
    torch.testing.assert_close(scale.flatten(), expected, atol=0, rtol=0)


def test_no_gradients_are_kept(codec):
    assert not codec.encode(noise_video(5).requires_grad_()).requires_grad


def test_a_vae_of_other_strides_or_without_statistics_is_refused():
    with pytest.raises(ValueError, match="strides 4 and 8 without patches, got 4 and 16"):
        WanCodec(small_vae(scale_factor_spatial=16))
    with pytest.raises(ValueError, match="of 4 channels"):
        WanCodec(small_vae(latents_mean=[0.0]))


def test_a_loaded_vae_is_the_saved_one(folder, codec):
    video = noise_video(5)
    loaded = load_wan(folder, "cpu", torch.float32)
    torch.testing.assert_close(loaded.encode(video), codec.encode(video), atol=0, rtol=0)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert load_wan(folder, torch.device("cpu"), torch.bfloat16, tile=64).vae.dtype == torch.bfloat16


def test_what_is_missing_truncated_or_foreign_is_named_in_one_line(folder, tmp_path):
    arguments = ("cpu", torch.float32)
    assert one_line(load_wan, tmp_path / "no", *arguments) == f"{tmp_path / 'no'}: no such folder"

    weights = folder / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    for cut in (0, 7, 200, len(content) - 1):
        weights.write_bytes(content[:cut])
        assert one_line(load_wan, folder, *arguments).startswith(f"{weights}: not a whole safetensors file")
    weights.unlink()
    assert one_line(load_wan, folder, *arguments) == f"{weights}: no such weights file"

    small_vae(num_res_blocks=2).save_pretrained(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / weights.name).read_bytes())
    assert "extra tensors" in one_line(load_wan, folder, *arguments)

    config = folder / "config.json"
    described = json.loads(config.read_text())
    config.write_text(json.dumps(described | {"scale_factor_spatial": 16}))
    assert one_line(load_wan, folder, *arguments).startswith(f"{config}: expected a VAE of strides")
    config.write_text(json.dumps(described | {"_class_name": "AutoencoderKL"}))
    assert "expected _class_name 'AutoencoderKLWan', got 'AutoencoderKL'" in one_line(load_wan, folder, *arguments)
    config.write_text(config.read_text()[:40])
    assert one_line(load_wan, folder, *arguments).startswith(f"{config}: not a whole JSON file")
    config.unlink()
    assert one_line(load_wan, folder, *arguments) == f"{config}: no such file"


def test_without_diffusers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    expected = "needs the diffusers package: pip install 'cosmos-engine[2b]'"
    assert one_line(load_wan, folder, "cpu", torch.float32) == expected
