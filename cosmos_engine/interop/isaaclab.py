"""Isaac Lab: HDF5 of its recorder, also of its Cosmos workflow; imported, and exported for its handler and robomimic.

Images are named as the sensors are (`obs/table_cam`); depth is in metres with 0 where nothing was hit, segmentation is
colourised, states are groups (`states/articulation/robot/joint_position`), taken after each action.
"""

from __future__ import annotations

from pathlib import Path

from cosmos_engine.interop.demo_export import ExportOptions, ExportStyle, export_demos
from cosmos_engine.interop.demo_import import DemoFormat, Imported, import_demos
from cosmos_engine.interop.foreign_camera import PassPaths
from cosmos_engine.interop.import_config import ImportConfig

_FORMAT = DemoFormat(
    name="isaaclab",
    passes=PassPaths(
        "obs/{}",
        "obs/{}_depth",
        ("obs/{}_segmentation", "obs/{}_semantic_segmentation", "obs/{}_instance_segmentation"),
    ),
    image_suffix="",
    no_image=("_segmentation", "_depth", "_normals"),
    nested_states=True,
)
_STYLE = ExportStyle(
    name="isaaclab", image="{}", depth="{}_depth", segmentation="{}_segmentation", colored=True, nested_states=True
)


def import_isaaclab(file: Path, out: Path, config: ImportConfig) -> Imported:
    """Write every demo of an Isaac Lab file to the recording `out`, or go on where an earlier call was stopped.

    Raises:
        InputError: a camera lacks depth, segmentation, intrinsics or a pose, a colour has no label, or the file has no
            rate or outcome; names the first thing that is missing, and how to supply it.
    """
    return import_demos(file, out, config, _FORMAT)


def export_isaaclab(source: Path, out: Path, recording: Path | None, options: ExportOptions) -> int:
    """Write a dataset or a recording as one file for Isaac Lab and robomimic's training; return its demos.

    Raises:
        InputError: `source` is neither, `recording` is not the one it was made from, `out` exists, or the file
            system refuses.
    """
    return export_demos(source, out, recording, options, _STYLE)
