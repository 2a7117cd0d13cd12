"""robomimic: HDF5 with `obs/<camera>_image`, one file; imported, and exported with its masks."""

from __future__ import annotations

from pathlib import Path

from cosmos_engine.interop.demo_export import ExportOptions, ExportStyle, export_demos
from cosmos_engine.interop.demo_import import DemoFormat, Imported, import_demos
from cosmos_engine.interop.foreign_camera import PassPaths
from cosmos_engine.interop.import_config import ImportConfig

# robosuite's names of its segmentation sensors; an engine's own recording has _instance.
_SEGMENTATIONS = ("_instance", "_segmentation_instance", "_segmentation_element", "_segmentation_class")

_FORMAT = DemoFormat(
    name="robomimic",
    passes=PassPaths("obs/{}_image", "obs/{}_depth", tuple(f"obs/{{}}{suffix}" for suffix in _SEGMENTATIONS)),
    image_suffix="_image",
    no_image=(),
    nested_states=False,
)
_STYLE = ExportStyle(
    name="robomimic", image="{}_image", depth="{}_depth", segmentation="{}_instance", colored=False, nested_states=False
)


def import_robomimic(file: Path, out: Path, config: ImportConfig) -> Imported:
    """Write every demo of a robomimic file to the recording `out`, or go on where an earlier call was stopped.

    Raises:
        InputError: a camera lacks depth, segmentation, intrinsics or a pose, or the file a rate or an outcome; names
            the first thing that is missing, and how to supply it.
    """
    return import_demos(file, out, config, _FORMAT)


def export_robomimic(source: Path, out: Path, recording: Path | None, options: ExportOptions) -> int:
    """Write a dataset or a recording as one robomimic file with the masks `train` and `valid`; return its demos.

    Raises:
        InputError: `source` is neither, `recording` is not the one it was made from, `out` exists, or the file
            system refuses.
    """
    return export_demos(source, out, recording, options, _STYLE)
