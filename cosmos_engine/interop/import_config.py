"""What an import must be told: what the file of a simulator does not say of cameras, colours and roles."""

from __future__ import annotations

from dataclasses import dataclass, field

from cosmos_engine.errors import InputError

BACKGROUND = "background"
"""Role of what is no instance: id 0."""

AXES = ("optical", "ray")
ENCODINGS = ("metres", "buffer", "inverted")


@dataclass(frozen=True)
class DepthConfig:
    """How depth is written.

    Attributes:
        path: in each demo, as "obs/table_cam_depth"; "" is the format's usual place.
        encoding: "metres": times `unit_m`; "buffer": OpenGL's z-buffer of [0, 1] between `near_m` and `far_m`
            (robosuite); "inverted": 1 - depth / `far_m`, of [0, 1] or of 8 or 16 bits, 0 where nothing was hit (the
            videos of Isaac Lab's Cosmos scripts).
        unit_m: metres of one unit: 0.001 for millimetres.
        near_m, far_m: planes of "buffer"; `far_m` of "inverted".
        along: "optical": along the optical axis (distance_to_image_plane); "ray": from the camera's centre
            (distance_to_camera).
    """

    path: str = ""
    encoding: str = "metres"
    unit_m: float = 1.0
    near_m: float = 0.01
    far_m: float = 1.5
    along: str = "optical"

    def __post_init__(self) -> None:
        """Raise InputError for an unknown encoding or axis, or planes out of order; names the key."""
        for key, value, known in (("encoding", self.encoding, ENCODINGS), ("along", self.along, AXES)):
            if value not in known:
                raise InputError(f"depth.{key}: expected one of {', '.join(known)}, got {value!r}")
        if self.unit_m <= 0 or not 0 <= self.near_m < self.far_m:
            raise InputError(
                f"depth: expected unit_m > 0 and 0 <= near_m < far_m, got {self.unit_m}, {self.near_m}, {self.far_m}"
            )


@dataclass(frozen=True)
class CameraConfig:
    """One camera: where its passes are, and its pinhole and pose where the file does not say them.

    Attributes:
        rgb, segmentation: paths in each demo; "" is the format's usual place.
        depth: how depth is written.
        intrinsics_px: the pinhole matrix, 3 x 3; or `focal_length_mm` and `horizontal_aperture_mm` of a USD camera.
        intrinsics_path: of a (3, 3) or (T, 3, 3) dataset in each demo, in place of `intrinsics_px`.
        world_from_camera: the pose of a camera that stands still, 4 x 4, OpenCV axes (Isaac Lab's convention "ros");
            or `position_m` and `quat_wxyz`.
        world_from_camera_path: of a dataset of poses in each demo, (T, 4, 4), or (T, 7) of metres and wxyz.
    """

    rgb: str = ""
    segmentation: str = ""
    depth: DepthConfig = field(default_factory=DepthConfig)
    intrinsics_px: list[list[float]] = field(default_factory=list)
    focal_length_mm: float = 0.0
    horizontal_aperture_mm: float = 20.955
    intrinsics_path: str = ""
    world_from_camera: list[list[float]] = field(default_factory=list)
    position_m: list[float] = field(default_factory=list)
    quat_wxyz: list[float] = field(default_factory=list)
    world_from_camera_path: str = ""


@dataclass(frozen=True)
class LabelConfig:
    """What a colour or an id of a segmentation is.

    Attributes:
        name, class_name: of the instance; "" as the class is the name.
        role: robot, manipulated, scene, or background for what is no instance.
        color: of a colourised segmentation: 3 or 4 numbers of 0 to 255; alpha is not compared.
        ids: of a segmentation of numbers.
    """

    name: str = ""
    class_name: str = ""
    role: str = "scene"
    color: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ImportConfig:
    """What an import is told; what the file says itself comes from the file.

    Attributes:
        task: "" is the environment's name.
        instruction: of every episode that has none of its own.
        step_hz: control steps a second; 0 takes what the file says.
        cameras: by name; those that are not named here have everything in its usual place.
        labels: what the segmentations show.
        skip: images that are no cameras, for want of depth or segmentation: kept for exports, neither augmented nor
            trained on.
        rename: observations under a new name, by their old one.
        assume_success: for files that do not say how an episode ended.
    """

    task: str = ""
    instruction: str = ""
    step_hz: float = 0.0
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    labels: list[LabelConfig] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    assume_success: bool = False
