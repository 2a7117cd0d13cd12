"""The Wan2.1 VAE, through diffusers: the 2B model's codec.

Shape legend: B clip, C channel, T frame (latent frame: T_lat = (T - 1) / 4 + 1), H W pixel (latent: H/8, W/8).

Latents are the deterministic mean, normalised per channel, as in NVIDIA's tokenizer (diffusers' own Cosmos pipeline
samples them instead). diffusers runs the VAE with a causal cache: it encodes 1, 4, 4, ... frames and decodes one latent
frame at a time. NVIDIA encodes 1, 16, 16, ... frames, which is the same up to rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, TEMPORAL_STRIDE, Guide
from cosmos_engine.transfer.published.pretrained import fill_from_folder, read_config

WEIGHTS_STEM = "diffusion_pytorch_model"  # diffusers' file name
TILE_MULTIPLE = 32  # tiles overlap by a quarter, which must be whole latent pixels


class WanCodec(nn.Module):
    """Encode video by the Wan2.1 VAE, and decode from the latent alone: `controls` are not looked at.

    The VAE works in its own dtype and gradients are never kept; latents and videos come out in float32.

    Args:
        vae: diffusers' `AutoencoderKLWan`.
        slicing: one clip of a batch after another. Exact, and the memory of a batch is that of one clip.
        tile: side of square tiles for frames larger than this, a multiple of 32; neighbours overlap by a quarter and
            are blended linearly. None does not tile. Tiles change the result: borders are padded, and the attention in
            the middle of the VAE sees one tile instead of the frame. So only for frames that do not fit otherwise.

    Raises:
        ValueError: a VAE of other strides than 8x8x4, or without statistics for all of its channels.
    """

    def __init__(self, vae: Any, *, slicing: bool = True, tile: int | None = None) -> None:
        super().__init__()
        config = vae.config
        strides = (config.scale_factor_temporal, config.scale_factor_spatial, config.patch_size)
        if strides != (TEMPORAL_STRIDE, SPATIAL_STRIDE, None):
            raise ValueError(
                f"expected a VAE of strides {TEMPORAL_STRIDE} and {SPATIAL_STRIDE} without patches, got "
                f"{strides[0]} and {strides[1]} with patch size {strides[2]}"
            )
        counts = (len(config.latents_mean or ()), len(config.latents_std or ()))
        if counts != (config.z_dim, config.z_dim):
            raise ValueError(f"expected latents_mean and latents_std of {config.z_dim} channels, got {counts}")
        self.latent_channels = int(config.z_dim)
        self.vae: Any = vae
        if slicing:
            vae.enable_slicing()
        if tile is not None:
            if tile < TILE_MULTIPLE or tile % TILE_MULTIPLE:
                raise ValueError(f"tile: expected a multiple of {TILE_MULTIPLE}, got {tile}")
            stride = tile * 3 // 4
            vae.enable_tiling(tile, tile, stride, stride)

    @torch.no_grad()
    def encode(self, video_BCTHW: Float[Tensor, "b 3 t h w"]) -> Float32[Tensor, "b c l hh ww"]:
        """Encode video in [-1, 1] to normalised latents.

        Raises:
            ValueError: frames other than 4k + 1, or a height or width that is no multiple of 8.
        """
        T, H, W = video_BCTHW.shape[2:]
        if (T - 1) % TEMPORAL_STRIDE or H % SPATIAL_STRIDE or W % SPATIAL_STRIDE:
            # Without this check the VAE would drop the last frames in silence.
            raise ValueError(f"video: expected 4k + 1 frames of a height and width in eights, got {T} of {H}x{W}")
        mean, scale = self._statistics(video_BCTHW.device)
        raw_BCTHW = self.vae.encode(video_BCTHW.to(self.vae.dtype)).latent_dist.mode()
        return (raw_BCTHW.float() - mean) * scale

    encode_control = encode

    @property
    def uses_points(self) -> bool:
        """It decodes from the latent alone."""
        return False

    @torch.no_grad()
    def decode(self, latent_BCTHW: Float[Tensor, "b c l hh ww"], guide: Guide) -> Float32[Tensor, "b 3 t h w"]:
        """Decode normalised latents to video in [-1, 1], whatever the guide."""
        mean, scale = self._statistics(latent_BCTHW.device)
        raw_BCTHW = latent_BCTHW.float() / scale + mean
        return self.vae.decode(raw_BCTHW.to(self.vae.dtype)).sample.float()

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and inverse deviation of each channel, rounded as NVIDIA rounds them: to the VAE's dtype.

        In bfloat16 the inverse is off by up to 0.4 %, and that is what the 2B model was trained on.
        """
        config, dtype = self.vae.config, self.vae.dtype
        mean = torch.tensor(config.latents_mean, dtype=dtype, device=device)
        scale = 1.0 / torch.tensor(config.latents_std, dtype=dtype, device=device)
        return mean.float().view(1, -1, 1, 1, 1), scale.float().view(1, -1, 1, 1, 1)


def load_wan(
    folder: Path, device: torch.device | str, dtype: torch.dtype, *, slicing: bool = True, tile: int | None = None
) -> WanCodec:
    """Load the VAE from a folder in diffusers' layout: config.json and diffusion_pytorch_model.safetensors.

    Raises:
        InputError: diffusers is not installed; the folder or a file is missing, truncated or another model's.
    """
    config = read_config(folder, "_class_name", "AutoencoderKLWan")
    try:
        from diffusers import AutoencoderKLWan
    except ImportError as error:
        raise InputError("needs the diffusers package: pip install 'cosmos-engine[2b]'") from error
    with torch.device("meta"):
        vae = AutoencoderKLWan.from_config(config)
    try:
        codec = WanCodec(vae, slicing=slicing, tile=tile)
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    fill_from_folder(vae, folder, WEIGHTS_STEM, device, dtype)
    return codec.eval().requires_grad_(False)
