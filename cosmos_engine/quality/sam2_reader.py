"""SAM2 as a reader of roles, through transformers, where a user has its weights.

SAM2 segments what it is pointed at. It is shown a box around each robot part and object in the frame in which the
recording shows most of it, and follows it through the variant's pixels both ways: an object that vanished, or is
elsewhere, is not in the masks that come back. Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos".

Shapes: t frames, h rows, w columns, o objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8, UInt16
from torch.nn import functional as F

from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.quality.reader import Readings

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in SAM2's image processor
BOX_LABELS = (2, 3)  # of a box's two corners, in SAM2's prompt encoder
SMALLEST_PX = 16
"""Instances that no frame shows with at least so many pixels are not looked for."""


class Sam2Reader:
    """Read roles with SAM2; implements `ShownReader`. It knows no depth: put it into a `JoinedReader` for that.

    Args:
        model: transformers' `Sam2VideoModel`.
        weights_sha256: digest of the weights file, part of the name.
        device: where to compute.
    """

    def __init__(self, model: Any, weights_sha256: str = "", device: str | torch.device = "cpu") -> None:
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self._weights_sha256 = weights_sha256

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> Sam2Reader:
        """Load a folder in transformers' layout: config.json and model.safetensors.

        Raises:
            InputError: transformers is missing, or the folder holds no SAM2 that loads.
        """
        model = load_pretrained("Sam2VideoModel", folder)
        return cls(model, file_sha256(folder / "model.safetensors"), device)

    @property
    def name(self) -> str:
        """Name and the first digits of the weights' SHA-256."""
        return f"sam2 {self._weights_sha256[:12]}".rstrip()

    def shown(self, passes: CameraPasses, labels: Mapping[int, InstanceLabel]) -> _ShownSam2:
        """Return a reader that looks for the robot's parts and the objects of this camera's clip."""
        prompts = {}
        for instance_id, label in sorted(labels.items()):
            sizes = (passes.instance == instance_id).sum((1, 2))
            if label.role != "scene" and sizes.max(initial=0) >= SMALLEST_PX:
                frame = int(sizes.argmax())
                prompts[instance_id] = (frame, box_px(passes.instance[frame], instance_id), ROLES.index(label.role))
        return _ShownSam2(self, prompts)

    @torch.inference_mode()
    def follow(
        self, rgb: UInt8[np.ndarray, "t h w 3"], frame: int, boxes_px: Float32[np.ndarray, "o 4"]
    ) -> Float32[np.ndarray, "t o h w"]:
        """Return the probability that a pixel is of each object that `boxes_px` (x0 y0 x1 y1) show in `frame`."""
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        side = int(self._model.config.image_size)
        height, width = rgb.shape[1:3]
        session = Sam2VideoInferenceSession(
            video=_normalized(rgb, side),
            video_height=height,
            video_width=width,
            inference_device=self._device,
            dtype=torch.float32,
        )
        corners = torch.from_numpy(boxes_px).reshape(-1, 2, 2) * torch.tensor([side / width, side / height])
        for number, points in enumerate(corners):
            place = session.obj_id_to_idx(number)
            labels = torch.tensor([BOX_LABELS], dtype=torch.int32)[None]
            session.add_point_inputs(place, frame, {"point_coords": points[None, None], "point_labels": labels})
        session.obj_with_new_inputs = list(range(len(corners)))
        found = np.zeros((len(rgb), len(boxes_px), height, width), np.float32)
        for reverse in (False, True):
            if reverse and frame == 0:
                break
            for output in self._model.propagate_in_video_iterator(session, start_frame_idx=frame, reverse=reverse):
                logits = F.interpolate(output.pred_masks.float(), (height, width), mode="bilinear")
                found[output.frame_idx] = logits[:, 0].sigmoid().cpu().numpy()
        return found


class _ShownSam2:
    """Look for given instances; implements `Reader`."""

    def __init__(self, sam2: Sam2Reader, prompts: Mapping[int, tuple[int, np.ndarray, int]]) -> None:
        self._sam2 = sam2
        self._prompts = prompts

    @property
    def name(self) -> str:
        """The name of the reader behind."""
        return self._sam2.name

    def read(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Readings:
        """Return roles: a role has the probability of its most probable instance, the scene what is left.

        `log_depth` is 0 everywhere: SAM2 knows no depth.
        """
        roles = np.zeros((*rgb.shape[:3], len(ROLES)), np.float32)
        for frame in sorted({frame for frame, _, _ in self._prompts.values()}):
            here = [(box, role) for at, box, role in self._prompts.values() if at == frame]
            found = self._sam2.follow(rgb, frame, np.stack([box for box, _ in here]).astype(np.float32))
            for place, (_, role) in enumerate(here):
                roles[..., role] = np.maximum(roles[..., role], found[:, place])
        scene = ROLES.index("scene")
        roles[..., scene] = 1.0 - roles.max(-1)
        return Readings(roles / roles.sum(-1, keepdims=True), np.zeros(rgb.shape[:3], np.float32))


def box_px(instance: UInt16[np.ndarray, "h w"], instance_id: int) -> Float32[np.ndarray, " 4"]:
    """Return x0, y0, x1, y1 around an instance's pixels."""
    rows, columns = np.nonzero(instance == instance_id)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


def load_pretrained(class_name: str, folder: Path) -> Any:
    """Return a transformers model from a folder on this machine; nothing is downloaded.

    Raises:
        InputError: transformers is missing, or the folder holds no such model that loads.
    """
    if not (folder / "model.safetensors").is_file() or not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected config.json and model.safetensors of a {class_name}")
    try:
        import transformers
    except ImportError as error:
        raise InputError(f"{class_name}: transformers is missing; install cosmos-engine[reason]") from error
    try:
        return getattr(transformers, class_name).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder}: no {class_name} that loads: {str(error).splitlines()[0]}") from error


def _normalized(rgb: UInt8[np.ndarray, "t h w 3"], side: int) -> torch.Tensor:
    """Return frames resized to a square, as SAM2's image processor does: float32 (t, 3, side, side)."""
    resized = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_LINEAR) for frame in rgb])
    scaled = (resized.astype(np.float32) / 255.0 - np.array(IMAGE_MEAN, np.float32)) / np.array(IMAGE_STD, np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()
