"""Render passes of several cameras at one instant, as a recording keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_engine.data.episode import CameraPasses, InstanceLabel
from cosmos_engine.errors import InputError
from isaac_ext import kit
from isaac_ext.camera import intrinsics_px, world_from_camera
from isaac_ext.labels import InstanceIds
from isaac_ext.roles import StageRoles

RGB = "rgb"
DEPTH = "distance_to_image_plane"
# Names the prim of every pixel, labelled or not; `instance_segmentation` would see labelled prims only.
INSTANCES = "instance_id_segmentation_fast"
CAMERA = "camera_params"


@dataclass(frozen=True)
class PassFrame:
    """Hold the passes of one camera at one instant.

    `rgb` is uint8 (h, w, 3); `depth_m` float32 (h, w), metres along the optical axis, inf where nothing was hit;
    `instance` uint16 (h, w), 0 there; `intrinsics_px` float64 (3, 3); `world_from_camera` float64 (4, 4), OpenCV axes.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    instance: np.ndarray
    intrinsics_px: np.ndarray
    world_from_camera: np.ndarray


class PassCapture:
    """Render passes through Replicator; owns its render products until `close`.

    Instance ids are one table for all cameras from `begin_episode` on.
    """

    def __init__(
        self, stage: Any, cameras: Mapping[str, str], size: tuple[int, int], roles: StageRoles, rt_subframes: int
    ) -> None:
        """Make render products and annotators.

        Args:
            stage: the USD stage.
            cameras: name -> prim path.
            size: height and width in pixels.
            roles: which prim belongs to which instance.
            rt_subframes: frames that RTX renders for each one that is kept; more leave no ghosts of what moved.
        """
        self._roles = roles
        self._rt_subframes = rt_subframes
        self._products: list[Any] = []
        self._annotators: dict[str, dict[str, Any]] = {}
        self._size = size
        self._closed = False
        self._captured_on_play = kit.captures_on_play()
        self._dlss_mode = kit.dlss_mode()
        kit.set_capture_on_play(False)
        kit.set_dlss_mode(kit.DLSS_QUALITY)
        try:
            for name, path in cameras.items():
                kit.still_tick_rate(stage, path)
                product = kit.render_product(path, *size, f"cosmos_{name}")
                self._products.append(product)
                self._annotators[name] = {
                    kind: kit.annotator(kind, product) for kind in (RGB, DEPTH, INSTANCES, CAMERA)
                }
        except BaseException:
            self.close()
            raise
        self._ids = InstanceIds(roles.entity)

    async def begin_episode(self, warm_up_frames: int) -> None:
        """Forget the instances of the episode before and render frames that are thrown away.

        The first frame after a reset can show what was before it (IsaacLab#6394), and RTX gathers light over several.
        """
        self._ids = InstanceIds(self._roles.entity)
        for _ in range(warm_up_frames):
            await kit.capture(self._rt_subframes)

    async def frame(self) -> dict[str, PassFrame]:
        """Render this instant and return the passes of each camera.

        Raises:
            InputError: a pass is missing, of another size, or holds ids without a label; names the camera.
        """
        await kit.capture(self._rt_subframes)
        frames = {}
        for name, annotators in self._annotators.items():
            try:
                frames[name] = self._read(annotators)
            except InputError as error:
                raise InputError(f"camera {name!r}: {error}") from error
        return frames

    def labels(self) -> dict[int, InstanceLabel]:
        """Return instance id -> label of every instance seen in this episode."""
        return {instance: self._roles.instance_label(label) for instance, label in self._ids.labels.items()}

    def close(self) -> None:
        """Give the render products back and set Replicator as it was; a second call does nothing."""
        for annotators in self._annotators.values():
            for made in annotators.values():
                made.detach()
        self._annotators = {}
        for product in self._products:
            product.destroy()
        if not self._closed:
            self._closed = True
            kit.set_capture_on_play(self._captured_on_play)
            if self._dlss_mode is not None:
                kit.set_dlss_mode(self._dlss_mode)
        self._products = []

    def _read(self, annotators: Mapping[str, Any]) -> PassFrame:
        rgb = np.asarray(annotators[RGB].get_data())
        if rgb.dtype != np.uint8 or rgb.shape != (*self._size, 4):
            raise InputError(self._wrong(RGB, rgb, "uint8 rgba"))
        depth = np.asarray(annotators[DEPTH].get_data(), np.float32)
        depth = depth[..., 0] if depth.ndim == 3 and depth.shape[2] == 1 else depth
        if depth.shape != self._size:
            raise InputError(self._wrong(DEPTH, depth, "float32"))
        segmentation = annotators[INSTANCES].get_data()
        pixels = np.asarray(segmentation["data"])
        if pixels.shape[:2] != self._size:
            raise InputError(self._wrong(INSTANCES, pixels, "ids"))
        hit = np.isfinite(depth) & (depth > 0)
        instance = self._ids.frame(pixels, segmentation["info"])
        parameters = annotators[CAMERA].get_data()
        return PassFrame(
            rgb=np.array(rgb[..., :3]),
            depth_m=np.where(hit, depth, np.inf).astype(np.float32),
            instance=np.where(hit, instance, 0).astype(np.uint16),
            intrinsics_px=intrinsics_px(parameters),
            world_from_camera=world_from_camera(parameters),
        )

    def _wrong(self, name: str, array: np.ndarray, kind: str) -> str:
        height, width = self._size
        hint = "; with several GPUs start Isaac Sim with one (--/renderer/multiGpu/enabled=0)" if not array.size else ""
        return f"{name}: expected {height} x {width} {kind}, got {array.dtype} {array.shape}{hint}"


def stacked(frames: list[PassFrame]) -> CameraPasses:
    """Return the frames of one camera as an episode's passes.

    Raises:
        InputError: the lens changed on the way; a recording keeps one intrinsic matrix a camera.
    """
    lens = frames[0].intrinsics_px
    for step, frame in enumerate(frames):
        if not np.allclose(frame.intrinsics_px, lens, rtol=1e-6, atol=1e-4):
            raise InputError(f"the camera's focal length or aperture changed at control step {step}")
    return CameraPasses(
        rgb=np.stack([frame.rgb for frame in frames]),
        depth_m=np.stack([frame.depth_m for frame in frames]),
        instance=np.stack([frame.instance for frame in frames]),
        intrinsics_px=lens,
        world_from_camera=np.stack([frame.world_from_camera for frame in frames]),
    )
