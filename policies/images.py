"""Image sizes: shrink by area averaging, crop. The same functions serve training and acting."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8


def resize_by_area(images: UInt8[np.ndarray, "n y x 3"], size: int) -> UInt8[np.ndarray, "n {size} {size} 3"]:
    """Return square images of `size` pixels, each the average of the area it covers; the input itself at equal size."""
    if images.shape[1:3] == (size, size):
        return images
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for source, target in zip(images, resized, strict=True):
        cv2.resize(source, (size, size), dst=target, interpolation=cv2.INTER_AREA)
    return resized


def centre_crop(images_BTYXC: UInt8[torch.Tensor, "b t y x 3"], size: int) -> UInt8[torch.Tensor, "b t y2 x2 3"]:
    """Return the middle `size` x `size` pixels."""
    row, column = ((extent - size) // 2 for extent in images_BTYXC.shape[2:4])
    return images_BTYXC[:, :, row : row + size, column : column + size]


def crop_at(
    images_BTYXC: UInt8[torch.Tensor, "b t y x 3"],
    rows: Int[torch.Tensor, " b"],
    columns: Int[torch.Tensor, " b"],
    size: int,
) -> UInt8[torch.Tensor, "b t y2 x2 3"]:
    """Return each sample's crop with its upper left corner at (rows[b], columns[b]), the same for all of its frames."""
    corners_BYXTCyx = images_BTYXC.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5, 6)
    samples = torch.arange(len(images_BTYXC), device=images_BTYXC.device)
    return corners_BYXTCyx[samples, rows, columns].permute(0, 1, 3, 4, 2)


def padded_by_edges(images_BTYXC: UInt8[torch.Tensor, "b t y x 3"], pixels: int) -> UInt8[torch.Tensor, "b t y2 x2 3"]:
    """Return the images with their edge pixels repeated `pixels` times outwards on every side."""
    if pixels == 0:
        return images_BTYXC
    for axis in (2, 3):
        extent = images_BTYXC.shape[axis]
        taken = torch.arange(-pixels, extent + pixels, device=images_BTYXC.device).clamp(0, extent - 1)
        images_BTYXC = images_BTYXC.index_select(axis, taken)
    return images_BTYXC
